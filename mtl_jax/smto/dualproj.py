"""Projection of the mean gradient onto the dual cone (Lopez-Paz & Ranzato, 2017)."""

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_reduction,
    or_mean,
    reduce,
    stateless,
)
from mtl_jax.smto.solvers import dual_cone
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution, unit_gramian
from mtl_jax.types import Array, PyTree


def dualproj(reduction: str = "sum") -> GramianWeighting:
    """Find the direction nearest to the mean gradient that conflicts with no task.

    ``w = argmin over v >= 1 / T of v' G v``. The residual is that of
    `dual_cone.project`, or what rounding leaves open of the direction, if that is more.
    Source: Lopez-Paz & Ranzato, NeurIPS 2017 (gradient episodic memory), Eq. 11, with
    all tasks present.
    """
    check_reduction(reduction)

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        norms = unit_gramian(gram).norms
        mean = jnp.full_like(norms, 1 / len(norms))
        projected = settle(lambda problem: dual_cone.project(problem, mean), gram)
        weights, residual = or_mean(projected, gram)
        return Solution(reduce(weights, reduction), residual), state

    return GramianWeighting(stateless, update)
