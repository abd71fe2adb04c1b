"""Projection of the mean gradient onto the dual cone (Lopez-Paz & Ranzato, 2017)."""

import jax.numpy as jnp

from mtl_jax.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_reduction,
    or_mean,
    reduce,
    stateless,
)
from mtl_jax.smto.solvers import dual_cone
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array, PyTree


def dualproj(reduction: str = "sum") -> GramianWeighting:
    """The direction nearest to the mean gradient that conflicts with no task.

    ``w = argmin over v >= 1 / T of v' G v``. Source: Lopez-Paz & Ranzato, NeurIPS 2017
    (gradient episodic memory), Eq. 11, with all tasks present.
    """
    check_reduction(reduction)

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        mean = jnp.full(gram.shape[0], 1 / gram.shape[0], gram.dtype)
        weights, residual = or_mean(dual_cone.project(gram, mean), gram)
        return Solution(reduce(weights, reduction), residual), state

    return GramianWeighting(stateless, update)
