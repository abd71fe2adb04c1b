"""A row of the table of claims."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from mtl_jax.analysis.interval import ALPHA, LEVEL, Mean

SUPPORTED = "supported"
CONTRADICTED = "contradicted"
INCONCLUSIVE = "inconclusive"
NO_EFFECT = "had no effect"
NOT_COMPARABLE = "not comparable"

MOST_SEEDS = 1_000
"""Number of seeds from which on nobody would train them."""


class ClaimRow(NamedTuple):
    """A verdict with what it rests on."""

    claim: str
    """``C1`` to ``C4``."""
    setting: str
    """Empty: all settings together."""
    variant: str
    measure: str
    """``score`` or ``loss``, of test data."""
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
    """Number of units that could be compared: tasks, groups of tasks, optimizers."""
    seeds: int = 0
    """Common ones, of the unit with the fewest."""
    sign_consistency: float = np.nan
    p: float = np.nan
    """Adjusted within the claim (`claims` says how)."""
    supporting: int = 0
    """Units that speak for it."""
    opposing: int = 0
    """Units that speak against it."""
    verdict: str = NOT_COMPARABLE
    needed: int = 0
    """About how many would decide what is undecided, of ``needed_of``; 0 where nothing
    is, or where it cannot be told."""
    needed_of: str = ""
    """``seeds``, ``tasks`` or ``sets``."""
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
    return row._replace(verdict=NOT_COMPARABLE, reason=why)


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


def seeds_to_decide(means: Sequence[Mean], seeds: int, margin: float) -> int:
    """Estimate the seeds that would decide half of what is undecided.

    With them, by the standard deviations that were measured, an interval around the
    mean as it is now would leave out 0 or lie within the margin, whichever needs less.
    0 where nothing is known, `MOST_SEEDS` where it is more.

    >>> seeds_to_decide([Mean(1.0, 2.0, 2.0)], 3, 5.0)
    5
    """
    counts = []
    for mean in means:
        if not mean.error > 0:
            continue
        distance = max(abs(mean.value), margin - abs(mean.value))
        tries = np.arange(2, MOST_SEEDS + 1)
        df = mean.df + tries - seeds
        tail = ALPHA / 2 if abs(mean.value) * 2 > margin else ALPHA
        reach = stdtrit(np.maximum(df, 1), 1 - tail) * mean.error
        enough = reach * np.sqrt(seeds / tries) < distance
        counts.append(int(tries[enough][0]) if enough.any() else MOST_SEEDS)
    return int(np.median(counts)) if counts else 0


def counted(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
