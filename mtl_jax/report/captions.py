"""Sentences that several captions share."""

import math

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.findings import Findings
from mtl_jax.report.text import estimate, listed


def rho(table: Frame, setting: str, variant: str, **where: str) -> str:
    """Write Spearman's ρ, ``ρ = −0.06 [−0.53, 0.20]``, or why there is none."""
    if not len(table):
        return "not comparable"
    rows = table[(table["setting"] == setting) & (table["variant"] == variant)]
    rows = rows[rows["statistic"] == "spearman"]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    row = rows.iloc[0]
    if not math.isfinite(row["value"]):
        return f"not comparable: {row['reason']}"
    return f"ρ = {estimate(row['value'], row['low'], row['high'], 2, sign=False)}"


def lines(findings: Findings) -> str:
    """Tell what lines and bands stand for."""
    lost = ", dotted up to a cross: a run that diverged" * bool(len(findings.diverged))
    return f"Thick lines: mean over seeds; thin: every seed{lost}."


def selection(findings: Findings, shown: list[str]) -> str:
    """Tell how tasks were chosen for the panels; empty where all are shown."""
    if len(shown) == len(findings.tasks):
        return ""
    order = "the first"
    if findings.versus:
        variant = next(iter(findings.versus))
        order = f"from the lowest to the highest mean gap of {variant}"
    number = f"Of {len(findings.tasks)} tasks {len(shown)} are shown"
    return f"{number} ({listed(shown)}): {order}."


def whole_runs(findings: Findings, variants: list[str]) -> str:
    """Name the runs behind values of whole runs, where tasks have their own."""
    apart = [v for v in variants if len(findings.cells[v]) > 1]
    cells = [f"{v} {findings.run_cell(v)}" for v in apart if findings.run_cell(v)]
    if not cells:
        return ""
    return (
        f"Tasks were chosen apart: what is of whole runs is of those with the learning "
        f"rate and batch size that most tasks chose ({listed(cells)}), what is of a "
        f"task, of its own. "
    )
