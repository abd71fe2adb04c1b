"""Summary of a page: a few plain sentences with numbers and intervals."""

import math
from collections.abc import Sequence

import numpy as np

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.variant import MERGED
from mtl_jax.report.charts import bundle
from mtl_jax.report.findings import BASELINE, HEADLINE, Findings
from mtl_jax.report.text import counted, estimate, excludes_zero, fixed


def summary(
    findings: Findings, of_factors: Frame, of_conflict: Sequence[Frame]
) -> list[str]:
    """Write sentences on C1 to C4: gap, transfer, factors, conflict, optimizers.

    Args:
      found: of the setting.
      of_factors: correlations of the gap with contrasts.
      of_conflict: correlations of conflict with the effect and with transfer.
    """
    if not findings.versus:
        return [_no_comparison(findings), _conflict(findings, [])]
    said = [_gap(findings), _transfer(findings), _factors(findings, of_factors)]
    return [*said, _conflict(findings, of_conflict), *_optimizers(findings)]


def _no_comparison(findings: Findings) -> str:
    if BASELINE in findings.variants:
        return (
            f"Only {BASELINE!r} was trained: there is no multi-task variant to compare "
            f"it with, so neither gap nor transfer is shown."
        )
    return (
        f"There is no {BASELINE!r} variant (ST) in this workdir, so neither gap nor "
        f"transfer can be measured: nothing here is comparable with training alone."
    )


def _gap(findings: Findings) -> str:
    trained = [v for v in findings.versus if not v.startswith(MERGED)]
    parts = [_gap_of(findings, variant) for variant in trained]
    return (
        f"Gap (C1), test loss of MT minus that of ST at the same training loss, mean "
        f"over tasks, + is MT worse: {'; '.join(parts)}."
    )


def _gap_of(findings: Findings, variant: str) -> str:
    gaps = findings.versus[variant].gap_summary
    if not len(gaps):
        return f"{variant} not comparable (no test loss was recorded)"
    mean = gaps[gaps["task"] == ""].set_index("statistic")
    if not mean["comparable"].any():
        reason = gaps[gaps["task"] != ""]["reason"].iloc[0]
        count = counted(len(findings.tasks), "task")
        return f"{variant} not comparable in any of {count} ({reason})"
    whole, early, late = (mean.loc[name] for name in ("mean", "early", "late"))
    tasks = int(whole["tasks"])
    text = (
        f"{variant} {_estimate(whole)} nats{_zero(whole)}, early third "
        f"{_estimate(early)}, late third {_estimate(late)}{_opens(gaps)}"
    )
    if int(whole["seeds"]) < 2:
        text += ", no interval: with one seed nothing is known of others"
    if tasks < len(findings.tasks):
        text += f", {len(findings.tasks) - tasks} of {len(findings.tasks)} tasks "
        text += "not comparable"
    return text


def _opens(gaps: Frame) -> str:
    """Tell where the gap opens: of one task exactly, of several how many and from."""
    tasks = gaps[(gaps["task"] != "") & (gaps["statistic"] == "mean")]
    open_ = tasks[tasks["opens_at"].notna()].sort_values("opens_at")
    if not len(open_):
        return ", opens (for good, beyond its band) in no task"
    first, last = open_.iloc[-1], open_.iloc[0]

    def at(row: Frame) -> str:
        return (
            f"{row['opens_at']:.3g} (step {row['opens_step']:.0f}, epoch "
            f"{row['opens_epoch']:.3g})"
        )

    where = at(first) if len(open_) == 1 else f"{at(first)} to {at(last)}"
    return (
        f", opens in {len(open_)} of {len(tasks)} tasks at a training loss of {where}"
    )


def _transfer(findings: Findings) -> str:
    parts = [_transfer_of(findings, row) for _, row in findings.delta_m.iterrows()]
    if not parts:
        return "Transfer: not comparable (no test values at best-validation points)."
    return (
        f"Transfer, relative change of test scores Δm, + is MT better: "
        f"{'; '.join(parts)}."
    )


