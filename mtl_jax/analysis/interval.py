"""Means with their t intervals, and what an interval says of a quantity.

Differences are decided at `LEVEL`, by two-sided p values: one is at most `ALPHA`
exactly where the interval leaves the limit out. That something is negligible is decided
by two one-sided tests, each at `ALPHA` (Schuirmann, 1987).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
ALPHA = 0.05

ROUNDING = 1e-9
"""Rounding error of means of percentages, log ratios and correlations."""


class Mean(NamedTuple):
    """An estimate whose error is t distributed; NaN where it is not known."""

    value: float
    error: float
    """Standard error; 0 where all values are alike."""
    df: float
    """Degrees of freedom, infinite for a normal error."""

    @property
    def low(self) -> float:
        """Return the lower end of the interval."""
        return self.value - self.reach()

    @property
    def high(self) -> float:
        """Return the upper end of the interval."""
        return self.value + self.reach()

    def reach(self, tail: float = (1 - LEVEL) / 2) -> float:
        """Return how far a one-sided limit with this error lies from the value."""
        if not self.error > 0:
            return self.error
        return float(stdtrit(self.df, 1 - tail)) * self.error


NO_MEAN = Mean(np.nan, np.nan, np.nan)


def paired_t(values: np.ndarray) -> Mean:
    """Average one difference per seed ``[n]``; the error is NaN for n = 1.

    >>> mean = paired_t(np.array([1.0, 2.0, 3.0]))
    >>> round(mean.low, 3), mean.value, round(mean.high, 3)
    (-0.484, 2.0, 4.484)
    """
    count = len(values)
    if not count:
        return NO_MEAN
    value = float(np.mean(values))
    if count < 2:
        return Mean(value, np.nan, np.nan)
    error = float(np.std(values, ddof=1)) / count**0.5
    return Mean(value, error if error > ROUNDING else 0.0, count - 1.0)


def mean_of(means: Sequence[Mean]) -> Mean:
    """Average independent means, such as of settings (Welch-Satterthwaite)."""
    if not means:
        return NO_MEAN
    value = float(np.mean([mean.value for mean in means]))
    variances = np.array([(mean.error / len(means)) ** 2 for mean in means])
    if not variances.sum() > 0:
        return Mean(value, float(variances.sum()), 1.0)
    shares = variances / variances.sum()
    df = 1 / float(np.sum(shares**2 / [mean.df for mean in means]))
    return Mean(value, float(variances.sum() ** 0.5), df)


def p_above(mean: Mean, limit: float = 0.0) -> float:
    """Compute the two-sided p of a mean above the limit; 1 where it is not above it."""
    distance = mean.value - limit
    if np.isnan(mean.error) or not distance > ROUNDING:
        return 1.0
    if mean.error == 0:
        return 0.0
    return float(2 * stdtr(mean.df, -distance / mean.error))


def p_below(mean: Mean, limit: float = 0.0) -> float:
    """Compute the two-sided p of a mean below the limit; 1 where it is not below it."""
    return p_above(turned(mean, -1), -limit)


def p_nonzero(mean: Mean) -> float:
    """Compute the two-sided p of a difference from 0."""
    return min(p_above(mean), p_below(mean))


def turned(mean: Mean, sign: float) -> Mean:
    """Turn a mean into that of the opposite values, where ``sign`` is negative."""
    return mean._replace(value=sign * mean.value)


def negligible(mean: Mean, margin: float, tail: float = ALPHA) -> bool:
    """Tell whether both one-sided tests say that the mean is within the margin.

    Args:
      mean: a difference.
      margin: from which on it matters.
      tail: level of either test.
    """
    return abs(mean.value) + mean.reach(tail) < margin


def holm(p: Sequence[float]) -> list[float]:
    """Correct p values for the number of tests, so that few are wrong (Holm, 1979).

    The k-th smallest of n is multiplied by ``n - k + 1``; none becomes smaller than one
    that was smaller before.

    >>> holm([0.25, 0.01, 0.02])
    [0.25, 0.03, 0.04]
    """
    order = np.argsort(p, kind="stable")
    adjusted, highest = np.ones(len(p)), 0.0
    for place, k in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[k]))
        adjusted[k] = highest
    return adjusted.tolist()
