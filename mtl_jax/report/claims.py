"""The four claims, over all settings: verdicts, their table, and what they rest on."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.claims import MARGIN, Evidence, judge, observe
from mtl_jax.analysis.claims.explanation import explain
from mtl_jax.analysis.claims.interval import Mean, paired_t, turned
from mtl_jax.analysis.claims.paired import Paired, of_setting, why_not
from mtl_jax.analysis.claims.row import NOT_COMPARABLE
from mtl_jax.analysis.curves import Frame
from mtl_jax.report import plots
from mtl_jax.report.findings import BASELINE, Findings
from mtl_jax.report.pictures import Looks, Picture
from mtl_jax.report.plots.style import BASELINE as BLACK
from mtl_jax.report.plots.style import OTHERS, SUM
from mtl_jax.report.tables import Table
from mtl_jax.report.text import DASH, MINUS, Cell, counted, effect, estimate, listed

UNITARY = "multi"
STATEMENTS = {
    "C1": "MTL opens a gap in generalization at comparable training loss, early in "
    "training, and it persists.",
    "C2": "Sharpness, Fisher trace and gradient coherence do not explain that gap "
    "consistently.",
    "C3": "Conflict between task gradients goes with harm to a task's optimization and "
    "does not predict its generalization.",
    "C4": "Multi-task optimizers change optimization but do not reliably improve "
    "transfer.",
}
SUBJECTS = {
    ("C1", "early"): "early gap",
    ("C1", "late"): "late gap",
    ("C3", "optimization"): "conflict and loss of optimization",
    ("C3", "generalization"): "conflict and gap",
    ("C3", "transfer"): "conflict and transfer",
    ("C4", "optimization"): "training loss",
    ("C4", "transfer"): "transfer",
}
MOST_ROWS = 20
"""Tasks of a panel."""
MOST_LETTERS = 220
"""Of a reason."""


class Verdicts(NamedTuple):
    """What was found of the claims."""

    table: Frame
    """`analysis.claims`, by claim and setting: all together first, the claim first."""
    evidence: Evidence
    settings: list[str]
    tuned: list[str]
    """Settings of which learning rates were selected on a sweep."""

    def of(self, claim: str, subject: str = "", setting: str = "") -> Any:
        """A row of the table."""
        own = self.table[self.table["claim"] == claim]
        own = own[(own["subject"] == subject) & (own["setting"] == setting)]
        return own.iloc[0]


def verdicts(every: Sequence[Findings]) -> Verdicts:
    """Judge the claims by the records of all settings."""
    df = pd.concat([one.records for one in every], ignore_index=True)
    found = observe(df, BASELINE, UNITARY)
    table = judge(found)
    settings = [one.setting for one in every]
    place = {name: number for number, name in enumerate(["", *settings])}
    order = {"claim": str, "setting": place.__getitem__, "subject": bool}
    table = table.sort_values(
        [*order], key=lambda c: c.map(order[c.name]), kind="stable"
    )
    tuned = [one.setting for one in every if one.choice.swept]
    return Verdicts(table.reset_index(drop=True), found, settings, tuned)


def section(found: Verdicts) -> dict[str, Any]:
    """What the template says before any picture."""
    rows = [found.of(claim) for claim in STATEMENTS]
    told = [
        {
            "id": row["claim"],
            "title": STATEMENTS[row["claim"]],
            "verdict": row["verdict"],
            "text": _told(row),
        }
        for row in rows
    ]
    judged = any(row["verdict"] != NOT_COMPARABLE for row in rows)
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(_clipped(row["reason"]), []).append(row["claim"])
    nothing = "; ".join(f"{listed(own)}: {why}" for why, own in reasons.items())
    return {
        "told": told if judged else [],
        "nothing": f"Not comparable. {nothing}.",
        "note": _note(found),
        "prefix": "",
        "tables": {"claims": _table(found)} if judged else {},
    }


def _told(row: Frame) -> str:
    if row["verdict"] == NOT_COMPARABLE:
        return _printed(_clipped(row["reason"]) + ".")
    but = f" But: {_clipped(row['reason'])}." * bool(row["reason"])
    return _printed(row["statement"] + but)


def _note(found: Verdicts) -> str:
    text = (
        "Verdicts follow rules that were fixed beforehand (mtl_jax.analysis.claims "
        "has them): differences are paired by seed, with 95% intervals, and count only "
        "beyond what is negligible; C3 correlates over tasks."
    )
    others = [name for name in found.settings if name not in found.tuned]
    if others:
        which = "the runs" if not found.tuned else listed(others)
        text += (
            f" Learning rates of {which} were not selected on a sweep, so variants may "
            f"be tuned unequally: take these verdicts as provisional."
        )
    return text


def _table(found: Verdicts) -> Table:
    """A row per claim, setting and subject."""
    several = len(found.settings) > 1
    shown = found.table if several else found.table[found.table["setting"] != ""]
    rows = []
    for _, row in shown.iterrows():
        digits = 2 if "correlation" in row["unit"] or "Delta" in row["unit"] else 1
        value, low, high = (round(row[end], 9) for end in ("effect", "low", "high"))
        size = effect(value, low, high, digits, "" if math.isfinite(value) else " ")
        agree, known = row["sign_consistency"], row["verdict"] != NOT_COMPARABLE
        whole = found.of(row["claim"], "", row["setting"])
        said = row["subject"] and row["reason"] == whole["reason"]
        reason = "" if said else _clipped(row["reason"])
        rows.append(
            [
                Cell(row["claim"], (row["setting"] or "all settings") * several),
                Cell(_subject(row), row["unit"].replace("Delta_m", "Δm")),
                Cell(row["verdict"], reason),
                size,
                Cell(str(row["tasks"]) if known else DASH),
                Cell(str(row["seeds"]) if known else DASH),
                Cell(f"{agree:.0%}" if math.isfinite(agree) else DASH),
            ]
        )
    head = ["claim", "what", "verdict", "effect", "tasks", "seeds", "same sign"]
    note = (
        "Effects of the claims themselves: of C1 the late gap in the direction of the "
        "early one, of C2 the highest correlation of a factor's contrast with the gap, "
        "of C3 that of conflict with the loss of optimization, of C4 the Δm of the "
        "best optimizer. In brackets 95% intervals over seeds (C3: over tasks). Same "
        "sign: of all tasks and seeds."
    )
    return Table("claims", "What the verdicts rest on", head, rows, note)


def _subject(row: Frame) -> str:
    subject, claim = row["subject"], row["claim"]
    if not subject:
        return "the claim"
    words = SUBJECTS.get((claim, subject)) or subject.replace("_", " ")
    return f"{row['variant']}: {words}" if claim == "C4" else words


def _clipped(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 2] + " …"


def _printed(text: str) -> str:
    """A statement as the page writes numbers and names."""
    text = re.sub(r"(?<![\w-])-(?=[\d.])", MINUS, text).replace("Delta_m", "Δm")
    return text[:1].upper() + text[1:]


def pictures(found: Verdicts, looks: Looks) -> Iterator[Picture]:
    """A picture per claim, of what can be compared."""
    yield from _persistence(found, looks)
    yield from _explanation(found)
    yield from _harm(found)
    yield from _remedy(found, looks)


def _persistence(found: Verdicts, looks: Looks) -> Iterator[Picture]:
    panels, margin = [], _margin(found, "C1")
    for setting in found.settings:
        own = of_setting(found.evidence.gaps, setting)
        known = [one for one in own if not why_not(one)]
        if not known:
            continue
        known.sort(key=lambda one: one.values["late"].mean())
        shown = _spread(known) if len(own) > MOST_ROWS else own
        rows = {one.task: _gap_marks(one) for one in shown}
        title = setting if len(found.settings) > 1 else ""
        panels.append(plots.Panel(title, "gap (% of ST), + MT worse", margin, rows))
    if not panels:
        return
    own = {
        part: looks[UNITARY]._replace(label=f"{part} third")
        for part in ("early", "late")
    }
    text = (
        f"The gap of every task early and late in the common range of training losses, "
        f"percent of the loss that ST has there, with 95% t intervals over seeds. "
        f"{_band(margin, '%')} A gap that persists lies outside in both, on one side."
        f"{_some(found.evidence.gaps)}"
    )
    draw = partial(plots.intervals, panels, own, {"early": True, "late": False})
    yield Picture("claim-1", "C1: does a gap open early and persist?", text, draw)


def _gap_marks(one: Paired) -> list[plots.Mark]:
    if why_not(one):
        return [plots.Mark("late", plots.Interval(0, 0, 0, why_not(one)))]
    early, late = (_interval(paired_t(one.values[part])) for part in ("early", "late"))
    return [plots.Mark("early", early, hollow=True), plots.Mark("late", late)]


def _explanation(found: Verdicts) -> Iterator[Picture]:
    margin = _margin(found, "C2")
    panels, names = [], _names(found.evidence.gaps)
    for factor in found.evidence.factors:
        marks = {
            (one.setting, one.task): _contrast_mark(one)
            for one in factor.tasks
            if not why_not(one) and explain(one, MARGIN).has_gap
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
    looks = {s: look for s, look in _settings(found).items() if s in dict(shown)}
    several = len(found.settings) > 1
    text = (
        f"Tasks with a gap: how much MT differs from ST in a factor at the same "
        f"training loss, turned so that + is the direction that would explain the gap "
        f"(more sharpness or Fisher trace, less coherence, where MT is worse), with "
        f"95% t intervals over seeds. {_band(margin, 'as a log ratio')} A task left of "
        f"its right end is a counterexample. {counted(len(keys), 'task')} of "
        f"{len(found.evidence.gaps)} had a gap to be explained"
        f"{f', {len(shown)} of them are shown' * (len(shown) < len(keys))}."
    )
    legend = dict.fromkeys(looks, False) if several else {}
    columns = max(3, len(drawn))
    draw = partial(plots.intervals, drawn, looks, legend, columns=columns)
    yield Picture("claim-2", "C2: do factors explain the gap?", text, draw)


def _contrast_mark(one: Paired) -> plots.Mark:
    sign = np.sign(one.values["gap"].mean())
    return plots.Mark(
        one.setting, _interval(turned(paired_t(one.values["contrast"]), sign))
    )


def _harm(found: Verdicts) -> Iterator[Picture]:
    if found.of("C3")["verdict"] == NOT_COMPARABLE:
        return
    used = [one for one in found.evidence.affected if not one.reason]
    looks = {
        s: look
        for s, look in _settings(found).items()
        if s in {one.setting for one in used}
    }
    wanted = (
        ("optimization", "training loss (% of ST), + MT worse"),
        ("generalization", "gap (% of ST), + MT worse"),
        ("transfer", "test value (% of ST), + MT better"),
    )
    panels = []
    for outcome, label in wanted:
        row = found.of("C3", outcome)
        by = {s: [one for one in used if one.setting == s] for s in looks}
        panels.append(
            plots.Points(
                outcome,
                label,
                {s: np.array([one.conflict for one in own]) for s, own in by.items()},
                {
                    s: np.array([one.outcomes[outcome] for one in own], float)
                    for s, own in by.items()
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
        f"±{_margin(found, 'C3'):g} conflict predicts nothing. The claim expects "
        f"ρ > 0 on the left and neither of the others."
    )
    draw = partial(plots.correlations, panels, looks, "conflict (− mean cosine)")
    yield Picture("claim-3", "C3: what does conflict go with?", text, draw)


def _remedy(found: Verdicts, looks: Looks) -> Iterator[Picture]:
    own = found.table[(found.table["claim"] == "C4") & (found.table["subject"] != "")]
    own = own[own["variant"].isin(list(looks))]
    known = own[own["effect"].notna()]
    if not len(known[known["subject"] == "transfer"]):
        return
    ranks = known[(known["setting"] == "") & (known["subject"] == "transfer")]
    ranks = ranks.sort_values("effect", ascending=False)["variant"].tolist()
    order = ranks + [v for v in own["variant"].unique() if v not in ranks]
    several = len(found.settings) > 1
    wanted = [(setting, "transfer") for setting in ["", *found.settings] if several]
    wanted += [] if several else [("", "transfer"), ("", "optimization")]
    panels = []
    for setting, subject in wanted:
        rows = own[(own["setting"] == setting) & (own["subject"] == subject)]
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


def _margin(found: Verdicts, claim: str) -> float:
    """What is negligible in a claim; 0 where nothing could be judged."""
    own = found.table[found.table["claim"] == claim]["margin"].dropna()
    return float(own.iloc[0]) if len(own) else 0.0


def _band(margin: float, unit: str) -> str:
    return f"Grey: negligible (up to {margin:.2g} {unit})."


def _spread(ordered: list) -> list:
    """Some of many, from the first to the last."""
    if len(ordered) <= MOST_ROWS:
        return ordered
    at = np.linspace(0, len(ordered) - 1, MOST_ROWS).round().astype(int)
    return [ordered[place] for place in at]


def _some(gaps: Sequence[Paired]) -> str:
    most = max(len(of_setting(gaps, one.setting)) for one in gaps)
    if most <= MOST_ROWS:
        return ""
    return f" Of more than {MOST_ROWS} tasks some, from the lowest late gap up."


def _names(tasks: Sequence[Paired]) -> dict[tuple[str, str], str]:
    """Tasks by setting and name, with the setting where two are called alike."""
    names = [one.task for one in tasks]
    return {
        (one.setting, one.task): one.task
        if names.count(one.task) == 1
        else f"{one.task}, {one.setting}"
        for one in tasks
    }


def _settings(found: Verdicts) -> Mapping[str, plots.Look]:
    """Looks of settings."""
    every = (*OTHERS, SUM, BLACK)
    return {
        setting: every[number % len(every)]._replace(label=setting)
        for number, setting in enumerate(found.settings)
    }
