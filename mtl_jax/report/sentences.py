"""What a page says first: a few plain sentences with numbers and intervals."""

import math
from collections.abc import Sequence

import numpy as np

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.findings import BASELINE, HEADLINE, Findings
from mtl_jax.report.plots.bundle import bundle
from mtl_jax.report.text import counted, estimate, excludes_zero, fixed


def summary(
    found: Findings, of_factors: Frame, of_conflict: Sequence[Frame]
) -> list[str]:
    """Sentences on C1 to C4: gap, transfer, factors, conflict, optimizers.

    Args:
      found: of the setting.
      of_factors: correlations of the gap with contrasts.
      of_conflict: correlations of conflict with the effect and with transfer.
    """
    if not found.versus:
        return [_no_comparison(found), _conflict(found, [])]
    said = [_gap(found), _transfer(found), _factors(found, of_factors)]
    return [*said, _conflict(found, of_conflict), *_optimizers(found)]


def _no_comparison(found: Findings) -> str:
    if BASELINE in found.variants:
        return (
            f"Only {BASELINE!r} was trained: there is no multi-task variant to compare "
            f"it with, so neither gap nor transfer is shown."
        )
    return (
        f"There is no {BASELINE!r} variant (ST) in this workdir, so neither gap nor "
        f"transfer can be measured: nothing here is comparable with training alone."
    )


def _gap(found: Findings) -> str:
    parts = [_gap_of(found, variant) for variant in found.versus]
    return (
        f"Gap (C1), test loss of MT minus that of ST at the same training loss, mean "
        f"over tasks, + is MT worse: {'; '.join(parts)}."
    )


def _gap_of(found: Findings, variant: str) -> str:
    own = found.versus[variant].gap_summary
    if not len(own):
        return f"{variant} not comparable (no test loss was recorded)"
    mean = own[own["task"] == ""].set_index("statistic")
    if not mean["comparable"].any():
        reason = own[own["task"] != ""]["reason"].iloc[0]
        count = counted(len(found.tasks), "task")
        return f"{variant} not comparable in any of {count} ({reason})"
    one, early, late = (mean.loc[name] for name in ("mean", "early", "late"))
    tasks, agree = int(one["tasks"]), mean.loc["sign_agreement"]["value"]
    text = (
        f"{variant} {_estimate(one)} nats{_zero(one)}, early third {_estimate(early)}, "
        f"late third {_estimate(late)}"
    )
    if math.isfinite(agree):
        text += f", the same sign early and late in {agree:.0%} of seed pairs"
    if one["clusters"] == "tasks":
        text += ", intervals over tasks alone: with one seed nothing is known of others"
    if tasks < len(found.tasks):
        text += f", {len(found.tasks) - tasks} of {len(found.tasks)} tasks "
        text += "not comparable"
    return text


def _transfer(found: Findings) -> str:
    parts = [_transfer_of(found, row) for _, row in found.delta_m.iterrows()]
    if not parts:
        return "Transfer: not comparable (no test values at best-validation points)."
    return (
        f"Transfer, relative change of test scores Δm, + is MT better: "
        f"{'; '.join(parts)}."
    )


def _transfer_of(found: Findings, row: Frame) -> str:
    if not row["comparable"]:
        return f"{row['variant']} not comparable ({row['reason']})"
    own = found.transfer[found.transfer["variant"] == row["variant"]]
    names = [found.scores.get(task, "loss") for task in own["task"]]
    own = own[own["name"] == names]
    better, worse = (own["low"] > 0).sum(), (own["high"] < 0).sum()
    text = f"{row['variant']} {_estimate(row, 2, 'delta_m')} %{_zero(row)}"
    if own["low"].notna().any():
        text += (
            f", by intervals without 0 better in {better} and worse in {worse} of "
            f"{counted(len(own), 'task')}"
        )
    lost = row["st_diverged"] + row["mt_diverged"]
    if lost:
        text += f", {counted(int(lost), 'curve')} diverged and count with what came "
        text += "before"
    return text


