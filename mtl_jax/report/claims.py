"""The four claims, over all settings: verdicts, their table, and what they rest on."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from mtl_jax.analysis.claims import Evidence, judge, observe
from mtl_jax.analysis.claims.harm import kind_of
from mtl_jax.analysis.claims.paired import MEASURES
from mtl_jax.analysis.claims.row import MOST_SEEDS, NOT_COMPARABLE
from mtl_jax.analysis.curves import Frame
from mtl_jax.report.findings import BASELINE, Findings
from mtl_jax.report.tables import Table
from mtl_jax.report.text import (
    DASH,
    MINUS,
    Cell,
    counted,
    effect,
    estimate,
    listed,
    p_value,
)

UNITARY = "multi"
STATEMENTS = {
    "C1": "MTL opens a gap in generalization at comparable training loss, early in "
    "training, and it persists.",
    "C2": "Sharpness, gradient covariance, Fisher trace and their like do not explain "
    "that gap consistently.",
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

    def of(
        self, claim: str, subject: str = "", setting: str = "", measure: str = "score"
    ) -> Any:
        """Look up a row of the table."""
        rows = self.table[self.table["claim"] == claim]
        rows = rows[(rows["subject"] == subject) & (rows["setting"] == setting)]
        return rows[rows["measure"] == measure].iloc[0]

    def measures(self, claim: str) -> list[str]:
        """List what a claim is judged on: of the score alone where there is no loss."""
        known = set(self.table[self.table["claim"] == claim]["measure"])
        return [measure for measure in MEASURES if measure in known]


def verdicts(sections: Sequence[Findings]) -> Verdicts:
    """Judge the claims by the records of all settings."""
    df, *others = (findings.records for findings in sections)
    if others:  # what is known of the records of one is kept by `memo`
        df = pd.concat([df, *others], ignore_index=True)
    evidence = observe(df, BASELINE, UNITARY)
    table = judge(evidence)
    settings = [findings.setting for findings in sections]
    place = {name: number for number, name in enumerate(["", *settings])}
    order: dict[str, Any] = {"claim": str, "setting": place.__getitem__}
    order |= {"measure": MEASURES.index, "subject": bool}
    table = table.sort_values(
        [*order], key=lambda c: c.map(order[c.name]), kind="stable"
    )
    tuned = [findings.setting for findings in sections if findings.choice.swept]
    return Verdicts(table.reset_index(drop=True), evidence, settings, tuned)


def section(judged: Verdicts) -> dict[str, Any]:
    """Collect what the template says before any picture."""
    told = [
        {
            "id": claim,
            "title": STATEMENTS[claim],
            "verdict": judged.of(claim)["verdict"],
            "text": " ".join(
                _told(judged, judged.of(claim, measure=measure))
                for measure in judged.measures(claim)
            ),
        }
        for claim in STATEMENTS
    ]
    rows = [judged.of(claim, "", "", measure) for claim in STATEMENTS
            for measure in judged.measures(claim)]  # fmt: skip
    is_judged = any(row["verdict"] != NOT_COMPARABLE for row in rows)
    reasons: dict[str, list[str]] = {}
    for claim in STATEMENTS:
        why = _clipped(judged.of(claim)["reason"])
        reasons.setdefault(why, []).append(claim)
    nothing = "; ".join(f"{listed(claims)}: {why}" for why, claims in reasons.items())
    return {
        "told": told if is_judged else [],
        "nothing": f"Not comparable. {nothing}.",
        "note": _note(judged),
        "prefix": "",
        "tables": {"claims": _table(judged)} if is_judged else {},
    }


def _told(judged: Verdicts, row: Frame) -> str:
    """Tell what a measure says of a claim, in a sentence or three."""
    on = f"On the test {row['measure']}" * (len(judged.measures(row["claim"])) > 1)
    if row["verdict"] == NOT_COMPARABLE:
        why = _clipped(row["reason"])
        return _printed(f"{on}: not comparable, {why}." if on else f"{why}.")
    verdict = f"{on}: {row['verdict']}. " if on else ""
    but = f" But: {_clipped(row['reason'])}." * bool(row["reason"])
    return _printed(verdict + SENTENCES[row["claim"]](judged, row) + needs(row) + but)


def _of_gaps(judged: Verdicts, row: Frame) -> str:
    del judged
    return (
        f"In {row['supporting']} of {counted(row['tasks'], 'task')} a gap opens early "
        f"and persists (smallest {p_value(row['p'])} after Holm over tasks), in "
        f"{row['opposing']} it is absent, fades or turns; in the direction of the "
        f"early gap, the late one is on average {_effect(row, 1)} {row['unit']}."
    )


def _of_factors(judged: Verdicts, row: Frame) -> str:
    table = judged.table
    parts = table[(table["claim"] == "C2") & (table["measure"] == row["measure"])]
    parts = parts[(parts["setting"] == row["setting"]) & (parts["subject"] != "")]
    known = parts[parts["verdict"] != NOT_COMPARABLE]
    each = [
        f"{_words(part['subject'])} not as expected in {part['supporting']} and as "
        f"expected in {part['opposing']} ({part['verdict']})"
        for _, part in known.iterrows()
    ]
    return (
        f"Of tasks with a gap, MT differs from ST at the same training loss in "
        f"{'; '.join(each)}."
    )


def _of_conflict(judged: Verdicts, row: Frame) -> str:
    kind = kind_of(judged.evidence.affected)
    what = {"sets": "auxiliary sets of a target", "tasks": "tasks of one setting"}[kind]
    parts = [
        f"{name} {_effect(part, 2)} ({part['verdict']})"
        for name in ("optimization", "generalization", "transfer")
        for part in [judged.of("C3", name, row["setting"])]
    ]
    return (
        f"Units are {what} ({row['tasks']}); conflict should go with the loss of "
        f"optimization alone. Rank correlations: {'; '.join(parts)}."
    )


def _of_optimizers(judged: Verdicts, row: Frame) -> str:
    table = judged.table
    parts = table[(table["claim"] == "C4") & (table["measure"] == row["measure"])]
    parts = parts[(parts["setting"] == row["setting"]) & (parts["variant"] != "")]
    transfer = parts[parts["subject"] == "transfer"]
    known = transfer[transfer["effect"].notna()].sort_values("effect")
    idle = transfer[transfer["verdict"] == "had no effect"]["variant"].tolist()
    nothing = f" {listed(idle)} had no effect." if idle else ""
    change = (parts[parts["subject"] == "optimization"]["supporting"] > 0).sum()
    best = known.iloc[-1]
    return (
        f"Of {counted(len(known), 'optimizer')}, {row['opposing']} reliably improve "
        f"transfer, {row['supporting']} surely do not, and {change} change "
        f"optimization; the best is {best['variant']}: {_effect(best, 2)} "
        f"{best['unit']}.{nothing}"
    )


SENTENCES = {
    "C1": _of_gaps,
    "C2": _of_factors,
    "C3": _of_conflict,
    "C4": _of_optimizers,
}


def needs(row: Frame) -> str:
    """Tell how many seeds, tasks or sets would decide what is undecided."""
    if not row["needed"]:
        return ""
    if row["needed"] >= MOST_SEEDS:
        return (
            f" More than {MOST_SEEDS:,} {row['needed_of']} would be needed to decide."
        )
    return (
        f" As things are, about {row['needed']} {row['needed_of']} would decide it "
        f"(by the standard deviations measured here)."
    )


def _effect(row: Frame, digits: int) -> str:
    if not math.isfinite(row["effect"]):
        return "not comparable"
    return estimate(row["effect"], row["low"], row["high"], digits)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _note(judged: Verdicts) -> str:
    text = (
        "Verdicts follow rules that were fixed beforehand (mtl_jax.analysis.claims "
        "has them), on the test score, as in the paper, and on the test loss: the mark "
        "is that of the score. Differences are paired by seed, with 95% intervals of "
        "which variances are moderated over tasks or optimizers, and count only beyond "
        "what is negligible."
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
        whole = judged.of(row["claim"], "", row["setting"], row["measure"])
        said = row["subject"] and row["reason"] == whole["reason"]
        reason = "" if said else _clipped(row["reason"])
        rows.append(
            [
                Cell(row["claim"], (row["setting"] or "all settings") * several),
                Cell(_subject(row), row["unit"].replace("Delta_m", "Δm")),
                Cell(row["measure"]),
                Cell(row["verdict"], reason + needs(row)),
                size,
                Cell(str(row["tasks"]) if known else DASH),
                Cell(str(row["seeds"]) if known else DASH),
                Cell(f"{agree:.0%}" if math.isfinite(agree) else DASH),
            ]
        )
    head = ["claim", "what", "on", "verdict", "effect", "tasks", "seeds", "same sign"]
    note = (
        "Effects of the claims themselves: of C1 the late gap in the direction of the "
        "early one (+ is MT worse), of C2 the correlation over tasks of a factor's "
        "contrast with the gap, of C3 that of conflict with the loss of optimization, "
        "of C4 the Δm of the best optimizer. In brackets 95% intervals over seeds (C2 "
        "and C3: over tasks or sets). Same sign: of all tasks and seeds."
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
