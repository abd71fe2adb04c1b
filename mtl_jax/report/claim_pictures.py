"""Pictures of the claims: one each, of what their verdicts rest on."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.claims import MARGINS
from mtl_jax.analysis.claims.explanation import explain
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
from mtl_jax.report import charts
from mtl_jax.report.charts import Axis, Look, Picture
from mtl_jax.report.charts.labels import short
from mtl_jax.report.charts.look import BASELINE as BLACK
from mtl_jax.report.charts.look import OTHERS, SUM
from mtl_jax.report.claims import Verdicts
from mtl_jax.report.pictures import Looks
from mtl_jax.report.text import counted, estimate

MOST_ROWS = 20
"""Tasks of a panel."""
THIRDS = {
    part: SUM._replace(label=f"{part} third{', hollow' * (part == 'early')}")
    for part in PARTS
}
"""Looks of the parts of a curve."""


class Mark(NamedTuple):
    """A row of `charts.intervals`."""

    name: str
    variant: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""
    hollow: bool = False


def pictures(judged: Verdicts, looks: Looks) -> Iterator[Picture]:
    """Yield a picture per claim, of what can be compared."""
    yield from _persistence(judged)
    yield from _explanation(judged)
    yield from _harm(judged)
    yield from _remedy(judged, looks)


def _persistence(judged: Verdicts) -> Iterator[Picture]:
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
            marks = [mark for task in shown for mark in _gap_marks(task, means)]
            title = f"{setting}, {measure}" if len(judged.settings) > 1 else measure
            label = f"gap (% of ST's {measure}), + MT worse"
            panels.append(
                charts.intervals(
                    title, _rows(marks), label, THIRDS, margin=MARGINS[measure]
                )
            )
    if not panels:
        return
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
    title = "C1: does a gap open early and persist?"
    yield Picture("claim-1", title, text, panels, THIRDS, 2)


def _gap_marks(task: Paired, means: Mapping[str, tuple[Mean, Mean]]) -> list[Mark]:
    name = short(task.task)
    if reason := why_not(task):
        return [Mark(name, "late", reason=reason)]
    early, late = means[task.task]
    return [_mark(name, "early", early, hollow=True), _mark(name, "late", late)]


def _explanation(judged: Verdicts) -> Iterator[Picture]:
    margin, gaps = _margin(judged, "C2"), judged.evidence.gaps["score"]
    panels, names = [], _names(gaps)
    for factor in judged.evidence.factors["score"]:
        known = usable(factor.tasks)
        explained = explain(known, MARGINS["score"], MARGINS["loss"])
        marks = {
            (task.setting, task.task): result.expected
            for task, result in zip(known, explained, strict=True)
            if result.has_gap
        }
        panels.append((factor.name.replace("_", " "), marks))
    keys = dict.fromkeys(key for _, marks in panels for key in marks)
    if not keys:
        return
    shown = _spread(list(keys))
    label = "log ratio, + explains"
    looks = {s: look for s, look in _settings(judged).items() if s in dict(shown)}
    drawn = [
        charts.intervals(
            name,
            _rows(
                [
                    _mark(short(names[key]), key[0], marks[key])
                    for key in shown
                    if key in marks
                ]
            ),
            label,
            looks,
            margin=margin,
        )
        for name, marks in panels
        if marks.keys() & set(shown)
    ]
    text = (
        f"Tasks with a gap: how much MT differs from ST in a factor at the same "
        f"training loss, turned so that + is the direction that would explain the gap "
        f"(more of it, of coherence less, where MT is worse on the test score), with "
        f"moderated 95% t intervals over seeds. {_band(margin, 'as a log ratio')} A "
        f"task left of its right end is a counterexample. "
        f"{counted(len(keys), 'task')} of {len(gaps)} had a gap to be explained"
        f"{f', {len(shown)} of them are shown' * (len(shown) < len(keys))}."
    )
    yield Picture("claim-2", "C2: do factors explain the gap?", text, drawn, looks)


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
        cloud = pd.DataFrame(
            {
                "x": [task.conflict for task in used],
                "y": [float(task.outcomes[outcome]) for task in used],
                "task": [task.task for task in used],
                "variant": [task.setting for task in used],
            }
        )
        note = "not comparable"
        if math.isfinite(row["effect"]):
            note = f"ρ = {estimate(row['effect'], row['low'], row['high'], 2)}"
        x = Axis("conflict (− similarity)", zero=True)
        y = Axis(label, zero=True)
        panels.append(charts.scatter(outcome, cloud, x, y, looks, note=note))
    text = (
        f"A point is a task (of a target, an auxiliary set), mean over seeds: its "
        f"conflict (minus the similarity of its gradient with the others') against "
        f"what MT does to its training loss at equal step, to its test loss at equal "
        f"training loss (the gap), and to transfer. ρ: rank correlation within "
        f"settings (targets), with its 95% interval; within "
        f"±{_margin(judged, 'C3'):g} conflict predicts nothing. The claim "
        f"expects ρ > 0 on the left and neither of the others."
    )
    yield Picture("claim-3", "C3: what does conflict go with?", text, panels, looks)


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
            marks = [_effect_mark(rows.loc[variant], variant) for variant in order]
            margin = float(rows["margin"].max())
            title = (setting or "all settings") if several else subject
            panels.append(
                charts.intervals(title, _rows(marks), label, named, margin=margin)
            )
    text = (
        "Every multi-task optimizer against the sum of losses, the best "
        "first: Δm of the test scores"
        + ("" if several else ", and the training loss at equal step (mean over tasks)")
        + ", with 95% t intervals over seeds. Grey: negligible."
    )
    yield Picture("claim-4", "C4: do optimizers improve transfer?", text, panels, {})


def _effect_mark(row: Frame, variant: str) -> Mark:
    if math.isfinite(row["effect"]):
        ends = row["effect"], row["low"], row["high"]
        return Mark(short(variant), variant, *ends)
    return Mark(short(variant), variant, reason=row["reason"] or "not defined")


def _mark(name: str, look: str, mean: Mean, *, hollow: bool = False) -> Mark:
    return Mark(name, look, mean.value, mean.low, mean.high, hollow=hollow)


def _rows(marks: Sequence[Mark]) -> Frame:
    return pd.DataFrame(marks, columns=list(Mark._fields))


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


def _settings(judged: Verdicts) -> Mapping[str, Look]:
    """Looks of settings."""
    in_turn = (*OTHERS, SUM, BLACK)
    return {
        setting: in_turn[number % len(in_turn)]._replace(label=setting)
        for number, setting in enumerate(judged.settings)
    }
