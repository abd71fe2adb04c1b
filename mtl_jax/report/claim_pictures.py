"""Pictures of the claims: one each, of what their verdicts rest on."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from mtl_jax.analysis.claims import MARGIN
from mtl_jax.analysis.claims.explanation import explain
from mtl_jax.analysis.claims.interval import Mean, paired_t, turned
from mtl_jax.analysis.claims.paired import Paired, of_setting, why_not
from mtl_jax.analysis.claims.row import NOT_COMPARABLE
from mtl_jax.analysis.curves import Frame
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
    panels, margin = [], _margin(judged, "C1")
    for setting in judged.settings:
        tasks = of_setting(judged.evidence.gaps, setting)
        known = [task for task in tasks if not why_not(task)]
        if not known:
            continue
        known.sort(key=lambda task: task.values["late"].mean())
        shown = _spread(known) if len(tasks) > MOST_ROWS else tasks
        rows = {task.task: _gap_marks(task) for task in shown}
        title = setting if len(judged.settings) > 1 else ""
        panels.append(plots.Panel(title, "gap (% of ST), + MT worse", margin, rows))
    if not panels:
        return
    thirds = {
        part: looks[UNITARY]._replace(label=f"{part} third")
        for part in ("early", "late")
    }
    text = (
        f"The gap of every task early and late in the common range of training losses, "
        f"percent of the loss that ST has there, with 95% t intervals over seeds. "
        f"{_band(margin, '%')} A gap that persists lies outside in both, on one side."
        f"{_some(judged.evidence.gaps)}"
    )
    draw = partial(plots.intervals, panels, thirds, {"early": True, "late": False})
    yield Picture("claim-1", "C1: does a gap open early and persist?", text, draw)


def _gap_marks(task: Paired) -> list[plots.Mark]:
    if why_not(task):
        return [plots.Mark("late", plots.Interval(0, 0, 0, why_not(task)))]
    early, late = (_interval(paired_t(task.values[part])) for part in ("early", "late"))
    return [plots.Mark("early", early, hollow=True), plots.Mark("late", late)]


def _explanation(judged: Verdicts) -> Iterator[Picture]:
    margin = _margin(judged, "C2")
    panels, names = [], _names(judged.evidence.gaps)
    for factor in judged.evidence.factors:
        marks = {
            (task.setting, task.task): _contrast_mark(task)
            for task in factor.tasks
            if not why_not(task) and explain(task, MARGIN).has_gap
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
        f"(more sharpness or Fisher trace, less coherence, where MT is worse), with "
        f"95% t intervals over seeds. {_band(margin, 'as a log ratio')} A task left of "
        f"its right end is a counterexample. {counted(len(keys), 'task')} of "
        f"{len(judged.evidence.gaps)} had a gap to be explained"
        f"{f', {len(shown)} of them are shown' * (len(shown) < len(keys))}."
    )
    legend = dict.fromkeys(looks, False) if several else {}
    columns = max(3, len(drawn))
    draw = partial(plots.intervals, drawn, looks, legend, columns=columns)
    yield Picture("claim-2", "C2: do factors explain the gap?", text, draw)


def _contrast_mark(task: Paired) -> plots.Mark:
    sign = np.sign(task.values["gap"].mean())
    return plots.Mark(
        task.setting, _interval(turned(paired_t(task.values["contrast"]), sign))
    )


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
        f"A point is a task, mean over seeds: its conflict (minus the mean cosine with "
        f"the other tasks) against what MT does to its training loss at equal step, to "
        f"its test loss at equal training loss (the gap), and to transfer. ρ: rank "
        f"correlation over tasks, within settings, with its 95% interval; within "
        f"±{_margin(judged, 'C3'):g} conflict predicts nothing. The claim expects "
        f"ρ > 0 on the left and neither of the others."
    )
    draw = partial(plots.correlations, panels, looks, "conflict (− mean cosine)")
    yield Picture("claim-3", "C3: what does conflict go with?", text, draw)


def _remedy(judged: Verdicts, looks: Looks) -> Iterator[Picture]:
    table = judged.table[
        (judged.table["claim"] == "C4") & (judged.table["subject"] != "")
    ]
    table = table[table["variant"].isin(list(looks))]
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
    draw = partial(plots.intervals, panels, looks, {}, columns=3)
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
