"""Pictures of a setting: what each shows, in words and in panels."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.objectives.measure import LOSS, Measure
from mtl_jax.report import charts, cosines
from mtl_jax.report.captions import lines, rho, selection, whole_runs
from mtl_jax.report.charts import Axis, Panel, Picture, bundle, rows
from mtl_jax.report.charts.labels import (
    TRAINING_LOSS,
    difference,
    factor_label,
    label,
    short,
    spans,
)
from mtl_jax.report.charts.look import other
from mtl_jax.report.findings import (
    BASELINE,
    HEADLINE,
    MOST_FACTOR_TASKS,
    MOST_TASKS,
    Findings,
)
from mtl_jax.report.text import counted

Looks = Mapping[str, charts.Look]
LOSS_AXIS = Axis(TRAINING_LOSS, "log", reverse=True)
MEAN = "mean over tasks"
OF_RUN = {
    "mean_cosine": ("mean cosine of pairs", "cosine", 1),
    "negative_pairs": ("negative pairs", "pairs (%)", 100),
    "unit_mean": ("norm of the mean unit gradient", "norm (0 to 1)", 1),
}
"""Conflict of whole runs: title, label and factor."""


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
    yield _learning(findings, shown)
    yield from _factors(findings, shown)
    yield from _contrasts(findings, shown, correlations[0])
    yield from _conflict(findings, shown)
    yield from _weights(findings, shown)
    yield from _conflict_effects(findings, shown, correlations[1:])
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
        made.append(_against_loss(findings, task, variant, ("test", name, ""), measure))
    means = {v: c.gap if kind == "loss" else c.score_gap for v, c in compared.items()}
    made += _means(means, task, measure.factor)
    table = rows.joined(made)
    scale = "log" if kind == "loss" and spans(table["y"].to_numpy(float)) else "linear"
    y = Axis(f"test {label(name, measure)}", scale)
    return charts.curves(title, table, LOSS_AXIS, y, looks, task=task)


def _against_loss(
    findings: Findings,
    task: str,
    variant: str,
    what: tuple[str, str, str],
    measure: Measure,
) -> Frame:
    """Runs of a value, by split, name and scope, against the loss on the probe."""
    split, name, scope = what
    of = bundle(findings.table, split, name, task, variant, scope)
    probe = bundle(findings.table, "probe", "loss", task, variant)
    if of.values.shape != probe.values.shape or not of.values.size:
        return rows.joined([])
    x = np.where(probe.values > 0, probe.values, np.nan)
    return rows.of_runs(of, variant, x, factor=measure.factor)


def _means(frames: Mapping[str, Frame], task: str, factor: float) -> list[Frame]:
    """Means over seeds in bins of training loss, of MT and, once, of ST."""
    made, drawn = [], False
    for variant, frame in frames.items():
        if not len(frame):
            continue
        frame = frame[(frame["task"] == task) & frame["comparable"]]
        bins = frame.groupby("bin")[["log_loss", "st", "mt"]].mean()
        if not len(bins):
            continue
        x = np.exp(bins["log_loss"].to_numpy())
        made.append(rows.line(variant, x, factor * bins["mt"].to_numpy()))
        if not drawn:
            made.append(rows.line(BASELINE, x, factor * bins["st"].to_numpy()))
            drawn = True
    return made


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


def _weights(findings: Findings, looks: Looks) -> Iterator[Picture]:
    # Shares need the weights of all tasks in one run.
    whole = [v for v in findings.variants if len(findings.cells[v]) == 1]
    tasks = findings.tasks
    weighed = [v for v in whole if _is_weighed(findings, v)]
    if not weighed:
        return
    styles = {task: other(i)._replace(label=task) for i, task in enumerate(tasks)}
    panels = []
    for variant in weighed:
        bundles = [bundle(findings.table, "train", "weight", t, variant) for t in tasks]
        bundles = [of for of in bundles if of.values.size]
        total = np.sum([np.abs(of.values) for of in bundles], axis=0)
        made = []
        for task, of in zip(tasks, bundles, strict=False):
            share = of._replace(values=of.values / np.where(total > 0, total, np.nan))
            made.append(rows.of_runs(share, task, of.steps))
            made.append(rows.of_mean(share, task))
        table = rows.joined(made).rename(columns={"variant": "of task"})
        axis = charts.steps(findings.table.step.max())
        y = Axis("share of weight", zero=True)
        title = short(looks[variant].label)
        panels.append(charts.curves(title, table, axis, y, styles, by="of task"))
    apart = ", and those of which tasks have runs of their own" * (
        len(whole) < len(findings.variants)
    )
    text = (
        f"Share of each task in the weights of the latest update, by its size; thick: "
        f"mean over seeds. Equal shares are {1 / len(tasks):.2g}. Methods "
        f"whose weights never differ are left out{apart}."
    )
    yield Picture("weights", "Weights over training", text, panels, styles)


def _is_weighed(findings: Findings, variant: str) -> bool:
    """Tell whether a variant's weights were recorded and are not always alike."""
    recorded = [
        bundle(findings.table, "train", "weight", task, variant).values
        for task in findings.tasks
    ]
    values = [values for values in recorded if values.size]
    return len(values) > 1 and any(not np.allclose(v, values[0]) for v in values)


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


