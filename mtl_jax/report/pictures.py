"""Pictures of a setting: what each shows, in words, and the function that draws it."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mtl_jax.analysis.curves import Frame
from mtl_jax.report import plots
from mtl_jax.report.findings import (
    BASELINE,
    HEADLINE,
    MOST_FACTOR_TASKS,
    MOST_TASKS,
    Findings,
)
from mtl_jax.report.plots import axis
from mtl_jax.report.plots.bundle import MOST_LINES
from mtl_jax.report.text import counted, estimate, listed

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


def pictures(found: Findings, looks: Looks, correlations: tuple) -> Iterator[Picture]:
    """All pictures for which there is something to show, in the order of the page.

    Args:
      found: of one setting.
      looks: of all variants of the page.
      correlations: of `findings.correlations`.
    """
    few = found.drawn
    own = {variant: looks[variant] for variant in few.variants}
    yield _learning(few, own)
    yield _gap(few, own)
    if few.versus:
        yield from _effects(few, own)
    yield from _ranking(found, looks)
    yield from _factors(few, own)
    yield from _conflict(few, own)
    yield from _weights(found, looks)
    yield from _contrasts(few, own, correlations[0])
    yield from _conflict_effects(few, own, correlations[1:])
    seconds = costs(found)
    if seconds:
        yield Picture(
            "costs",
            "Where the time went",
            f"Wall time, summed over {counted(len(found.sessions), 'session')}."
            + " The sweep is not in it." * found.choice.swept,
            partial(plots.costs, seconds),
        )


def costs(found: Findings) -> dict[str, float]:
    """Seconds by what they went into, over all sessions, longest first."""
    total: dict[str, float] = {}
    for session in found.sessions:
        for name, seconds in session.get("seconds", {}).items():
            total[name] = total.get(name, 0.0) + seconds
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _learning(found: Findings, looks: Looks) -> Picture:
    many = len(found.tasks) > MOST_TASKS
    shown = found.shown(MOST_TASKS - many)
    draw = partial(
        plots.learning, found.table, shown, looks, found.scores,
        mean_of=found.tasks if many else (),
    )  # fmt: skip
    text = (
        f"Training loss (on the fixed probe), test loss and test score over steps, "
        f"from step 0 (the axis is linear below 1). {_lines(found)} "
        f"{_selection(found, shown)}"
    )
    return Picture("learning", "Learning curves", text, draw)


def _gap(found: Findings, looks: Looks) -> Picture:
    shown = found.shown(MOST_TASKS)
    compared = {
        v: plots.Compared(one.gap, one.score_gap, one.gap_curve)
        for v, one in found.versus.items()
        if len(one.gap) and len(one.gap_curve)
    }
    draw = partial(
        plots.gap, found.table, shown, looks, found.scores, compared, baseline=BASELINE
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
            "between them. Last row: the gap with its 95% bootstrap interval over "
            "seeds; above 0 MT is worse. "
        )
    else:
        text += "There is nothing to compare with, so no gap is shown. "
    text += _selection(found, shown)
    title = "Test loss and score against training loss"
    return Picture("gap", title, text, draw)


def _effects(found: Findings, looks: Looks) -> Iterator[Picture]:
    own = {
        v: plots.Effects(one.gap_curve, one.score_curve, one.optimization)
        for v, one in found.versus.items()
        if len(one.gap_curve)
    }
    if not own:
        return
    score = found.shared_score
    score = score if all(len(one.score) for one in own.values()) else ""
    text = (
        f"Means over {counted(len(found.tasks), 'task')} with 95% intervals (tasks and "
        f"seeds resampled). Left to right: the gap along the common range of training "
        f"losses, from the highest (0 %) to the lowest (100 %)"
        f"{'; the same for the score' * bool(score)}; D, the difference of training "
        f"losses at equal step (+ is MT worse optimised)."
    )
    measured = (score, found.table.measure(score)) if score else None
    draw = partial(plots.effects, own, looks, measured)
    yield Picture("effects", "Effects over training", text, draw)
    panels = [
        ("generalization gap", "mean gap (nats), + MT worse", _mean_gaps(found)),
        _transfers(found),
    ]
    draw = partial(plots.task_effects, [p for p in panels if p[2]], found.tasks, looks)
    text = (
        "Every task with its 95% bootstrap interval over seeds. Mind the signs: of the "
        "gap + is MT worse, of transfer + is MT better."
    )
    yield Picture("task-effects", "Effects task by task", text, draw)


def _ranking(found: Findings, looks: Looks) -> Iterator[Picture]:
    variants = [v for v in found.variants if v in found.versus]
    if len(variants) < 2:
        return
    panels = []
    for frame in (found.delta_m, found.delta_m_of_sum):
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
    gaps = {v: own[plots.MEAN] for v, own in _mean_gaps(found).items()
            if plots.MEAN in own}  # fmt: skip
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
        f"bootstrap intervals. {len(variants)} intervals are looked at together: some "
        f"will miss zero by chance, and variants whose intervals overlap widely are "
        f"not told apart."
    )
    yield Picture("ranking", "Multi-task optimizers compared", text, draw)


def _weights(found: Findings, looks: Looks) -> Iterator[Picture]:
    shown = found.shown(MOST_TASKS)
    # Shares need the weights of all tasks in one run.
    whole = [v for v in found.variants if len(found.cells[v]) == 1]
    own = {v: looks[v] for v in whole if plots.weighed(found.table, shown, v)}
    if not own:
        return
    apart = ", and those of which tasks have runs of their own" * (
        len(whole) < len(found.variants)
    )
    text = (
        f"Share of each task in the weights of the latest update, by its size; thick: "
        f"mean over seeds. Equal shares are {1 / len(found.tasks):.2g}. Methods whose "
        f"weights never differ are left out{apart}. {_selection(found, shown)}"
    )
    draw = partial(plots.weights, found.table, shown, own)
    yield Picture("weights", "Weights over training", text, draw)


Effects = dict[str, dict[str, plots.Interval]]


def _mean_gaps(found: Findings) -> Effects:
    effects: Effects = {}
    for variant, one in found.versus.items():
        own = one.gap_summary
        if own.empty:  # no test split was evaluated
            continue
        for _, row in own[own["statistic"].isin(["mean"])].iterrows():
            task = row["task"] or plots.MEAN
            ends = row["value"], row["low"], row["high"]
            effects.setdefault(variant, {})[task] = _interval(ends, row["reason"])
        for _, row in own[~own["comparable"]].iterrows():
            task = row["task"] or plots.MEAN
            effects.setdefault(variant, {})[task] = _interval((0, 0, 0), row["reason"])
    return effects


def _transfers(found: Findings) -> tuple[str, str, Effects]:
    """Transfer of each task's shown score: in points, or relative if units differ."""
    names = [found.scores.get(task, "loss") for task in found.tasks]
    units = {axis.difference(found.table.measure(name)) for name in names}
    relative = len(units) > 1 or units == {""}
    effects: Effects = {}
    for _, row in found.transfer.iterrows():
        name = found.scores.get(row["task"], "loss")
        if row["name"] == name:
            factor = found.table.measure(name).factor
            if relative:
                factor = 100 / abs(row["st"]) if row["st"] else math.nan
            ends = (factor * row[end] for end in ("difference", "low", "high"))
            own = effects.setdefault(row["variant"], {})
            own[row["task"]] = _interval(tuple(ends), row["reason"])
    label = "% of ST" if relative else units.pop()
    return "transfer (test score)", f"MT − ST ({label}), + better", effects


