"""Pictures of the claims: one each, of what their verdicts rest on."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from mtl_jax.analysis.claims import MARGINS
from mtl_jax.analysis.claims.explanation import Explained, explain
from mtl_jax.analysis.claims.paired import (
    MEASURES,
    Paired,
    means_of,
    of_setting,
    usable,
    why_not,
)
from mtl_jax.analysis.claims.persistence import PARTS
from mtl_jax.analysis.claims.row import NOT_COMPARABLE
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.interval import Mean
from mtl_jax.analysis.variant import method_of
from mtl_jax.report import plots
from mtl_jax.report.claims import UNITARY, Verdicts
from mtl_jax.report.pictures import Looks, Picture
from mtl_jax.report.plots.style import BASELINE as BLACK
from mtl_jax.report.plots.style import OTHERS, SUM
from mtl_jax.report.text import counted, estimate

MOST_ROWS = 20
"""Tasks of a panel."""


def pictures(judged: Verdicts, looks: Looks) -> Iterator[Picture]:
    """Yield a picture per claim, of what can be compared."""
    yield from _persistence(judged, looks)
    yield from _explanation(judged)
    yield from _harm(judged)
    yield from _remedy(judged, looks)


def _persistence(judged: Verdicts, looks: Looks) -> Iterator[Picture]:
    panels = []
    for setting in judged.settings:
        for measure in MEASURES:
            tasks = of_setting(judged.evidence.gaps[measure], setting)
            known = usable(tasks)
            if not known:
                continue
            means = dict(
                zip(
                    [task.task for task in known],
                    zip(*(means_of(known, part) for part in PARTS), strict=True),
                    strict=True,
                )
            )
            known.sort(key=lambda task: task.values["late"].mean())
            shown = _spread(known) if len(tasks) > MOST_ROWS else tasks
            rows = {task.task: _gap_marks(task, means) for task in shown}
            title = f"{setting}, {measure}" if len(judged.settings) > 1 else measure
            label = f"gap (% of ST's {measure}), + MT worse"
            panels.append(plots.Panel(title, label, MARGINS[measure], rows))
    if not panels:
        return
    thirds = {
        part: looks[UNITARY]._replace(label=f"{part} third")
        if UNITARY in looks
        else SUM._replace(label=f"{part} third")
        for part in PARTS
    }
    margins = " and ".join(
        f"{MARGINS[measure]:g}% of a {measure}" for measure in MEASURES
    )
    text = (
        f"The gap of every task in the part of the curve in which it must be there to "
        f"be early and to persist (from a twentieth of the first training loss on), "
        f"its first and its last third, percent of what ST has there, with moderated "
        f"95% t intervals over seeds. Grey: negligible (up to {margins}). A gap that "
        f"persists lies outside in both, on one side."
        f"{_some(judged.evidence.gaps['loss'])}"
    )
    draw = partial(plots.intervals, panels, thirds, {"early": True, "late": False})
    yield Picture("claim-1", "C1: does a gap open early and persist?", text, draw)


def _gap_marks(
    task: Paired, means: Mapping[str, tuple[Mean, Mean]]
) -> list[plots.Mark]:
    if why_not(task):
        return [plots.Mark("late", plots.Interval(0, 0, 0, why_not(task)))]
    early, late = map(_interval, means[task.task])
    return [plots.Mark("early", early, hollow=True), plots.Mark("late", late)]


def _explanation(judged: Verdicts) -> Iterator[Picture]:
    margin, gaps = _margin(judged, "C2"), judged.evidence.gaps["score"]
    panels, names = [], _names(gaps)
    for factor in judged.evidence.factors["score"]:
        known = usable(factor.tasks)
        explained = explain(known, MARGINS["score"], MARGINS["loss"])
        marks = {
            (task.setting, task.task): _contrast_mark(task, result)
            for task, result in zip(known, explained, strict=True)
            if result.has_gap
        }
        panels.append((factor.name.replace("_", " "), marks))
    keys = dict.fromkeys(key for _, marks in panels for key in marks)
    if not keys:
        return
    shown = _spread(list(keys))
    label = "log ratio, + explains"
    drawn = [
        plots.Panel(
            name,
            label,
            margin,
            {names[key]: [marks[key]] if key in marks else [] for key in shown},
        )
        for name, marks in panels
    ]
    looks = {s: look for s, look in _settings(judged).items() if s in dict(shown)}
    several = len(judged.settings) > 1
    text = (
        f"Tasks with a gap: how much MT differs from ST in a factor at the same "
        f"training loss, turned so that + is the direction that would explain the gap "
        f"(more of it, of coherence less, where MT is worse on the test score), with "
        f"moderated 95% t intervals over seeds. {_band(margin, 'as a log ratio')} A "
        f"task left of its right end is a counterexample. "
        f"{counted(len(keys), 'task')} of {len(gaps)} had a gap to be explained"
        f"{f', {len(shown)} of them are shown' * (len(shown) < len(keys))}."
    )
    legend = dict.fromkeys(looks, False) if several else {}
    columns = max(3, len(drawn))
    draw = partial(plots.intervals, drawn, looks, legend, columns=columns)
    yield Picture("claim-2", "C2: do factors explain the gap?", text, draw)


def _contrast_mark(task: Paired, explained: Explained) -> plots.Mark:
    return plots.Mark(task.setting, _interval(explained.expected))


def _harm(judged: Verdicts) -> Iterator[Picture]:
    if judged.of("C3")["verdict"] == NOT_COMPARABLE:
        return
    used = [task for task in judged.evidence.affected if not task.reason]
    looks = {
        s: look
        for s, look in _settings(judged).items()
        if s in {task.setting for task in used}
    }
    wanted = (
        ("optimization", "training loss (% of ST), + MT worse"),
        ("generalization", "gap (% of ST), + MT worse"),
        ("transfer", "test value (% of ST), + MT better"),
    )
    panels = []
    for outcome, label in wanted:
        row = judged.of("C3", outcome)
        by = {s: [task for task in used if task.setting == s] for s in looks}
        panels.append(
            plots.Points(
                outcome,
                label,
                {
                    s: np.array([task.conflict for task in group])
                    for s, group in by.items()
                },
                {
                    s: np.array([task.outcomes[outcome] for task in group], float)
                    for s, group in by.items()
                },
                f"ρ = {estimate(row['effect'], row['low'], row['high'], 2)}"
                if math.isfinite(row["effect"])
                else "not comparable",
            )
        )
    text = (
        f"A point is a task (of a target, an auxiliary set), mean over seeds: its "
        f"conflict (minus the similarity of its gradient with the others') against "
        f"what MT does to its training loss at equal step, to its test loss at equal "
        f"training loss (the gap), and to transfer. ρ: rank correlation within "
        f"settings (targets), with its 95% interval; within "
        f"±{_margin(judged, 'C3'):g} conflict predicts nothing. The claim "
        f"expects ρ > 0 on the left and neither of the others."
    )
    draw = partial(plots.correlations, panels, looks, "conflict (− similarity)")
    yield Picture("claim-3", "C3: what does conflict go with?", text, draw)


def _remedy(judged: Verdicts, looks: Looks) -> Iterator[Picture]:
    table = judged.table[
        (judged.table["claim"] == "C4") & (judged.table["subject"] != "")
    ]
    table = table[table["measure"] == "score"]
    named = {method_of(variant): look for variant, look in looks.items()}
    table = table[table["variant"].isin(list(named))]
    known = table[table["effect"].notna()]
    if not len(known[known["subject"] == "transfer"]):
        return
    ranks = known[(known["setting"] == "") & (known["subject"] == "transfer")]
    ranks = ranks.sort_values("effect", ascending=False)["variant"].tolist()
    order = ranks + [v for v in table["variant"].unique() if v not in ranks]
    several = len(judged.settings) > 1
    wanted = [(setting, "transfer") for setting in ["", *judged.settings] if several]
    wanted += [] if several else [("", "transfer"), ("", "optimization")]
    panels = []
    for setting, subject in wanted:
        rows = table[(table["setting"] == setting) & (table["subject"] == subject)]
        rows = rows.set_index("variant")
        if rows["effect"].notna().any():
            label = "Δm (%), + better"
            if subject == "optimization":
                label = "training loss (%), + worse"
            marks = {variant: [_effect_mark(rows, variant)] for variant in order}
            margin = float(rows["margin"].max())
            title = (setting or "all settings") if several else subject
            panels.append(plots.Panel(title, label, margin, marks))
    text = (
        "Every multi-task optimizer against the sum of losses, the best "
        "first: Δm of the test scores"
        + ("" if several else ", and the training loss at equal step (mean over tasks)")
        + ", with 95% t intervals over seeds. Grey: negligible."
    )
    draw = partial(plots.intervals, panels, named, {}, columns=3)
    yield Picture("claim-4", "C4: do optimizers improve transfer?", text, draw)


def _effect_mark(rows: Frame, variant: str) -> plots.Mark:
    row = rows.loc[variant]
    why = "" if math.isfinite(row["effect"]) else row["reason"] or "not defined"
    return plots.Mark(
        variant, plots.Interval(row["effect"], row["low"], row["high"], why)
    )


def _interval(mean: Mean) -> plots.Interval:
    return plots.Interval(mean.value, mean.low, mean.high, "")


def _margin(judged: Verdicts, claim: str) -> float:
    """Return the negligible effect in a claim; 0 where nothing could be judged."""
    margins = judged.table[judged.table["claim"] == claim]["margin"].dropna()
    return float(margins.iloc[0]) if len(margins) else 0.0


def _band(margin: float, unit: str) -> str:
    return f"Grey: negligible (up to {margin:.2g} {unit})."


def _spread(ordered: list) -> list:
    """Some of many, from the first to the last."""
    if len(ordered) <= MOST_ROWS:
        return ordered
    at = np.linspace(0, len(ordered) - 1, MOST_ROWS).round().astype(int)
    return [ordered[place] for place in at]


def _some(gaps: Sequence[Paired]) -> str:
    most = max(len(of_setting(gaps, task.setting)) for task in gaps)
    if most <= MOST_ROWS:
        return ""
    return f" Of more than {MOST_ROWS} tasks some, from the lowest late gap up."


def _names(tasks: Sequence[Paired]) -> dict[tuple[str, str], str]:
    """Tasks by setting and name, with the setting where two are called alike."""
    names = [task.task for task in tasks]
    return {
        (task.setting, task.task): task.task
        if names.count(task.task) == 1
        else f"{task.task}, {task.setting}"
        for task in tasks
    }


def _settings(judged: Verdicts) -> Mapping[str, plots.Look]:
    """Looks of settings."""
    in_turn = (*OTHERS, SUM, BLACK)
    return {
        setting: in_turn[number % len(in_turn)]._replace(label=setting)
        for number, setting in enumerate(judged.settings)
    }
