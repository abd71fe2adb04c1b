"""Estimates of the time that work will take, from what like work has taken."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls


class Pace(NamedTuple):
    """Seconds a trial: a part that is always there, and one that grows."""

    fixed: float
    """Seconds of a trial of no examples: mostly compilation."""
    each: float
    """Seconds of an example."""


def pace(costs: Sequence[float], seconds: Sequence[float]) -> Pace:
    """Fit the pace of finished trials, neither part negative.

    >>> fixed, each = pace([100, 300], [3, 5])
    >>> round(fixed, 6), round(each, 6)
    (2.0, 0.01)

    Args:
      costs: examples of every finished trial, at least one trial.
      seconds: that it took.
    """
    size = np.asarray(costs, float)
    if len(set(costs)) < 2:  # nothing tells the parts apart: take halves
        return Pace(
            float(np.mean(seconds)) / 2, float(np.sum(seconds) / size.sum()) / 2
        )
    scale = size.max()
    (fixed, each), _ = nnls(
        np.stack([np.ones(len(size)), size / scale], axis=1), np.asarray(seconds)
    )
    return Pace(float(fixed), float(each / scale))


def seconds(pace: Pace, costs: Sequence[float]) -> float:
    """Estimate the seconds of trials that are still to come."""
    return sum(pace.fixed + pace.each * cost for cost in costs)


def duration(seconds: float) -> str:
    """Write a duration for people.

    >>> duration(40), duration(600), duration(9000)
    ('40 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
