"""Tables of the page, as cells."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mtl_jax.analysis.curves import Frame
from mtl_jax.objectives.measure import Measure
from mtl_jax.report.charts import Look
from mtl_jax.report.charts.labels import label
from mtl_jax.report.findings import HEADLINE, Findings
from mtl_jax.report.text import DASH, MINUS, Cell, effect, fixed, interval

MOST_CANDIDATES = 40
"""Up to which all are shown; of more, those that were chosen."""


class Table(NamedTuple):
    """A table with its heading and what must be known to read it."""

    id: str
    title: str
    head: list[str]
    rows: list[list[Cell]]
    note: str = ""


def tasks(findings: Findings, looks: Mapping[str, Look]) -> Table:
    """Tabulate tasks x variants: ST, MT, their difference, its interval, and seeds."""
    others = list(findings.versus)
    alone = [v for v in findings.variants if v not in others]
    head = ["task", "test value", *(looks[v].label for v in alone)]
    for variant in others:
        head += [looks[variant].label, "difference, + is MT better"]
    rows, means, names = [], findings.at_best, []
    if len(means):
        names = [name for name in means["name"].unique() if name != "loss"] + ["loss"]
        groups = means.groupby(["task", "name", "variant"])["value"]
        means = groups.agg(["mean", "size"])
    transfers = {
        (row["task"], row["name"], row["variant"]): row
        for row in findings.transfer.to_dict("records")
    }
    for task in findings.tasks:
        for name in names:
            if (task, name) not in means.index.droplevel("variant"):
                continue
            measure = findings.table.measure(name)
            row = [Cell(task), Cell(label(name, measure))]
            row += [_mean(means, task, name, v, measure) for v in alone]
            for variant in others:
                row.append(_mean(means, task, name, variant, measure))
                row.append(_difference(transfers, task, name, variant, measure))
            rows.append(row)
    note = (
        "Each value at its best validation point, mean over n seeds. Differences are "
        "MT minus ST, turned where less is better, so + always means MT better, in the "
        "unit of the value (of %: percentage points); in brackets 95% t intervals, "
        "paired by seed."
    )
    return Table("tasks", "Tasks and variants", head, rows, note)


def _mean(means: Frame, task: str, name: str, variant: str, measure: Measure) -> Cell:
    if (task, name, variant) not in means.index:
        return Cell(DASH, f"no test {name}")
    mean, size = means.loc[(task, name, variant)]
    if not math.isfinite(mean):
        return Cell(DASH, "not finite")
    return Cell(fixed(measure.factor * mean, measure.digits), f"n = {int(size)}")


def _difference(
    transfers: Mapping[tuple, Mapping[str, Any]],
    task: str,
    name: str,
    variant: str,
    measure: Measure,
) -> Cell:
    if not transfers:
        return Cell(DASH, "no test values")
    row = transfers.get((task, name, variant))
    if row is None:
        return Cell(DASH, f"no test {name}")
    value, low, high = (
        measure.factor * row[end] for end in ("difference", "low", "high")
    )
    return effect(value, low, high, measure.digits, row["reason"])


def delta_m(findings: Findings, looks: Mapping[str, Look]) -> Table:
    """Tabulate Delta_m of every variant, and of the optimizers against the sum."""
    rows = []
    for frame in (findings.delta_m, findings.delta_m_of_sum):
        for _, row in frame.iterrows():
            reason = row["reason"]
            reason = reason if row["comparable"] else f"not comparable: {reason}"
            rows.append(
                [
                    Cell(row["variant"], color=looks[row["variant"]].color),
                    Cell(row["baseline"]),
                    effect(row["delta_m"], row["low"], row["high"], 2, reason),
                    Cell(f"{row['st_seeds']}, {row['mt_seeds']}"),
                    Cell(f"{row['st_diverged']}, {row['mt_diverged']}"),
                ]
            )
    head = ["variant", "against", "Δm (%), + is better", "seeds", "diverged curves"]
    note = (
        "Relative change of test scores in percent, averaged over the scores of a task "
        "first, then over tasks (Maninis et al., 2019); + is better (others use the "
        "opposite sign); 95% t intervals over seeds, paired, variances moderated over "
        "variants. Counts: baseline, variant."
    )
    return Table("delta-m", "Δm", head, rows, note)


def fronts(findings: Findings, looks: Mapping[str, Look]) -> Table:
    """Tabulate the hypervolume of every family of preferences."""
    del looks
    rows = []
    for _, row in findings.fronts.iterrows():
        text, ends = fixed(row["volume"], 4), interval(row["low"], row["high"], 4)
        rows.append(
            [
                Cell(row["family"]),
                Cell(str(row["preferences"])),
                Cell(text, row["reason"] or ends),
                Cell(f"{row['undominated']:.1f}"),
                Cell(str(row["seeds"])),
            ]
        )
    head = ["variants", "preferences", "hypervolume", "undominated, mean", "seeds"]
    note = (
        "Test losses at the end, divided by those before the first step: share of the "
        "cube from 0 to 1 that one of the preferences is at least as good as; + is "
        "better, 1 where all losses are 0. In brackets 95% t intervals over seeds."
    )
    return Table("fronts", "Preferences", head, rows, note)


def gaps(findings: Findings, looks: Mapping[str, Look]) -> Table:
    """Tabulate the generalization gap early and late, task by task and over tasks."""
    head = ["variant", "task", "mean gap", "early third", "late third", "opens at"]
    head += ["seeds"]
    rows = []
    for variant, versus in findings.versus.items():
        for (task,), summary in _groups(versus.gap_summary, ["task"]):
            by = summary.drop_duplicates("statistic").set_index("statistic")
            first = by.iloc[0]
            name = task or f"mean over {int(first['tasks'])} tasks"
            row = [Cell(variant, color=looks[variant].color), Cell(name)]
            if not first["comparable"]:
                reason = f"not comparable: {first['reason']}"
                row += [Cell(DASH, reason), *[Cell(DASH)] * 3]
            else:
                for statistic in ("mean", "early", "late"):
                    o = by.loc[statistic]
                    row.append(effect(o["value"], o["low"], o["high"], 3))
                row.append(_opens(first))
            rows.append([*row, Cell(str(int(first["seeds"])))])
    note = (
        "G = test loss of MT minus that of ST at the same training loss, in nats: + is "
        "MT worse; of the part in which a gap must be there to be early and to last, "
        "all, the first and the last third. In brackets 95% t intervals over seeds, "
        "variances moderated over tasks. Opens at: the loss from which on the band of "
        "the whole curve leaves 0 out."
    )
    return Table(
        "gaps", "Generalization gap at matched training loss", head, rows, note
    )


def _opens(row: Frame) -> Cell:
    """Tell the training loss at which a gap opens, with MT's step and epoch."""
    if not math.isfinite(row["opens_at"]):
        return Cell(DASH, "it does not" * bool(row["task"]))
    when = f"step {row['opens_step']:.0f}, epoch {row['opens_epoch']:.3g}"
    return Cell(f"{row['opens_at']:.3g}", when)