def _transfer_of(findings: Findings, row: Frame) -> str:
    if not row["comparable"]:
        return f"{row['variant']} not comparable ({row['reason']})"
    rows = findings.transfer[findings.transfer["variant"] == row["variant"]]
    names = [findings.scores.get(task, "loss") for task in rows["task"]]
    rows = rows[rows["name"] == names]
    better, worse = (rows["low"] > 0).sum(), (rows["high"] < 0).sum()
    text = f"{row['variant']} {_estimate(row, 2, 'delta_m')} %{_zero(row)}"
    if rows["low"].notna().any():
        text += (
            f", by intervals without 0 better in {better} and worse in {worse} of "
            f"{counted(len(rows), 'task')}"
        )
    lost = row["st_diverged"] + row["mt_diverged"]
    if lost:
        text += f", {counted(int(lost), 'curve')} diverged and count with what came "
        text += "before"
    return text


def _factors(findings: Findings, table: Frame) -> str:
    if not len(table):
        return "No factor of a task was recorded in both ST and MT (C2 is open)."
    of_setting = table[table["setting"] == findings.setting]
    parts = [
        _factors_of(str(variant), rows)
        for variant, rows in of_setting.groupby("variant", sort=False)
    ]
    return (
        f"Factors (C2), Spearman's ρ over tasks of their contrast with the gap, MT "
        f"against ST at the same training loss: {'; '.join(parts)}."
    )


def _factors_of(variant: str, table: Frame) -> str:
    rows = table[table["statistic"] == "spearman"]
    defined = rows[rows["value"].notna()]
    if not len(defined):
        return f"{variant} not comparable ({rows['reason'].iloc[0]})"
    by = rows.set_index("factor")
    names = [name for name in HEADLINE if name in by.index] or list(by.index[:4])
    said = [
        f"{_words(name)} {_estimate(by.loc[name], 2)}"
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


def _conflict(findings: Findings, tables: Sequence[Frame]) -> str:
    parts = []
    for variant in findings.variants:
        of = bundle(findings.table, "probe", "mean_cosine", "", variant, "shared")
        there = np.isfinite(of.mean)
        if there.any():
            first, last = (of.mean[there][end] for end in (0, -1))
            said = [f"mean cosine {fixed(first, 2)} at first, {fixed(last, 2)} at last"]
            for table, what in zip(tables, ("D", "transfer"), strict=False):
                said += _correlation(table, findings.setting, variant, what)
            where = (
                findings.run_cell(variant) if len(findings.cells[variant]) > 1 else ""
            )
            at = f" (its runs at {where})" * bool(where)
            parts.append(f"{variant}{at} {', '.join(said)}")
    if not parts:
        return "No conflict between task gradients was recorded (C3 is open)."
    meaning = "; D is training loss MT − ST at equal step" * bool(tables)
    return f"Conflict of task gradients (C3{meaning}): {'; '.join(parts)}."


def _correlation(table: Frame, setting: str, variant: str, what: str) -> list[str]:
    if not len(table):
        return []
    rows = table[(table["setting"] == setting) & (table["variant"] == variant)]
    rows = rows[rows["statistic"] == "spearman"]
    if not len(rows):
        return []
    row = rows.iloc[0]
    if not math.isfinite(row["value"]):
        return [f"with {what} not comparable ({row['reason']})"]
    return [f"ρ of conflict with {what} {_estimate(row, 2)}"]


def _optimizers(findings: Findings) -> list[str]:
    parts = [
        f"{row['variant']} {_estimate(row, 2, 'delta_m')} %{_zero(row)}"
        if row["comparable"]
        else f"{row['variant']} not comparable ({row['reason']})"
        for _, row in findings.delta_m_of_sum.iterrows()
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
    """Tell in words where the interval says only how large the effect may be."""
    if not math.isfinite(row["low"]) or excludes_zero(row["low"], row["high"]):
        return ""
    return " (0 is inside)"


def _words(name: str) -> str:
    return name.replace("_", " ")
