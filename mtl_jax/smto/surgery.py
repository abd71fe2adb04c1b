"""Gradient surgery: move every gradient against the others, one after another.

PCGrad and GradVac differ only in the cosine that a pair of gradients should have at
least. Gradients are rows of coefficients of the unit gradients, so the Gramian is all
that is needed, and a gradient's length does not matter.
"""

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax import tree
from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.solvers.solution import unit_gramian
from mtl_jax.types import Array


def operate(gram: Gram, targets: Array, key: Array) -> tuple[Array, Array]:
    """Lift cosines that are below their targets, in random order.

    ``p_i = g_i``; for every other task ``j``, in an order drawn for ``i``, where
    ``cos(p_i, g_j) < t_ij``: ``p_i += a g_j`` such that the cosine is ``t_ij``, with
    ``a = |p_i| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2))``. Zero
    gradients are skipped.

    Args:
      gram: Gram ``[T, T]``.
      targets: ``[T, T]``, of ``p_i`` (rows) with ``g_j``.
      key: of the orders.

    Returns:
      Weights ``[T]`` of ``sum_i p_i``, and the cosines ``[T, T]`` of ``p_i`` with
      ``g_j`` as they were found, before ``p_i`` was moved; 0 on the diagonal.
    """
    cosines, norms, _, active = unit_gramian(gram)
    num_tasks = gram.shape[0]

    def against(task: Array, order: Array, aims: Array) -> tuple[Array, Array]:
        def step(row: Array, other: Array) -> tuple[Array, Array]:
            products = jnp.matmul(cosines, row, precision=tree.HIGHEST)
            length = jnp.sqrt(jnp.maximum(jnp.dot(row, products), 0))
            moved = length > 0
            cosine = products[other] / jnp.where(moved, length, 1)
            cosine = jnp.clip(cosine, -1, 1)
            aim = jnp.minimum(aims[other], LARGEST_TARGET)
            # t sqrt(1 - c^2) / sqrt(1 - t^2) - c, which is -c for t = 0
            lift = aim * jnp.sqrt((1 - cosine**2) / (1 - aim**2)) - cosine
            meets = active[task] & active[other] & (other != task)
            wanted = meets & moved & (cosine < aim)
            row = row.at[other].add(jnp.where(wanted, length * lift, 0))
            return row, jnp.where(meets, cosine, 0)

        row = jax.nn.one_hot(task, num_tasks, dtype=gram.dtype)
        row, seen = lax.scan(step, row, order)
        return row, jnp.zeros_like(seen).at[order].set(seen)

    orders = jax.vmap(lambda k: jax.random.permutation(k, num_tasks))(
        jax.random.split(key, num_tasks)
    )
    rows, seen = jax.vmap(against)(jnp.arange(num_tasks), orders, targets)
    weights = jnp.where(active, (norms[:, None] * rows).sum(axis=0) / norms, 0)
    return weights, seen


LARGEST_TARGET = 1 - 1e-6
"""A cosine of 1 is reached by no finite step."""
