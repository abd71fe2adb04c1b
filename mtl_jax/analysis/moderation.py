"""Moderated t: the variances of like units lend each other degrees of freedom.

With three seeds the variance of a unit (a task, an optimizer) has two degrees of
freedom, and its t interval is wide because the variance is hardly known. Variances of
units that were measured alike scatter about a common one. How much they do is
estimated from their logs, by moments (Smyth, 2004, section 6.2: log s^2 is the log of a
scaled F variable), and the variance of a unit becomes the mean of its own, with its
``d`` degrees of freedom, and the common one, with ``d0``.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import digamma, polygamma

from mtl_jax.analysis.interval import ROUNDING, Mean, paired_t

FEWEST = 3
"""Units that a common variance is estimated from."""

SHARED = 0.15
"""Squared correlation of units that a common variance allows for: they share the runs
of one side."""


def moderated(units: Sequence[np.ndarray]) -> list[Mean]:
    """Average one difference per seed in every unit, with moderated errors.

    The common variance of ``T`` units with ``d`` degrees of freedom each has at most
    ``T d / (1 + 0.15 (T - 1))``: that is what it has where any two correlate by 0.39,
    as those that share a run do in part. Of that ``(T - 2) / (T - 1)`` is used, for
    ``d0`` is itself estimated. Fewer than three units of two seeds or more keep the
    variances of their own. A unit that never differs from 0 has no error, and no part
    in the common variance.

    Args:
      units: one difference per seed ``[n]`` each; ``n`` may differ.

    >>> rng = np.random.default_rng(0)
    >>> means = moderated(rng.normal(size=(20, 3)))
    >>> round(means[0].df, 1), round(means[0].error, 2)
    (9.9, 0.44)
    """
    alone = [paired_t(np.asarray(values, float)) for values in units]
    known = [k for k, mean in enumerate(alone) if mean.error > 0]
    if len(known) < FEWEST:
        return alone
    d = np.array([alone[k].df for k in known])
    variances = np.array([alone[k].error ** 2 * (alone[k].df + 1) for k in known])
    common, d0 = _prior(variances, d)
    count = len(known)
    most = d.sum() / (1 + (count - 1) * SHARED) - d.mean()
    d0 = max(0.0, min(d0, most * (count - 2) / (count - 1)))
    means = list(alone)
    for k, single, df in zip(known, variances, d, strict=True):
        variance = (d0 * common + df * single) / (d0 + df)
        means[k] = alone[k]._replace(
            error=float(variance / (df + 1)) ** 0.5, df=float(d0 + df)
        )
    for k, mean in enumerate(alone):  # alike by chance, which is no certainty
        if mean.error == 0 and abs(mean.value) > ROUNDING and d0 > 0:
            share = d0 / (d0 + mean.df) * common / (mean.df + 1)
            means[k] = mean._replace(error=float(share) ** 0.5, df=d0 + mean.df)
    return means


def _prior(variances: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """Estimate the common variance and its degrees of freedom, maybe infinite."""
    logs = np.log(variances) - digamma(d / 2) + np.log(d / 2)
    spread = float(np.var(logs, ddof=1) - np.mean(polygamma(1, d / 2)))
    if spread <= 0:
        return float(np.average(variances, weights=d)), np.inf
    d0 = 2 * _trigamma_inverse(spread)
    return float(np.exp(logs.mean() + digamma(d0 / 2) - np.log(d0 / 2))), d0


def _trigamma_inverse(value: float) -> float:
    """Solve ``trigamma(x) = value`` by Newton on its reciprocal (Smyth, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-8 * x:
            break
    return x
