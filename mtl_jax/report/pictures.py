"""Pictures of a setting: what each shows, in words and in panels."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.objectives.measure import LOSS, Measure
from mtl_jax.report import (
    charts,
    conflict_pictures,
    factor_pictures,
    front_pictures,
    group_pictures,
)
from mtl_jax.report.against_loss import LOSS_AXIS, against_loss, matched_means
from mtl_jax.report.captions import lines, selection
from mtl_jax.report.charts import Axis, Panel, Picture, bundle, rows
from mtl_jax.report.charts.labels import (
    difference,
    label,
    short,
    spans,
)
from mtl_jax.report.findings import (
    MOST_TASKS,
    Findings,
)
from mtl_jax.report.text import counted, throughput

Looks = Mapping[str, charts.Look]
MEAN = "mean over tasks"


def pictures(
    findings: Findings, looks: Looks, correlations: tuple
) -> Iterator[Picture]:
    """Yield the pictures that have something to show, in the order of the page.

    Args:
      findings: of one setting.
      looks: of all variants of the page.
      correlations: of `findings.correlations`.
    """
    shown = {variant: looks[variant] for variant in findings.variants}
    yield _gap(findings, shown)
    if findings.versus:
        yield from _effects(findings, shown)
    yield from _ranking(findings, shown)
    yield from front_pictures.fronts(findings)
    yield from group_pictures.pairs(findings)
    yield _learning(findings, shown)
    yield from factor_pictures.factors(findings, shown)
    yield from factor_pictures.contrasts(findings, shown, correlations[0])
    yield from conflict_pictures.conflict(findings, shown)
    yield from conflict_pictures.weights(findings, shown)
    yield from conflict_pictures.conflict_effects(findings, shown, correlations[1:])
    yield from _costs(findings)


def costs(findings: Findings) -> dict[str, float]:
    """Sum seconds by what they went into, over all sessions, longest first."""
    total: dict[str, float] = {}
    for session in findings.sessions:
        for name, seconds in session.get("seconds", {}).items():
            total[name] = total.get(name, 0.0) + seconds
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _costs(findings: Findings) -> Iterator[Picture]:
    seconds = costs(findings)
    if not seconds:
        return
    whole = sum(seconds.values()) or 1
    table = pd.DataFrame(
        [
            (name.replace("_", " "), value, f"{value:,.1f} s, {value / whole:.0%}")
            for name, value in seconds.items()
        ],
        columns=["name", "value", "text"],
    )
    text = f"Wall time, summed over {counted(len(findings.sessions), 'session')}."
    text += " The sweep is not in it." * findings.choice.swept
    rates = findings.sessions[-1].get("throughput")
    if rates:
        text += f" Last session, {throughput(rates)}."
    panel = charts.bars("", table, "wall time (s), all sessions")
    yield Picture("costs", "Where the time went", text, [panel], {}, columns=1)


def _learning(findings: Findings, looks: Looks) -> Picture:
    shown = findings.shown(MOST_TASKS)
    groups = [(short(task), [task]) for task in shown]
    if len(findings.tasks) > 1:
        title = f"mean over {counted(len(findings.tasks), 'task')}"
        groups.insert(0, (title, findings.tasks))
    kinds = [("probe", "loss"), ("test", "loss")]
    kinds += [("test", "score")] * bool(findings.scores)
    panels = [
        _over_steps(findings, looks, title, tasks, split, kind)
        for title, tasks in groups
        for split, kind in kinds
    ]
    text = (
        f"Training loss (on the fixed probe), test loss and test score over steps, "
        f"from step 0 (the axis is linear below 1). {lines(findings)} "
        f"{selection(findings, shown)}"
    )
    return Picture("learning", "Learning curves", text, panels, looks, len(kinds))


def _over_steps(
    findings: Findings,
    looks: Looks,
    title: str,
    tasks: Sequence[str],
    split: str,
    kind: str,
) -> Panel:
    """Values of a task, or means over several, over steps."""
    task = tasks[0] if len(tasks) == 1 else ""
    names = {findings.scores.get(t, "") if kind == "score" else "loss" for t in tasks}
    if len(names) > 1 or not all(names):
        note = "tasks with different scores" if len(names) > 1 else "no score"
        return charts.empty(title, note, task)
    (name,) = names
    measure, made = findings.table.measure(name), []
    for variant in looks:
        of = charts.mean_over(
            [bundle(findings.table, split, name, t, variant) for t in tasks]
        )
        if len(of.steps):
            made.append(rows.of_runs(of, variant, of.steps, factor=measure.factor))
            made.append(rows.of_mean(of, variant, factor=measure.factor))
    table = rows.joined(made)
    part = "training" if split == "probe" else split
    scale = "log" if kind == "loss" and spans(table["y"].to_numpy(float)) else "linear"
    return charts.curves(
        title,
        table,
        charts.steps(findings.table.step.max()),
        Axis(f"{part} {label(name, measure)}", scale),
        looks,
        task=task,
    )


def _gap(findings: Findings, looks: Looks) -> Picture:
    shown = findings.shown(MOST_TASKS)
    compared = {
        v: versus
        for v, versus in findings.versus.items()
        if len(versus.gap) and len(versus.gap_curve)
    }
    kinds = ["loss"] + ["score"] * bool(findings.scores) + ["gap"] * bool(compared)
    panels = [
        _gap_curve(task, looks, compared)
        if kind == "gap"
        else _matched(findings, looks, task, kind, compared)
        for task in shown
        for kind in kinds
    ]
    text = (
        "What a training loss is worth on test data. The axis of training loss is "
        "logarithmic and reversed, so training goes from left to right. Thin lines: "
        "every seed. "
    )
    if compared:
        text += (
            "Thick lines: means over seeds at the same training loss, inside the "
            "common range (nothing is extrapolated). Last: the gap with its 95% band "
            "over seeds; above 0 MT is worse. "
        )
    else:
        text += "There is nothing to compare with, so no gap is shown. "
    text += selection(findings, shown)
    title = "Test loss and score against training loss"
    return Picture("gap", title, text, panels, looks, len(kinds))


def _matched(
    findings: Findings, looks: Looks, task: str, kind: str, compared: Mapping
) -> Panel:
    """Test values of a task against its training loss, with matched means."""
    title, name = short(task), findings.scores.get(task, "")
    name = "loss" if kind == "loss" else name
    if not name:
        return charts.empty(title, "no score", task)
    measure, made = findings.table.measure(name), []
    for variant in looks:
        made.append(against_loss(findings, task, variant, ("test", name, ""), measure))
    means = {v: c.gap if kind == "loss" else c.score_gap for v, c in compared.items()}
    made += matched_means(means, task, measure.factor)
    table = rows.joined(made)
    scale = "log" if kind == "loss" and spans(table["y"].to_numpy(float)) else "linear"
    y = Axis(f"test {label(name, measure)}", scale)
    return charts.curves(title, table, LOSS_AXIS, y, looks, task=task)


def _gap_curve(task: str, looks: Looks, compared: Mapping) -> Panel:
    """Gap of a task at every training loss, with its band."""
    made, reasons = [], []
    for variant, versus in compared.items():
        curve = versus.gap_curve[versus.gap_curve["task"] == task]
        if not curve["comparable"].any():
            reasons += [f"{variant}: {reason}" for reason in curve["reason"].unique()]
            continue
        low, gap, high = (curve[end].to_numpy() for end in ("low", "gap", "high"))
        x = np.exp(curve["log_loss"].to_numpy())
        made.append(rows.line(variant, x, gap, low=low, high=high))
    note = f"not comparable: {'; '.join(reasons)}" if reasons else ""
    y = Axis("gap (nats), + is MT worse", zero=True)
    table = rows.joined(made)
    return charts.curves(short(task), table, LOSS_AXIS, y, looks, note=note, task=task)


def _effects(findings: Findings, looks: Looks) -> Iterator[Picture]:
    compared = {v: c for v, c in findings.versus.items() if len(c.gap_curve)}
    if not compared:
        return
    score = findings.shared_score
    score = score if all(len(c.score_curve) for c in compared.values()) else ""
    losses = {v: c.gap_curve for v, c in compared.items()}
    panels = [_mean_gap("generalization gap", "loss", LOSS, looks, losses)]
    if score:
        measure, title = findings.table.measure(score), "gap of the score"
        gaps = {v: c.score_curve for v, c in compared.items()}
        panels.append(_mean_gap(title, score, measure, looks, gaps))
    made, reasons = [], []
    for variant, versus in compared.items():
        effect = versus.optimization[versus.optimization["task"] == ""]
        steps = effect["step"].to_numpy(float)
        made += _band(effect, variant, steps, "effect", 1.0, reasons)
    y = Axis("training loss, MT − ST (nats)", zero=True)
    axis = charts.steps(findings.table.step.max())
    panels.append(
        charts.curves("optimization effect D", rows.joined(made), axis, y, looks,
                      note=_not_comparable(reasons))
    )  # fmt: skip
    text = (
        f"Means over {counted(len(findings.tasks), 'task')} with 95% intervals over "
        f"seeds. Left to right: the gap along the common range of "
        f"training losses, from the highest (0 %) to the lowest (100 %)"
        f"{'; the same for the score' * bool(score)}; D, the difference of training "
        f"losses at equal step (+ is MT worse optimised)."
    )
    compared_looks = {variant: looks[variant] for variant in compared}
    yield Picture("effects", "Effects over training", text, panels, compared_looks)
    effects = [
        ("generalization gap", "mean gap (nats), + MT worse", _mean_gaps(findings)),
        _transfers(findings),
    ]
    those = {variant: looks[variant] for variant in findings.versus}
    panels = [
        charts.intervals(title, table, axis_label, those)
        for title, axis_label, table in effects
        if len(table)
    ]
    text = (
        "Every task with its 95% t interval, paired by seed. Mind the signs: of the "
        "gap + is MT worse, of transfer + is MT better."
    )
    yield Picture("task-effects", "Effects task by task", text, panels, those, 2)


def _mean_gap(
    title: str,
    name: str,
    measure: Measure,
    looks: Looks,
    curves: Mapping[str, Frame],
) -> Panel:
    """Gap of the mean over tasks, along the common range of training losses."""
    made, reasons = [], []
    side = "worse" if name == "loss" else "better"
    size = measure._replace(unit=difference(measure))
    for variant, frame in curves.items():
        of_mean = frame[frame["task"] == ""]
        position = 100 * of_mean["bin"] / max(of_mean["bin"].max(), 1)
        x = position.to_numpy(float)
        made += _band(of_mean, variant, x, "gap", measure.factor, reasons)
    y = Axis(f"{label(f'{name} gap', size)}, + MT {side}", zero=True)
    x = Axis("way through common range (%)")
    note = _not_comparable(reasons)
    return charts.curves(title, rows.joined(made), x, y, looks, note=note)


def _band(
    table: Frame,
    variant: str,
    x: np.ndarray,
    name: str,
    factor: float,
    reasons: list[str],
) -> list[Frame]:
    """A mean with its interval; adds to the reasons where there is none."""
    if not table["comparable"].any():
        reasons += table["reason"].unique().tolist()
        return []
    low, y, high = (factor * table[end].to_numpy() for end in ("low", name, "high"))
    return [rows.line(variant, x, y, low=low, high=high)]


def _not_comparable(reasons: Sequence[str]) -> str:
    told = "; ".join(dict.fromkeys(reasons))
    return f"not comparable: {told}" if told else ""


def _mark(
    name: str, variant: str, ends: Sequence[float], reason: str, factor: float = 1.0
) -> tuple:
    """A row of `charts.intervals`: a number, or why there is none."""
    value, low, high = (factor * end for end in ends)
    if not reason and not math.isfinite(value):
        reason = "not defined"
    if reason:
        value = low = high = math.nan
    return name, variant, value, low, high, reason


def _marks(made: Sequence[tuple]) -> Frame:
    columns = ["name", "variant", "value", "low", "high", "reason"]
    return pd.DataFrame(made, columns=columns).assign(hollow=False)


def _ranking(findings: Findings, looks: Looks) -> Iterator[Picture]:
    variants = [v for v in findings.variants if v in findings.versus]
    if len(variants) < 2:
        return
    panels = []
    for frame in (findings.delta_m, findings.delta_m_of_sum):
        if len(frame):
            made = [
                _mark(
                    short(row["variant"]),
                    row["variant"],
                    (row["delta_m"], row["low"], row["high"]),
                    "" if row["comparable"] else row["reason"],
                )
                for _, row in frame.iterrows()
            ]
            title = f"Δm against {frame['baseline'].iloc[0]}"
            panels.append((title, "Δm (%), + is better", _marks(made)))
    gaps = _mean_gaps(findings)
    gaps = gaps[gaps["name"] == MEAN]
    if len(gaps):
        gaps = gaps.assign(name=[short(v) for v in gaps["variant"]])
        panels.append(("generalization gap", "mean gap (nats), + MT worse", gaps))
    if not panels:
        return
    order = panels[0][2].sort_values("value", ascending=False)["name"].tolist()
    drawn = [
        charts.intervals(title, _sorted(table, order), axis_label, looks)
        for title, axis_label, table in panels
    ]
    text = (
        f"All {len(variants)} MT variants, the best first, means over tasks with 95% "
        f"t intervals over seeds. {len(variants)} intervals are looked at together: "
        f"some will miss zero by chance, and variants whose intervals overlap widely "
        f"are not told apart."
    )
    yield Picture("ranking", "Multi-task optimizers compared", text, drawn, {}, 3)


def _sorted(table: Frame, order: list[str]) -> Frame:
    rank = {name: place for place, name in enumerate(order)}
    return table.sort_values(
        "name", key=lambda names: names.map(rank).fillna(len(rank)), kind="stable"
    )


def _mean_gaps(findings: Findings) -> Frame:
    """Mean gap of every task, and of all, for `charts.intervals`."""
    made = []
    for variant, versus in findings.versus.items():
        summary = versus.gap_summary
        if summary.empty:  # no test split was evaluated
            continue
        chosen = summary[(summary["statistic"] == "mean") | ~summary["comparable"]]
        for _, row in chosen.drop_duplicates("task").iterrows():
            ends = row["value"], row["low"], row["high"]
            reason = "" if row["comparable"] else row["reason"] or "not defined"
            made.append(_mark(short(row["task"]) or MEAN, variant, ends, reason))
    names = [*map(short, findings.tasks), MEAN]
    return _sorted(_marks(made), names)


def _transfers(findings: Findings) -> tuple[str, str, Frame]:
    """Transfer of each task's shown score: in points, or relative if units differ."""
    names = [findings.scores.get(task, "loss") for task in findings.tasks]
    units = {difference(findings.table.measure(name)) for name in names}
    relative = len(units) > 1 or units == {""}
    made = []
    for _, row in findings.transfer.iterrows():
        name = findings.scores.get(row["task"], "loss")
        if row["name"] == name:
            factor = findings.table.measure(name).factor
            if relative:
                factor = 100 / abs(row["st"]) if row["st"] else math.nan
            ends = row["difference"], row["low"], row["high"]
            reason = "" if row["comparable"] else row["reason"] or "not defined"
            task = short(row["task"])
            made.append(_mark(task, row["variant"], ends, reason, factor))
    axis_label = "% of ST" if relative else units.pop()
    title = "transfer (test score)"
    return title, f"MT − ST ({axis_label}), + better", _marks(made)