def _share(row: Frame, reason: str) -> Cell:
    if not math.isfinite(row["value"]):
        return Cell(DASH, row["reason"] or reason)
    ends = interval(100 * row["low"], 100 * row["high"], 0) or "no interval"
    return Cell(f"{row['value']:.0%}", ends)


STATISTICS = ("spearman", "kendall", "sign_agreement")
STATISTIC_HEAD = ["Spearman ρ", "Kendall τ", "same sign"]
COUNT_HEAD = ["tasks", "missing"]


def factors(table: Frame, looks: Mapping[str, Look]) -> Table:
    """Tabulate the correlation of the gap with every factor's contrast."""
    settings = len(table) and table["setting"].nunique() > 1
    head = ["setting"] * bool(settings) + ["variant", "factor"]
    if len(table):
        order = {name: place for place, name in enumerate(HEADLINE)}
        table = table.sort_values(
            "factor", key=lambda names: names.map(order).fillna(len(order)),
            kind="stable",
        )  # fmt: skip
    rows = [
        [*[Cell(setting or "mean over settings")] * bool(settings),
         Cell(variant, color=looks[variant].color),
         Cell(factor.replace("_", " "), kind), *_statistics(statistics)]
        for (variant, factor, kind, setting), statistics in _groups(
            table, ["variant", "factor", "kind", "setting"])
    ]  # fmt: skip
    note = (
        "Each factor's contrast, MT against ST at the same training loss, with the gap "
        "G there, over tasks (their means over seeds and bins), with Fisher's 95% "
        "interval. ρ > 0: more of the factor in MT goes with a worse MT."
    )
    return Table(
        "correlations",
        "Do factors explain the gap?",
        [*head, *STATISTIC_HEAD, *COUNT_HEAD],
        rows,
        note,
    )


