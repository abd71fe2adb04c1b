"""Pictures of a setting: what each shows, in words, and the function that draws it."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mtl_jax.analysis.curves import Frame
from mtl_jax.report import plots
from mtl_jax.report.captions import lines, rho, selection, whole_runs
from mtl_jax.report.findings import (
    BASELINE,
    HEADLINE,
    MOST_FACTOR_TASKS,
    MOST_TASKS,
    Findings,
)
from mtl_jax.report.plots import axis
from mtl_jax.report.text import counted

Looks = Mapping[str, plots.Look]


class Picture(NamedTuple):
    """A figure of the page."""

    id: str
    title: str
    caption: str
    draw: Callable[..., Figure]
    """``draw(narrow=...)``."""
    folded: bool = False
    """Shown on demand."""


def pictures(
    findings: Findings, looks: Looks, correlations: tuple
) -> Iterator[Picture]:
    """Yield the pictures that have something to show, in the order of the page.

    Args:
      found: of one setting.
      looks: of all variants of the page.
      correlations: of `findings.correlations`.
    """
    few = findings.drawn
    shown = {variant: looks[variant] for variant in few.variants}
    yield _learning(few, shown)
    yield _gap(few, shown)
    if few.versus:
        yield from _effects(few, shown)
    yield from _ranking(findings, looks)
    yield from _factors(few, shown)
    yield from _conflict(few, shown)
    yield from _weights(findings, looks)
    yield from _contrasts(few, shown, correlations[0])
    yield from _conflict_effects(few, shown, correlations[1:])
    seconds = costs(findings)
    if seconds:
        yield Picture(
            "costs",
            "Where the time went",
            f"Wall time, summed over {counted(len(findings.sessions), 'session')}."
            + " The sweep is not in it." * findings.choice.swept,
            partial(plots.costs, seconds),
        )


def costs(findings: Findings) -> dict[str, float]:
    """Sum seconds by what they went into, over all sessions, longest first."""
    total: dict[str, float] = {}
    for session in findings.sessions:
        for name, seconds in session.get("seconds", {}).items():
            total[name] = total.get(name, 0.0) + seconds
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _learning(findings: Findings, looks: Looks) -> Picture:
    many = len(findings.tasks) > MOST_TASKS
    shown = findings.shown(MOST_TASKS - many)
    draw = partial(
        plots.learning, findings.table, shown, looks, findings.scores,
        mean_of=findings.tasks if many else (),
    )  # fmt: skip
    text = (
        f"Training loss (on the fixed probe), test loss and test score over steps, "
        f"from step 0 (the axis is linear below 1). {lines(findings)} "
        f"{selection(findings, shown)}"
    )
    return Picture("learning", "Learning curves", text, draw)


def _gap(findings: Findings, looks: Looks) -> Picture:
    shown = findings.shown(MOST_TASKS)
    compared = {
        v: plots.GapTables(versus.gap, versus.score_gap, versus.gap_curve)
        for v, versus in findings.versus.items()
        if len(versus.gap) and len(versus.gap_curve)
    }
    draw = partial(
        plots.gap,
        findings.table,
        shown,
        looks,
        findings.scores,
        compared,
        baseline=BASELINE,
    )
    text = (
        "What a training loss is worth on test data. The axis of training loss is "
        "logarithmic and reversed, so training goes from left to right. Thin lines: "
        "every seed. "
    )
    if compared:
        text += (
            "Thick lines: means over seeds at the same training loss, inside the "
            "common range (bar at the foot; nothing is extrapolated); shaded: the gap "
            "between them. Last row: the gap with its 95% t interval over "
            "seeds; above 0 MT is worse. "
        )
    else:
        text += "There is nothing to compare with, so no gap is shown. "
    text += selection(findings, shown)
    title = "Test loss and score against training loss"
    return Picture("gap", title, text, draw)


def _effects(findings: Findings, looks: Looks) -> Iterator[Picture]:
    compared = {
        v: plots.Effects(versus.gap_curve, versus.score_curve, versus.optimization)
        for v, versus in findings.versus.items()
        if len(versus.gap_curve)
    }
    if not compared:
        return
    score = findings.shared_score
    score = score if all(len(versus.score) for versus in compared.values()) else ""
    text = (
        f"Means over {counted(len(findings.tasks), 'task')} with 95% intervals (tasks "
        f"and seeds resampled). Left to right: the gap along the common range of "
        f"training losses, from the highest (0 %) to the lowest (100 %)"
        f"{'; the same for the score' * bool(score)}; D, the difference of training "
        f"losses at equal step (+ is MT worse optimised)."
    )
    measured = (score, findings.table.measure(score)) if score else None
    draw = partial(plots.effects, compared, looks, measured)
    yield Picture("effects", "Effects over training", text, draw)
    panels = [
        ("generalization gap", "mean gap (nats), + MT worse", _mean_gaps(findings)),
        _transfers(findings),
    ]
    draw = partial(
        plots.task_effects, [p for p in panels if p[2]], findings.tasks, looks
    )
    text = (
        "Every task with its 95% t interval, paired by seed. Mind the signs: of the "
        "gap + is MT worse, of transfer + is MT better."
    )
    yield Picture("task-effects", "Effects task by task", text, draw)


def _ranking(findings: Findings, looks: Looks) -> Iterator[Picture]:
    variants = [v for v in findings.variants if v in findings.versus]
    if len(variants) < 2:
        return
    panels = []
    for frame in (findings.delta_m, findings.delta_m_of_sum):
        rows = {
            row["variant"]: _interval(
                (row["delta_m"], row["low"], row["high"]),
                "" if row["comparable"] else row["reason"],
            )
            for _, row in frame.iterrows()
        }
        if rows:
            against = frame["baseline"].iloc[0]
            panels.append((f"Δm against {against}", "Δm (%), + is better", rows))
    gaps = {v: effects[plots.MEAN] for v, effects in _mean_gaps(findings).items()
            if plots.MEAN in effects}  # fmt: skip
    if gaps:
        panels.append(("generalization gap", "mean gap (nats), + MT worse", gaps))
    if not panels:
        return
    first = panels[0][2]
    known = [v for v in variants if v in first and not first[v].reason]
    order = sorted(known, key=lambda v: -first[v].value)
    draw = partial(
        plots.ranking, panels, order + [v for v in variants if v not in order], looks
    )
    text = (
        f"All {len(variants)} MT variants, the best first, means over tasks with 95% "
        f"t intervals over seeds. {len(variants)} intervals are looked at together: "
        f"some will miss zero by chance, and variants whose intervals overlap widely "
        f"are not told apart."
    )
    yield Picture("ranking", "Multi-task optimizers compared", text, draw)


def _weights(findings: Findings, looks: Looks) -> Iterator[Picture]:
    shown = findings.shown(MOST_TASKS)
    # Shares need the weights of all tasks in one run.
    whole = [v for v in findings.variants if len(findings.cells[v]) == 1]
    weighed = {v: looks[v] for v in whole if plots.weighed(findings.table, shown, v)}
    if not weighed:
        return
    apart = ", and those of which tasks have runs of their own" * (
        len(whole) < len(findings.variants)
    )
    text = (
        f"Share of each task in the weights of the latest update, by its size; thick: "
        f"mean over seeds. Equal shares are {1 / len(findings.tasks):.2g}. Methods "
        f"whose weights never differ are left out{apart}. {selection(findings, shown)}"
    )
    draw = partial(plots.weights, findings.table, shown, weighed)
    yield Picture("weights", "Weights over training", text, draw)


TaskEffects = dict[str, dict[str, plots.Interval]]


def _mean_gaps(findings: Findings) -> TaskEffects:
    effects: TaskEffects = {}
    for variant, versus in findings.versus.items():
        summary = versus.gap_summary
        if summary.empty:  # no test split was evaluated
            continue
        for _, row in summary[summary["statistic"].isin(["mean"])].iterrows():
            task = row["task"] or plots.MEAN
            ends = row["value"], row["low"], row["high"]
            effects.setdefault(variant, {})[task] = _interval(ends, row["reason"])
        for _, row in summary[~summary["comparable"]].iterrows():
            task = row["task"] or plots.MEAN
            effects.setdefault(variant, {})[task] = _interval((0, 0, 0), row["reason"])
    return effects


def _transfers(findings: Findings) -> tuple[str, str, TaskEffects]:
    """Transfer of each task's shown score: in points, or relative if units differ."""
    names = [findings.scores.get(task, "loss") for task in findings.tasks]
    units = {axis.difference(findings.table.measure(name)) for name in names}
    relative = len(units) > 1 or units == {""}
    effects: TaskEffects = {}
    for _, row in findings.transfer.iterrows():
        name = findings.scores.get(row["task"], "loss")
        if row["name"] == name:
            factor = findings.table.measure(name).factor
            if relative:
                factor = 100 / abs(row["st"]) if row["st"] else math.nan
            ends = (factor * row[end] for end in ("difference", "low", "high"))
            of_variant = effects.setdefault(row["variant"], {})
            reason = "" if row["comparable"] else row["reason"]
            of_variant[row["task"]] = _interval(tuple(ends), reason)
    label = "% of ST" if relative else units.pop()
    return "transfer (test score)", f"MT − ST ({label}), + better", effects