def _factors(found: Findings, table: Frame) -> str:
    if not len(table):
        return "No factor of a task was recorded in both ST and MT (C2 is open)."
    own = table[table["setting"] == found.setting]
    parts = [
        _factors_of(str(variant), rows)
        for variant, rows in own.groupby("variant", sort=False)
    ]
    return (
        f"Factors (C2), Spearman's ρ of their contrast with the gap, MT against ST at "
        f"the same training loss, and how many means of a task's run have the gap's "
        f"sign: {'; '.join(parts)}."
    )


def _factors_of(variant: str, table: Frame) -> str:
    rows = table[table["statistic"] == "spearman"]
    defined = rows[rows["value"].notna()]
    if not len(defined):
        return f"{variant} not comparable ({rows['reason'].iloc[0]})"
    by = rows.set_index("factor")
    signs = table[table["statistic"] == "sign_agreement_of_means"].set_index("factor")
    names = [name for name in HEADLINE if name in by.index] or list(by.index[:4])
    said = [
        f"{_words(name)} {_estimate(by.loc[name], 2)}{_signs(signs, name)}"
        if math.isfinite(by.loc[name]["value"])
        else f"{_words(name)} not comparable"
        for name in names
    ]
    sure = sum(
        excludes_zero(low, high)
        for low, high in zip(rows["low"], rows["high"], strict=True)
    )
    return (
        f"{variant} {', '.join(said)} (of {counted(len(rows), 'factor')} {sure} with "
        f"an interval without 0)"
    )


def _signs(signs: Frame, name: str) -> str:
    """``, 2 of 9``; empty where nothing is known."""
    if name not in signs.index or not math.isfinite(signs.loc[name]["value"]):
        return ""
    count = int(signs.loc[name]["observations"])
    return f" and {round(signs.loc[name]['value'] * count)} of {count}"


def _conflict(found: Findings, tables: Sequence[Frame]) -> str:
    parts = []
    for variant in found.variants:
        of = bundle(found.table, "probe", "mean_cosine", "", variant, "shared")
        there = np.isfinite(of.mean)
        if there.any():
            first, last = (of.mean[there][end] for end in (0, -1))
            said = [f"mean cosine {fixed(first, 2)} at first, {fixed(last, 2)} at last"]
            for table, what in zip(tables, ("D", "transfer"), strict=False):
                said += _correlation(table, found.setting, variant, what)
            where = found.run_cell(variant) if len(found.cells[variant]) > 1 else ""
            at = f" (its runs at {where})" * bool(where)
            parts.append(f"{variant}{at} {', '.join(said)}")
    if not parts:
        return "No conflict between task gradients was recorded (C3 is open)."
    meaning = "; D is training loss MT − ST at equal step" * bool(tables)
    return f"Conflict of task gradients (C3{meaning}): {'; '.join(parts)}."


def _correlation(table: Frame, setting: str, variant: str, what: str) -> list[str]:
    if not len(table):
        return []
    own = table[(table["setting"] == setting) & (table["variant"] == variant)]
    own = own[own["statistic"] == "spearman"]
    if not len(own):
        return []
    row = own.iloc[0]
    if not math.isfinite(row["value"]):
        return [f"with {what} not comparable ({row['reason']})"]
    return [f"ρ of conflict with {what} {_estimate(row, 2)}"]


def _optimizers(found: Findings) -> list[str]:
    parts = [
        f"{row['variant']} {_estimate(row, 2, 'delta_m')} %{_zero(row)}"
        if row["comparable"]
        else f"{row['variant']} not comparable ({row['reason']})"
        for _, row in found.delta_m_of_sum.iterrows()
    ]
    if not parts:
        return []
    return [
        f"Multi-task optimizers (C4), Δm against the plain sum, + is better than "
        f"'multi': {'; '.join(parts)}."
    ]


def _estimate(row: Frame, digits: int = 3, name: str = "value") -> str:
    return estimate(row[name], row["low"], row["high"], digits)


def _zero(row: Frame) -> str:
    """Whether the interval says more than how large the effect may be."""
    if not math.isfinite(row["low"]) or excludes_zero(row["low"], row["high"]):
        return ""
    return " (0 is inside)"


def _words(name: str) -> str:
    return name.replace("_", " ")