def _interval(ends: tuple[float, ...], reason: str) -> plots.Interval:
    value, low, high = ends
    if not reason and not math.isfinite(value):
        reason = "not defined"
    return plots.Interval(value, low, high, reason)


def _factors(found: Findings, looks: Looks) -> Iterator[Picture]:
    shown = found.shown(MOST_FACTOR_TASKS)
    matched = {v: c.contrasts for v, c in found.versus.items() if len(c.contrasts)}
    first = [name for name in found.factors if name in HEADLINE]
    others = [name for name in found.factors if name not in HEADLINE]
    first, others = (first, others) if first else (others[:4], others[4:])
    thick = "; thick: means over seeds at the same training loss" * bool(matched)
    text = (
        f"Factors of a task (trunk and head, fixed probe) against its training loss. "
        f"Thin lines: every seed{thick}. {_selection(found, shown)}"
    )
    for number, names in enumerate((first, others)):
        if names:
            more = "-more" if number else ""
            title = "Other factors" if number else "Factors along training"
            draw = partial(
                plots.factors, found.table, names, shown, looks, matched,
                baseline=BASELINE,
            )  # fmt: skip
            yield Picture(f"factors{more}", title, text, draw, folded=bool(number))


def _conflict(found: Findings, looks: Looks) -> Iterator[Picture]:
    recorded = {variant for *_, name, _, variant in found.table.places
                if name == "mean_cosine"}  # fmt: skip
    own = {variant: look for variant, look in looks.items() if variant in recorded}
    if not own:
        return
    shown = found.shown(MOST_TASKS)
    text = (
        f"Gradients of the tasks on the trunk, whole probe: mean cosine of pairs, "
        f"share of pairs with a negative one, norm of the mean of unit gradients "
        f"(larger is less conflict); below, the cosine of each task's gradient with "
        f"the next update. {_whole_runs(found, list(own))}{_lines(found)} "
        f"{_selection(found, shown)}"
    )
    draw = partial(plots.conflict, found.table, shown, own)
    yield Picture("conflict", "Conflict over training", text, draw)
    matrices = {v: plots.matrices(found.table, v, found.tasks) for v in own}
    matrices = {v: steps for v, steps in matrices.items() if steps}
    if matrices:
        text = (
            "Cosine of every pair of task gradients at the first, the middle and the "
            "last point of the trajectory, mean over seeds; red is conflict."
        )
        if any(len(found.cells[variant]) > 1 for variant in matrices):
            text += " The row of a task is of the runs chosen for it."
        if len(found.tasks) > 10:
            text += f" {len(found.tasks)} tasks, in the order of the tables."
        draw = partial(plots.cosines, matrices, found.tasks, looks)
        yield Picture("cosines", "Cosines between tasks", text, draw)


