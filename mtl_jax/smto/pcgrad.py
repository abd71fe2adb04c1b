"""Projecting conflicting gradients (Yu et al., 2020)."""

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_key,
    check_reduction,
    exact,
    reduce,
    stateless,
)
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.smto.surgery import operate
from mtl_jax.types import Array, PyTree


def pcgrad(reduction: str = "sum") -> GramianWeighting:
    """Project every gradient off those that it conflicts with, in random order.

    ``p_i = g_i``; for every other task ``j`` in random order, if ``<p_i, g_j> < 0``:
    ``p_i -= <p_i, g_j> / |g_j|^2 g_j``; the direction is the sum (or mean) of the
    ``p_i``. A zero gradient is skipped. Source: Yu et al., NeurIPS 2020, Algorithm 1.
    """
    check_reduction(reduction)

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses
        check_key(key)
        weights, _ = operate(gram, jnp.zeros(gram.shape, gram.dtype), key)
        return exact(reduce(weights / gram.shape[0], reduction)), state

    return GramianWeighting(stateless, update)