def _interval(ends: tuple[float, ...], reason: str) -> plots.Interval:
    value, low, high = ends
    if not reason and not math.isfinite(value):
        reason = "not defined"
    return plots.Interval(value, low, high, reason)


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
            more = "-more" if number else ""
            title = "Other factors" if number else "Factors along training"
            draw = partial(
                plots.factors, findings.table, names, shown, looks, matched,
                baseline=BASELINE,
            )  # fmt: skip
            yield Picture(f"factors{more}", title, text, draw, folded=bool(number))


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
        f"(larger is less conflict); below, the cosine of each task's gradient with "
        f"the next update. {whole_runs(findings, list(measured))}{lines(findings)} "
        f"{selection(findings, shown)}"
    )
    draw = partial(plots.conflict, findings.table, shown, measured)
    yield Picture("conflict", "Conflict over training", text, draw)
    matrices = {v: plots.matrices(findings.table, v, findings.tasks) for v in measured}
    matrices = {v: steps for v, steps in matrices.items() if steps}
    if matrices:
        text = (
            "Cosine of every pair of task gradients at the first, the middle and the "
            "last point of the trajectory, mean over seeds; red is conflict."
        )
        if any(len(findings.cells[variant]) > 1 for variant in matrices):
            text += " The row of a task is of the runs chosen for it."
        if len(findings.tasks) > 10:
            text += f" {len(findings.tasks)} tasks, in the order of the tables."
        draw = partial(plots.cosines, matrices, findings.tasks, looks)
        yield Picture("cosines", "Cosines between tasks", text, draw)


