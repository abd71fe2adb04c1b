"""Conflict-averse gradient descent (Liu et al., 2021)."""

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
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
    """Maximise the worst improvement within ``c |g0|`` of the mean gradient ``g0``.

    ``d = argmax of min_i <g_i, d>`` over ``|d - g0| <= c |g0|``, divided by ``1 + c^2``
    (rescale 1), ``1 + c`` (2) or nothing (0). With ``w = argmin over the simplex of
    <g_w, g0> + c |g0| |g_w|``, ``g_w = sum_i w_i g_i``, it is
    ``g0 + c |g0| g_w / |g_w|``. Where ``g_w = 0`` the weights do not tell which ``d``
    is best; for ``c >= 1`` it is 0. A zero gradient asks for no more of a correction
    than that no other is harmed. The residual is what ``d`` lacks to the best worst
    case, as `simplex.min_cone` has it; it is at least 1 where ``g0`` is 0 to rounding.
    Source: Liu et al., NeurIPS 2021, Algorithm 1 and Eq. 3.

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
        cone = simplex.min_cone(gram, c)
        residual = jnp.where(cone.vague, jnp.maximum(cone.residual, 1), cone.residual)
        weights, residual = or_mean(Solution(cone.direction, residual), gram)
        weights = weights / jnp.asarray(length, weights.dtype)
        return Solution(reduce(weights, reduction), residual), state

    return GramianWeighting(stateless, update)
