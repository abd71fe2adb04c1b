"""Projecting conflicting gradients (Yu et al., 2020)."""

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax import tree
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_key,
    check_reduction,
    reduce,
    stateless,
)
from mtl_jax.types import Array, PyTree


def pcgrad(reduction: str = "sum") -> GramianWeighting:
    """Project every gradient off those that it conflicts with, in random order.

    ``p_i = g_i``; for every other task ``j`` in random order, if ``<p_i, g_j> < 0``:
    ``p_i -= <p_i, g_j> / |g_j|^2 g_j``; the direction is the sum (or mean) of the
    ``p_i``. A zero gradient is skipped. Source: Yu et al., NeurIPS 2020, Algorithm 1;
    here on coefficients, row ``c_i`` of ``p_i = sum_j c_ij g_j``.
    """
    check_reduction(reduction)

    def update(
        gram: Array, losses: Array, state: PyTree, key: Array
    ) -> tuple[Array, PyTree]:
        del losses
        check_key(key)
        num_tasks = gram.shape[0]
        squared_norms = jnp.diagonal(gram)
        usable = squared_norms > 0
        inverse = jnp.where(usable, 1 / jnp.where(usable, squared_norms, 1), 0)

        def project(task: Array, order: Array) -> Array:
            def off(row: Array, other: Array) -> tuple[Array, None]:
                inner = jnp.dot(row, gram[:, other], precision=tree.HIGHEST)
                conflicts = (inner < 0) & (other != task)
                step = jnp.where(conflicts, inner * inverse[other], 0)
                return row.at[other].add(-step), None

            row = jax.nn.one_hot(task, num_tasks, dtype=gram.dtype)
            return lax.scan(off, row, order)[0]

        orders = jax.vmap(lambda k: jax.random.permutation(k, num_tasks))(
            jax.random.split(key, num_tasks)
        )
        rows = jax.vmap(project)(jnp.arange(num_tasks), orders)
        return reduce(rows.mean(axis=0), reduction), state

    return GramianWeighting(stateless, update)