def conflict(tables: list[Frame], looks: Mapping[str, Look]) -> Table:
    """Tabulate correlations of conflict with effects on optimization and transfer."""
    names = ["effect on optimization, D", "transfer", "D, step by step"]
    several = any(len(t) and t["setting"].nunique() > 1 for t in tables)
    head = ["setting"] * several + ["variant", "conflict with"]
    rows = [
        [*[Cell(setting or "mean over settings")] * several,
         Cell(variant, color=looks[variant].color), Cell(name),
         *_statistics(statistics)]
        for name, table in zip(names, tables, strict=True)
        for (variant, setting), statistics in _groups(table, ["variant", "setting"])
    ]  # fmt: skip
    note = (
        "Conflict of a task: minus the mean cosine of its gradient (trunk) with those "
        "of the others. D: training loss MT − ST at equal step (nats, + is MT worse). "
        "Transfer: + is MT better. C3 expects ρ > 0 with D, and about 0 with transfer."
    )
    title = "Does conflict explain optimization or transfer?"
    head = [*head, *STATISTIC_HEAD, *COUNT_HEAD]
    return Table("conflict-correlations", title, head, rows, note)


def _groups(table: Frame, keys: list[str]) -> Iterator:
    return iter(table.groupby(keys, sort=False)) if len(table) else iter(())


def _statistics(rows: Frame) -> list[Cell]:
    by = rows.set_index("statistic")
    cells = []
    for name in STATISTICS:
        row = by.loc[name]
        if not math.isfinite(row["value"]):
            cells.append(Cell(DASH, f"not comparable: {row['reason']}"))
        elif name.startswith("sign"):
            cells.append(_share(row, ""))
        else:
            cells.append(effect(row["value"], row["low"], row["high"], 2))
    first = by.iloc[0]
    return [*cells, *(Cell(f"{int(first[c]):,}") for c in COUNT_HEAD)]


def candidates(findings: Findings, looks: Mapping[str, Look]) -> Table:
    """Tabulate learning rates and batch sizes that were tried, and mark the chosen."""
    table = findings.choice.candidates
    all_shown = len(table) <= MOST_CANDIDATES
    shown = table if all_shown else findings.choice.chosen
    with_options = bool((table["options"] != "").any())
    rows = []
    for _, row in shown.iterrows():
        value = Cell(DASH, "no value before divergence")
        if math.isfinite(row["validation"]):
            measure = findings.table.measure(row["by"])
            number = fixed(measure.factor * row["validation"], measure.digits)
            value = Cell(number, label(row["by"], measure))
        edge = "at the edge of the grid" * bool(row["at_edge"])
        rows.append(
            [
                Cell(row["variant"], color=looks[row["variant"]].color),
                Cell(row["task"] or "all"),
                _rate(row["learning_rate"]),
                Cell(str(row["batch_size"])),
                *[Cell(row["options"] or DASH)] * with_options,
                value,
                Cell(f"{row['diverged']} of {row['runs']}"),
                Cell("chosen", edge) if row["chosen"] else Cell(""),
            ]
        )
    head = ["variant", "task", "learning rate", "batch size"]
    head += ["options"] * with_options
    head += ["best validation", "diverged runs", "choice"]
    note = f"Everything on this page is of what was chosen. {findings.choice.rule}"
    if not all_shown:
        rest = "; candidates.csv in the workdir holds all" * findings.choice.swept
        note = f"Of {len(table):,} candidates the chosen ones{rest}. {note}"
    return Table("candidates", "Candidates", head, rows, note)


def diverged(findings: Findings, looks: Mapping[str, Look]) -> Table:
    """Tabulate runs that diverged, at all rates of the workdir."""
    rows = [
        [
            Cell(row["variant"], color=looks[row["variant"]].color),
            Cell(str(row["seed"])),
            _rate(row["learning_rate"]),
            Cell(str(row["batch_size"])),
            Cell(row["tasks"]),
            Cell(f"{row['step']:,}"),
        ]
        for _, row in findings.diverged.iterrows()
    ]
    head = ["variant", "seed", "learning rate", "batch size", "tasks", "step"]
    note = "Frozen from that step on; they are drawn up to a cross and in no gap."
    if findings.choice.swept:
        note += " Runs of the sweep are not here but counted among the candidates."
    return Table("diverged", "Runs that diverged", head, rows, note)


def _rate(value: float) -> Cell:
    return Cell(f"{value:g}".replace("-", MINUS))
