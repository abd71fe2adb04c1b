"""The steps of a run at which it is looked at."""

import math

import numpy as np

from mtl_jax.types import Array, InputError

LAST = 2**31 - 1
"""Step that an int32, as which devices count them, still holds."""
MOST = 10**6
"""Points of either kind, far above what anybody looks at."""


def points(steps: int, dense: int, count: int, spacing: float = 0.0) -> np.ndarray:
    """Return all steps up to ``dense``, ``count`` log-spaced ones, and every so many.

    Always holds 0 and ``steps``; sorted, without repetition.

    >>> points(steps=1000, dense=3, count=6)
    array([   0,    1,    2,    3,   10,   31,   98,  313, 1000])
    >>> points(steps=10, dense=0, count=0, spacing=2.5)
    array([ 0,  2,  5,  8, 10])

    Args:
      steps: of the runs.
      dense: steps at the beginning.
      count: of log-spaced steps after these.
      spacing: steps from one of the even ones to the next, rounded each; 0 for none.

    Raises:
      InputError: a number is out of range.
    """
    if not 1 <= steps <= LAST:
        raise InputError(f"steps is {steps}; train for at least 1, at most {LAST}.")
    if not (0 <= dense <= MOST and 0 <= count <= MOST):
        raise InputError(
            f"trajectory.dense is {dense} and trajectory.count {count}; "
            f"they must not be negative, and at most {MOST}."
        )
    if spacing and not 1 <= spacing < math.inf:
        raise InputError(
            f"trajectory.epochs puts points {spacing:g} steps apart; they must be at "
            f"least 1."
        )
    early = np.arange(min(dense, steps) + 1)
    late = np.geomspace(max(early[-1], 1), steps, count)
    even = spacing * np.arange(1, steps / spacing + 1) if spacing else np.empty(0)
    later = np.concatenate([late, even]).round().astype(np.int64)
    return np.union1d(early, np.append(later[later < steps], steps))


def boundaries(
    points: np.ndarray, steps: int, chunk: int, others: tuple[int, ...] = ()
) -> np.ndarray:
    """Return steps at which the loop stops: points, every ``chunk``, and others."""
    return np.union1d([*points, *others], np.arange(0, steps, chunk)).astype(np.int64)


def levels_reached(lowest: Array, levels: tuple[float, ...]) -> int:
    """Count the loss levels that the tasks' lowest losses have reached, in all."""
    return int((np.asarray(lowest)[..., None] <= np.asarray(levels)).sum())
