"""Conflict-averse gradient descent (Liu et al., 2021)."""

import jax.numpy as jnp

from mtl_jax.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_choice,
    check_range,
    check_reduction,
    or_mean,
    reduce,
    stateless,
)
from mtl_jax.smto.solvers import simplex
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array, PyTree

RESCALES = (0, 1, 2)


def cagrad(
    c: float = 0.4, rescale: int = 1, reduction: str = "sum"
) -> GramianWeighting:
    """The best worst-case improvement within ``c |g0|`` of the mean gradient ``g0``.

    ``w = argmin over the simplex of <g_w, g0> + c |g0| |g_w|`` with
    ``g_w = sum_i w_i g_i``; direction ``g0 + c |g0| g_w / |g_w|``, divided by
    ``1 + c^2`` (rescale 1), ``1 + c`` (2) or nothing (0). Where ``g_w = 0`` there is
    no correction. Source: Liu et al., NeurIPS 2021, Algorithm 1 and Eq. 3.

    Raises:
      InputError: ``c`` is negative or not finite; unknown rescale or reduction.
    """
    check_reduction(reduction)
    c = check_range("cagrad's c", c, 0, float("inf"))
    rescale = check_choice("cagrad's rescale", rescale, RESCALES)
    length = (1.0, 1 + c**2, 1 + c)[rescale]

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        weights, residual = or_mean(simplex.min_cone(gram, c), gram)
        mean = jnp.full_like(weights, 1 / gram.shape[0])
        norm = simplex.norm(gram, weights)
        found = norm > 0
        correction = simplex.norm(gram, mean) / jnp.where(found, norm, 1)
        total = mean + c * jnp.where(found, correction, 0) * weights
        return Solution(reduce(total / length, reduction), residual), state

    return GramianWeighting(stateless, update)
