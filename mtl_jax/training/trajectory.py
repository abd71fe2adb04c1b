"""The steps of a run at which it is looked at."""

import numpy as np

from mtl_jax.types import Array, InputError

LAST = 2**31 - 1
"""Step that an int32, as which devices count them, still holds."""
MOST = 10**6
"""Points of either kind, far above what anybody looks at."""


def points(steps: int, dense: int, count: int) -> np.ndarray:
    """Return all steps up to ``dense``, then ``count`` log-spaced ones.

    Always holds 0 and ``steps``; sorted, without repetition.

    >>> points(steps=1000, dense=3, count=6)
    array([   0,    1,    2,    3,   10,   31,   98,  313, 1000])

    Raises:
      InputError: a number is out of range.
    """
    if not 1 <= steps <= LAST:
        raise InputError(f"steps is {steps}; train for at least 1, at most {LAST}.")
    if not (0 <= dense <= MOST and 1 <= count <= MOST):
        raise InputError(
            f"trajectory.dense is {dense} and trajectory.count {count}; "
            f"they must be at least 0 and 1, and at most {MOST}."
        )
    early = np.arange(min(dense, steps) + 1)
    late = np.geomspace(max(early[-1], 1), steps, count).round().astype(np.int64)
    return np.union1d(early, np.append(late, steps))


def boundaries(points: np.ndarray, steps: int, chunk: int) -> np.ndarray:
    """Return steps at which the loop stops: all points, and every ``chunk``."""
    return np.union1d(points, np.arange(0, steps, chunk))


def levels_reached(lowest: Array, levels: tuple[float, ...]) -> int:
    """Count the loss levels that the tasks' lowest losses have reached, in all."""
    return int((np.asarray(lowest)[..., None] <= np.asarray(levels)).sum())
