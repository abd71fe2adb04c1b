"""Distance of a task's parameters from where they started."""

from typing import Any

import jax
import numpy as np

from mtl_jax.metrics.factors.contract import Measured, PathFactor
from mtl_jax.types import Params, PyTree


def distance_from_start() -> PathFactor:
    """Measure ``distance_from_start``: the l2 norm of what the parameters moved by."""

    def measure(start: Params, params: Params) -> dict[str, Measured]:
        trunk = _squared_distances(start.shared, params.shared, axes=1)[:, None]
        heads = _squared_distances(start.heads, params.heads, axes=2)
        squares: Any = np.stack(np.broadcast_arrays(trunk + heads, trunk), axis=-1)
        return {"distance_from_start": Measured(np.sqrt(squares))}

    return measure


def _squared_distances(start: PyTree, now: PyTree, axes: int) -> Any:
    """Sum squares over all but some leading axes, in float64."""

    def of_leaf(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        apart = np.subtract(b, a, dtype=np.float64)
        return np.square(apart).sum(axis=tuple(range(axes, apart.ndim)))

    squares = jax.tree.leaves(jax.tree.map(of_leaf, start, now))
    return sum(squares, start=np.zeros((1,) * axes))