def _whole_runs(found: Findings, variants: list[str]) -> str:
    """Of which runs the values of whole runs are, where tasks have their own."""
    own = [v for v in variants if len(found.cells[v]) > 1]
    cells = [f"{v} {found.run_cell(v)}" for v in own if found.run_cell(v)]
    if not cells:
        return ""
    return (
        f"Tasks were chosen apart: what is of whole runs is of those with the learning "
        f"rate and batch size that most tasks chose ({listed(cells)}), what is of a "
        f"task, of its own. "
    )


def _contrasts(found: Findings, looks: Looks, table: Frame) -> Iterator[Picture]:
    clouds = {}
    for variant, one in found.versus.items():
        names = list(one.contrasts["factor"].unique()) if len(one.contrasts) else []
        first = [name for name in HEADLINE if name in names] or names[:4]
        for name in first:
            own = one.contrasts[one.contrasts["factor"] == name]
            text = _rho(table, found.setting, variant, factor=name)
            kind = "log MT/ST" if (own["kind"] == "log ratio").all() else "MT − ST"
            cloud = plots.Cloud(
                plots.UNITS.get(name, name.replace("_", " ")).partition(" (")[0],
                f"contrast, {kind}",
                own["contrast"].to_numpy(float),
                own["gap"].to_numpy(float),
                own["log_loss"].to_numpy(float),
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
    found: Findings, looks: Looks, tables: tuple[Frame, ...]
) -> Iterator[Picture]:
    used = {v: one for v, one in found.versus.items() if len(one.conflict)}
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
        for variant, one in used.items():
            own = one.conflict_steps if by_step else one.conflict
            if not label:
                names = own["transfer_name"].unique()
                measures = [found.table.measure(name) for name in names]
                units = {axis.difference(measure) for measure in measures}
                alike = len(units) == 1
                factor = measures[0].factor if alike else 1
                label = f"test score, MT − ST ({units.pop() * alike or 'own units'})"
            clouds[variant] = plots.Cloud(
                "",
                "",
                own["conflict"].to_numpy(float),
                factor * own[y].to_numpy(float),
                np.full(len(own), np.nan),
                _rho(table, found.setting, variant),
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


def _rho(table: Frame, setting: str, variant: str, **where: str) -> str:
    """``ρ = −0.06 [−0.53, 0.20]``, or why there is none."""
    if not len(table):
        return "not comparable"
    own = table[(table["setting"] == setting) & (table["variant"] == variant)]
    own = own[own["statistic"] == "spearman"]
    for column, value in where.items():
        own = own[own[column] == value]
    row = own.iloc[0]
    if not math.isfinite(row["value"]):
        return f"not comparable: {row['reason']}"
    return f"ρ = {estimate(row['value'], row['low'], row['high'], 2, sign=False)}"


def _lines(found: Findings) -> str:
    """What lines and bands stand for."""
    most = max(map(len, found.seeds.values()))
    band = (
        "band: from the lowest to the highest seed"
        if most > MOST_LINES
        else "thin: every seed"
    )
    many = (
        f" Of {len(found.records['variant'].unique())} variants the first "
        f"{len(found.variants)} are drawn; the tables hold all."
        * (len(found.variants) < len(found.records["variant"].unique()))
    )
    lost = ", dotted up to a cross: a run that diverged" * bool(len(found.diverged))
    return f"Thick lines: mean over seeds; {band}{lost}.{many}"


def _selection(found: Findings, shown: list[str]) -> str:
    if len(shown) == len(found.tasks):
        return ""
    order = "the first"
    if found.versus:
        order = f"from the lowest to the highest mean gap of {next(iter(found.versus))}"
    number = f"Of {len(found.tasks)} tasks {len(shown)} are shown"
    return f"{number} ({listed(shown)}): {order}."