def _factors(findings: Findings, looks: Looks) -> Iterator[Picture]:
    shown = findings.shown(MOST_FACTOR_TASKS)
    matched = {v: c.contrasts for v, c in findings.versus.items() if len(c.contrasts)}
    first = [name for name in findings.factors if name in HEADLINE]
    others = [name for name in findings.factors if name not in HEADLINE]
    first, others = (first, others) if first else (others[:4], others[4:])
    thick = "; thick: means over seeds at the same training loss" * bool(matched)
    text = (
        f"Factors of a task (trunk and head, fixed probe) against its training loss. "
        f"Thin lines: every seed{thick}. {selection(findings, shown)}"
    )
    for number, names in enumerate((first, others)):
        if names:
            panels = [
                _factor(findings, looks, task, name, matched)
                for name in names
                for task in shown
            ]
            title = "Other factors" if number else "Factors along training"
            id = "factors-more" if number else "factors"
            columns = min(len(shown), 3)
            yield Picture(id, title, text, panels, looks, columns, bool(number))


def _factor(
    findings: Findings,
    looks: Looks,
    task: str,
    name: str,
    matched: Mapping[str, Frame],
) -> Panel:
    """A factor of a task against its training loss."""
    what = "probe", name, "task"
    made = [_against_loss(findings, task, v, what, Measure(0, "")) for v in looks]
    of_name = {v: frame[frame["factor"] == name] for v, frame in matched.items()}
    made += _means(of_name, task, 1.0)
    table = rows.joined(made)
    scale = "log" if spans(table["y"].to_numpy(float)) else "linear"
    y = Axis(factor_label(name), scale)
    return charts.curves(short(task), table, LOSS_AXIS, y, looks, task=task)


def _conflict(findings: Findings, looks: Looks) -> Iterator[Picture]:
    recorded = {variant for *_, name, _, variant in findings.table.places
                if name == "mean_cosine"}  # fmt: skip
    measured = {variant: look for variant, look in looks.items() if variant in recorded}
    if not measured:
        return
    shown = findings.shown(MOST_TASKS)
    text = (
        f"Gradients of the tasks on the trunk, whole probe: mean cosine of pairs, "
        f"share of pairs with a negative one, norm of the mean of unit gradients "
        f"(larger is less conflict); then the cosine of each task's gradient with "
        f"the next update. {whole_runs(findings, list(measured))}{lines(findings)} "
        f"{selection(findings, shown)}"
    )
    wanted = [(name, "", *told) for name, told in OF_RUN.items()]
    wanted += [
        ("cosine_update", task, short(task), "cosine with update", 1) for task in shown
    ]
    panels = []
    for name, task, title, axis_label, factor in wanted:
        made = []
        for variant in measured:
            of = bundle(findings.table, "probe", name, task, variant, "shared")
            if len(of.steps):
                made.append(rows.of_runs(of, variant, of.steps, factor=factor))
                made.append(rows.of_mean(of, variant, factor=factor))
        if made:
            x = charts.steps(findings.table.step.max())
            y = Axis(axis_label, zero=True)
            table = rows.joined(made)
            panels.append(charts.curves(title, table, x, y, measured, task=task))
    yield Picture("conflict", "Conflict over training", text, panels, measured)
    yield from cosines.pictures(findings, measured)


