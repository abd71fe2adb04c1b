"""Impartial multi-task learning, its gradient balance (Liu et al., 2021)."""

import jax.numpy as jnp

from mtl_jax.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_reduction,
    or_mean,
    reduce,
    stateless,
)
from mtl_jax.smto.solvers import equal_projection
from mtl_jax.smto.solvers.solution import Solution, unit
from mtl_jax.types import Array, PyTree


def imtl_g(reduction: str = "sum") -> GramianWeighting:
    """Equal projections on all unit gradients, with weights that sum to 1 (or ``T``).

    ``C y = 1`` with the cosines ``C``, ``w`` proportional to ``y_i / |g_i|``; weights
    may be negative. Opposed gradients cancel. Zero gradients are left out. The
    direction is that of ConFIG. Source: Liu et al., ICLR 2021, Eq. 6.

    Where the ``w`` found sum to 0, no scaling makes them sum to 1: the mean, and a
    residual that tells.
    """
    check_reduction(reduction)

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        _, norms, _, active = unit(gram)
        y, residual = equal_projection.clamped(gram)
        weights = jnp.where(active, y / norms, 0)
        total, size = weights.sum(), jnp.abs(weights).sum()
        balanced = jnp.abs(total) > CANCELLED * size
        weights = weights / jnp.where(balanced, total, 1)
        residual = jnp.where(balanced | (size == 0), residual, jnp.inf)
        weights, residual = or_mean(Solution(weights, residual), gram)
        return Solution(reduce(weights, reduction), residual), state

    return GramianWeighting(stateless, update)


CANCELLED = 1e-5
"""Weights whose sum is less than this part of their sizes sum to rounding."""
