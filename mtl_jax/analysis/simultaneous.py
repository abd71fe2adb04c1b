"""Bands that hold a whole curve of means, not every point by itself."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import stdtr

from mtl_jax.analysis.interval import ALPHA, Mean
from mtl_jax.analysis.moderation import moderated


def bands(
    units: Sequence[np.ndarray], *, simultaneous: bool = True
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Average curves of differences ``[n, P]`` over seeds, with 95% bands.

    The variance at a point is moderated over the units. The critical value of a band is
    that of the tube formula (Sun and Loader, 1994): the standardised residuals of the
    seeds run along a path on the unit sphere, and the longer it is, the more points the
    curve has that are independent of each other. The path of few seeds is itself a
    draw, so that of ``d`` degrees of freedom counts ``1 + 6 / d`` times: as often as
    bands of few seeds need by simulation. The critical value is never more than
    Bonferroni's.

    Args:
      units: curves of like units, NaN where a seed has no value.
      simultaneous: False for intervals that hold point by point.

    Returns:
      Mean, low and high ``[P]`` of every unit; no band where fewer than two seeds have
      a value.
    """
    by_point = [
        moderated([curve[np.isfinite(curve[:, p]), p] for curve in units])
        for p in range(units[0].shape[1])
    ]
    drawn = []
    for unit, curve in enumerate(units):
        means = [means[unit] for means in by_point]
        reach = np.array([mean.reach() for mean in means])
        if simultaneous:
            degrees = np.isfinite(curve).sum(axis=0) - 1
            few = 6 / max(len(curve) - 1, 1)
            reach = _reach(means, degrees, (1 + few) * path_length(curve))
        value = np.array([mean.value for mean in means])
        drawn.append((value, value - reach, value + reach))
    return drawn


def path_length(curve: np.ndarray) -> float:
    """Measure the path of the standardised residuals ``[n, P]`` on the unit sphere.

    >>> seeds, x = np.arange(3.0)[:, None], np.linspace(0, 1, 5)
    >>> round(path_length(seeds * x), 3), round(path_length(np.sin(9 * seeds * x)), 1)
    (0.0, 6.4)
    """
    length = 0.0
    for first, second in zip(curve.T[:-1], curve.T[1:], strict=True):
        shared = np.isfinite(first) & np.isfinite(second)
        ends = [_direction(column[shared]) for column in (first, second)]
        if ends[0].any() and ends[1].any():
            length += float(np.arccos(np.clip(ends[0] @ ends[1], -1, 1)))
    return length


def _direction(values: np.ndarray) -> np.ndarray:
    residual = values - values.mean() if len(values) else values
    size = float(np.linalg.norm(residual))
    return residual / size if size > 0 else residual


def _reach(means: Sequence[Mean], degrees: np.ndarray, length: float) -> np.ndarray:
    """Half width of the band at every point.

    In the far tails the common variance counts half: units that differ in theirs are
    seen there first.
    """
    cache: dict[float, float] = {}
    reach = np.full(len(means), np.nan)
    for point, (mean, few) in enumerate(zip(means, degrees, strict=True)):
        if not mean.error > 0:
            reach[point] = mean.error
            continue
        df = (mean.df + few) / 2
        if df not in cache:
            cache[df] = _critical(df, length, len(means))
        reach[point] = cache[df] * mean.error
    return reach


def _critical(df: float, length: float, points: int) -> float:
    """Critical value: the tube's, or Bonferroni's where that is lower."""

    def excess(t: float) -> float:
        single = 2 * stdtr(df, -t)
        tube = single + length / np.pi * (1 + t**2 / df) ** (-df / 2)
        return float(min(tube, points * single)) - ALPHA

    return float(root_scalar(excess, bracket=(1.0, 1e6)).root)