def _contrasts(findings: Findings, looks: Looks, table: Frame) -> Iterator[Picture]:
    panels = []
    for variant, versus in findings.versus.items():
        names = (
            list(versus.contrasts["factor"].unique()) if len(versus.contrasts) else []
        )
        first = [name for name in HEADLINE if name in names] or names[:4]
        for name in first:
            contrasts = versus.contrasts[versus.contrasts["factor"] == name]
            kind = (
                "log MT/ST" if (contrasts["kind"] == "log ratio").all() else "MT − ST"
            )
            cloud = pd.DataFrame(
                {
                    "x": contrasts["contrast"].to_numpy(float),
                    "y": contrasts["gap"].to_numpy(float),
                    "training loss (nats)": np.exp(
                        contrasts["log_loss"].to_numpy(float)
                    ),
                    "task": contrasts["task"].to_numpy(object),
                    "variant": variant,
                }
            )
            title = factor_label(name).partition(" (")[0]
            title += f", {variant}" * (len(findings.versus) > 1)
            panels.append(
                charts.scatter(
                    title,
                    cloud,
                    Axis(f"contrast, {kind}", zero=True),
                    Axis("gap (nats), + MT worse", zero=True),
                    looks,
                    note=rho(table, findings.setting, variant, factor=name),
                    gradient="training loss (nats)",
                )
            )
    if panels:
        text = (
            "A point is a bin of training loss of a task and a pair of an ST and an MT "
            "run. To the right MT has more of the factor than ST at the same training "
            "loss; above 0 it generalizes worse. ρ: Spearman with its 95% interval, "
            "tasks and runs resampled (points of a pair of runs are not independent)."
        )
        title = "Gap against each factor's contrast"
        yield Picture("contrasts", title, text, panels, {})


def _conflict_effects(
    findings: Findings, looks: Looks, tables: tuple[Frame, ...]
) -> Iterator[Picture]:
    used = {v: versus for v, versus in findings.versus.items() if len(versus.conflict)}
    if not used:
        return
    wanted = (
        ("optimization, mean of steps", "effect", "D (nats), + MT worse", tables[0]),
        ("transfer", "transfer", "", tables[1]),
        ("optimization, every step", "effect", "D (nats), + MT worse", tables[2]),
    )
    panels = []
    for title, y, axis_label, table in wanted:
        clouds, factor = [], 1.0
        by_step = "every" in title
        for variant, versus in used.items():
            effects = versus.conflict_steps if by_step else versus.conflict
            if not axis_label:
                names = effects["transfer_name"].unique()
                measures = [findings.table.measure(name) for name in names]
                units = {difference(measure) for measure in measures}
                alike = len(units) == 1
                factor = measures[0].factor if alike else 1
                unit = units.pop() * alike or "own units"
                axis_label = f"test score, MT − ST ({unit})"
            clouds.append(
                pd.DataFrame(
                    {
                        "x": effects["conflict"].to_numpy(float),
                        "y": factor * effects[y].to_numpy(float),
                        "task": effects["task"].to_numpy(object),
                        "variant": variant,
                    }
                )
            )
        told = [
            f"{v}: " * (len(used) > 1) + rho(table, findings.setting, v) for v in used
        ]
        x = Axis("conflict (− mean cosine)", zero=True)
        cloud = pd.concat(clouds, ignore_index=True)
        note = "; ".join(told)
        ordinate = Axis(axis_label, zero=True)
        panels.append(charts.scatter(title, cloud, x, ordinate, looks, note=note))
    text = (
        "A point is a task and a pair of an ST and an MT run (on the right, also a "
        "step). Conflict: minus the mean cosine of the task's gradient with those of "
        "the others. D: training loss, MT − ST at equal step. Transfer: at the "
        "best-validation point, + is MT better."
    )
    title = "Conflict against optimization and transfer"
    yield Picture("conflict-effects", title, text, panels, {v: looks[v] for v in used})
