"""Conflict-averse gradient descent (Liu et al., 2021)."""

import jax.numpy as jnp

from mtl_jax.smto import simplex
from mtl_jax.smto.contract import GramianWeighting, check_reduction, reduce, stateless
from mtl_jax.types import Array, InputError, PyTree

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
    if not 0 <= c < float("inf"):
        raise InputError(f"cagrad's c is {c}; it must be 0 or more, and finite.")
    if rescale not in RESCALES:
        raise InputError(f"cagrad's rescale {rescale!r} is not one of {RESCALES}.")
    length = (1.0, 1 + c**2, 1 + c)[rescale]

    def update(
        gram: Array, losses: Array, state: PyTree, key: Array
    ) -> tuple[Array, PyTree]:
        del losses, key
        scaled = simplex.normalise(gram)
        num_tasks = gram.shape[0]
        to_mean = scaled.mean(axis=0)  # <g_i, g0>
        radius = c * jnp.sqrt(jnp.maximum(to_mean.mean(), 0))  # c |g0|
        weights = simplex.minimise_cone(scaled, to_mean, radius)
        norm = simplex.norm(scaled, weights)
        found = norm > 0
        correction = jnp.where(found, radius / jnp.where(found, norm, 1), 0)
        total = (1 / num_tasks + correction * weights) / length
        return reduce(total, reduction), state

    return GramianWeighting(stateless, update)
