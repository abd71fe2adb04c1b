"""The four claims, over all settings: verdicts, their table, and what they rest on."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from mtl_jax.analysis.claims import Evidence, judge, observe
from mtl_jax.analysis.claims.row import NOT_COMPARABLE
from mtl_jax.analysis.curves import Frame
from mtl_jax.report.findings import BASELINE, Findings
from mtl_jax.report.tables import Table
from mtl_jax.report.text import DASH, MINUS, Cell, effect, listed

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
MOST_LETTERS = 220
"""Letters of a reason, at most."""


class Verdicts(NamedTuple):
    """Verdicts on the claims, with their evidence."""

    table: Frame
    """`analysis.claims`, by claim and setting: all together first, the claim first."""
    evidence: Evidence
    settings: list[str]
    tuned: list[str]
    """Settings of which learning rates were selected on a sweep."""

    def of(self, claim: str, subject: str = "", setting: str = "") -> Any:
        """Look up a row of the table."""
        rows = self.table[self.table["claim"] == claim]
        rows = rows[(rows["subject"] == subject) & (rows["setting"] == setting)]
        return rows.iloc[0]


def verdicts(sections: Sequence[Findings]) -> Verdicts:
    """Judge the claims by the records of all settings."""
    df = pd.concat([findings.records for findings in sections], ignore_index=True)
    evidence = observe(df, BASELINE, UNITARY)
    table = judge(evidence)
    settings = [findings.setting for findings in sections]
    place = {name: number for number, name in enumerate(["", *settings])}
    order = {"claim": str, "setting": place.__getitem__, "subject": bool}
    table = table.sort_values(
        [*order], key=lambda c: c.map(order[c.name]), kind="stable"
    )
    tuned = [findings.setting for findings in sections if findings.choice.swept]
    return Verdicts(table.reset_index(drop=True), evidence, settings, tuned)


def section(judged: Verdicts) -> dict[str, Any]:
    """Collect what the template says before any picture."""
    rows = [judged.of(claim) for claim in STATEMENTS]
    told = [
        {
            "id": row["claim"],
            "title": STATEMENTS[row["claim"]],
            "verdict": row["verdict"],
            "text": _told(row),
        }
        for row in rows
    ]
    is_judged = any(row["verdict"] != NOT_COMPARABLE for row in rows)
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(_clipped(row["reason"]), []).append(row["claim"])
    nothing = "; ".join(f"{listed(claims)}: {why}" for why, claims in reasons.items())
    return {
        "told": told if is_judged else [],
        "nothing": f"Not comparable. {nothing}.",
        "note": _note(judged),
        "prefix": "",
        "tables": {"claims": _table(judged)} if is_judged else {},
    }


def _told(row: Frame) -> str:
    if row["verdict"] == NOT_COMPARABLE:
        return _printed(_clipped(row["reason"]) + ".")
    but = f" But: {_clipped(row['reason'])}." * bool(row["reason"])
    return _printed(row["statement"] + but)


def _note(judged: Verdicts) -> str:
    text = (
        "Verdicts follow rules that were fixed beforehand (mtl_jax.analysis.claims "
        "has them): differences are paired by seed, with 95% intervals, and count only "
        "beyond what is negligible; C3 correlates over tasks."
    )
    others = [name for name in judged.settings if name not in judged.tuned]
    if others:
        which = "the runs" if not judged.tuned else listed(others)
        text += (
            f" Learning rates of {which} were not selected on a sweep, so variants may "
            f"be tuned unequally: take these verdicts as provisional."
        )
    return text


def _table(judged: Verdicts) -> Table:
    """A row per claim, setting and subject."""
    several = len(judged.settings) > 1
    shown = judged.table if several else judged.table[judged.table["setting"] != ""]
    rows = []
    for _, row in shown.iterrows():
        digits = 2 if "correlation" in row["unit"] or "Delta" in row["unit"] else 1
        value, low, high = (round(row[end], 9) for end in ("effect", "low", "high"))
        size = effect(value, low, high, digits, "" if math.isfinite(value) else " ")
        agree, known = row["sign_consistency"], row["verdict"] != NOT_COMPARABLE
        whole = judged.of(row["claim"], "", row["setting"])
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