def _contrasts(findings: Findings, looks: Looks, table: Frame) -> Iterator[Picture]:
    clouds = {}
    for variant, versus in findings.versus.items():
        names = (
            list(versus.contrasts["factor"].unique()) if len(versus.contrasts) else []
        )
        first = [name for name in HEADLINE if name in names] or names[:4]
        for name in first:
            contrasts = versus.contrasts[versus.contrasts["factor"] == name]
            text = rho(table, findings.setting, variant, factor=name)
            kind = (
                "log MT/ST" if (contrasts["kind"] == "log ratio").all() else "MT − ST"
            )
            cloud = plots.Cloud(
                plots.UNITS.get(name, name.replace("_", " ")).partition(" (")[0],
                f"contrast, {kind}",
                contrasts["contrast"].to_numpy(float),
                contrasts["gap"].to_numpy(float),
                contrasts["log_loss"].to_numpy(float),
                text,
            )
            clouds.setdefault(variant, []).append(cloud)
    if clouds:
        text = (
            "A point is a bin of training loss of a task and a pair of an ST and an MT "
            "run. To the right MT has more of the factor than ST at the same training "
            "loss; above 0 it generalizes worse. ρ: Spearman with its 95% interval, "
            "tasks and runs resampled (points of a pair of runs are not independent)."
        )
        draw = partial(plots.contrasts, clouds, looks)
        yield Picture("contrasts", "Gap against each factor's contrast", text, draw)


def _conflict_effects(
    findings: Findings, looks: Looks, tables: tuple[Frame, ...]
) -> Iterator[Picture]:
    used = {v: versus for v, versus in findings.versus.items() if len(versus.conflict)}
    if not used:
        return
    panels = []
    wanted = (
        ("optimization, mean of steps", "effect", "D (nats), + MT worse", tables[0]),
        ("transfer", "transfer", "", tables[1]),
        ("optimization, every step", "effect", "D (nats), + MT worse", tables[2]),
    )
    for title, y, label, table in wanted:
        clouds, factor = {}, 1.0
        by_step = "every" in title
        for variant, versus in used.items():
            effects = versus.conflict_steps if by_step else versus.conflict
            if not label:
                names = effects["transfer_name"].unique()
                measures = [findings.table.measure(name) for name in names]
                units = {axis.difference(measure) for measure in measures}
                alike = len(units) == 1
                factor = measures[0].factor if alike else 1
                label = f"test score, MT − ST ({units.pop() * alike or 'own units'})"
            clouds[variant] = plots.Cloud(
                "",
                "",
                effects["conflict"].to_numpy(float),
                factor * effects[y].to_numpy(float),
                np.full(len(effects), np.nan),
                rho(table, findings.setting, variant),
            )
        panels.append((title, "conflict (− mean cosine)", label, clouds))
    text = (
        "A point is a task and a pair of an ST and an MT run (on the right, also a "
        "step). Conflict: minus the mean cosine of the task's gradient with those of "
        "the others. D: training loss, MT − ST at equal step. Transfer: at the "
        "best-validation point, + is MT better."
    )
    draw = partial(plots.conflict_effects, panels, looks)
    title = "Conflict against optimization and transfer"
    yield Picture("conflict-effects", title, text, draw)
