"""A row of the table of claims, and the words and numbers in it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.analysis.claims.interval import LEVEL, Mean

SUPPORTED = "supported"
CONTRADICTED = "contradicted"
INCONCLUSIVE = "inconclusive"
NOT_COMPARABLE = "not comparable"


class ClaimRow(NamedTuple):
    """A verdict with what it rests on."""

    claim: str
    """``C1`` to ``C4``."""
    setting: str
    """Empty: all settings together."""
    variant: str
    subject: str
    """Part or factor that is judged; empty: the claim itself."""
    effect: float = np.nan
    unit: str = ""
    low: float = np.nan
    high: float = np.nan
    level: float = LEVEL
    margin: float = np.nan
    """Negligible effect, in its unit."""
    tasks: int = 0
    """Number of tasks that could be compared."""
    seeds: int = 0
    """Common ones, of the task with the fewest."""
    sign_consistency: float = np.nan
    p: float = np.nan
    """Adjusted within the claim (`claims` says how)."""
    verdict: str = NOT_COMPARABLE
    statement: str = ""
    reason: str = ""
    """Cause why something could not be compared, or what keeps from a verdict."""


def with_mean(row: ClaimRow, mean: Mean, unit: str, margin: float) -> ClaimRow:
    """Add the effect to a row."""
    return row._replace(
        effect=mean.value, low=mean.low, high=mean.high, unit=unit, margin=margin
    )


def verdict(supported: bool, contradicted: bool) -> str:
    """Choose the verdict; from neither and from both, nothing follows."""
    if supported == contradicted:
        return INCONCLUSIVE
    return SUPPORTED if supported else CONTRADICTED


def not_comparable(row: ClaimRow, why: str) -> ClaimRow:
    """Replace the verdict by a reason."""
    return row._replace(
        verdict=NOT_COMPARABLE, reason=why, statement=f"Not comparable: {why}."
    )


def unless_opposed(row: ClaimRow, settings: Sequence[ClaimRow]) -> ClaimRow:
    """Make the row of all settings inconclusive where one says the opposite."""
    opposite = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED}.get(row.verdict)
    against = [result.setting for result in settings if result.verdict == opposite]
    if not against:
        return row
    judged = [result for result in settings if result.verdict != NOT_COMPARABLE]
    why = f"{opposite} in {len(against)} of {counted(len(judged), 'setting')}"
    why = f"{why} ({', '.join(against)}), {row.verdict} over all"
    reason = "; ".join(filter(None, [why, row.reason]))
    return row._replace(verdict=INCONCLUSIVE, reason=reason)


def written(mean: Mean, unit: str) -> str:
    """Write an effect with its interval in words."""
    number = f"{mean.value:+.3g} {unit}"
    if np.isnan(mean.low):
        return f"{number} (no interval)"
    return f"{number} (95% interval {mean.low:+.3g} to {mean.high:+.3g})"


def p_written(p: float) -> str:
    """Write a p value in words."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def counted(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
