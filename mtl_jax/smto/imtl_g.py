"""Impartial multi-task learning, its gradient balance (Liu et al., 2021)."""

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_reduction,
    or_mean,
    reduce,
    stateless,
)
from mtl_jax.smto.solvers import equal_projection
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution, UnitGramian, accurate
from mtl_jax.types import Array, PyTree


def imtl_g(reduction: str = "sum") -> GramianWeighting:
    """Project equally on all unit gradients, by weights that sum to 1 (or ``T``).

    ``C y = 1`` with the cosines ``C``, ``w`` proportional to ``y_i / |g_i|``; weights
    may be negative. Opposed gradients cancel. Zero gradients are left out. The
    direction is that of ConFIG. The residual is the largest difference of a gradient's
    cosine with it from the mean cosine, or what rounding leaves open of it, if that is
    more. Source: Liu et al., ICLR 2021, Eq. 6.

    Where the ``w`` found sum to 0, no scaling makes them sum to 1: the mean, and a
    residual that tells.
    """
    check_reduction(reduction)

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        weights, residual = or_mean(settle(_balance, gram), gram)
        return Solution(reduce(weights, reduction), residual), state

    return GramianWeighting(stateless, update)


CANCELLED = 1e-5
"""Weights whose sum is less than this part of their sizes sum to rounding."""


@accurate
def _balance(problem: UnitGramian) -> Solution:
    """Weights that sum to 1; an infinite residual where they cannot."""
    cosines, norms, _, active = problem
    inverse = jnp.where(active, 1 / norms, 0)
    parts = equal_projection.solve(cosines, active, active.astype(cosines.dtype))
    # What the cosines annihilate outweighs all else, close to where they do.
    limit = parts.most > 1
    y = jnp.where(limit, parts.beyond, parts.within)
    total, sizes = inverse @ y, inverse @ jnp.abs(y)
    balanced = jnp.abs(total) > CANCELLED * sizes
    y = y / jnp.where(balanced, total, 1)
    # Along twins of unlike lengths, as much again may be added to the weights.
    free = jnp.linalg.norm(inverse @ parts.free) * jnp.linalg.norm(y)
    others = jnp.maximum(parts.mixed, 1 / parts.least**2)
    doubt = jnp.where(limit, others, jnp.maximum(parts.most, free))
    unequal = equal_projection.violation(
        cosines, active, y, active.astype(cosines.dtype)
    )
    residual = jnp.where(balanced | (sizes == 0), jnp.maximum(unequal, doubt), jnp.inf)
    return Solution(inverse * y, residual)
