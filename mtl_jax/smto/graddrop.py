"""Gradient sign dropout (Chen et al., 2020)."""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.smto.contract import (
    Aggregate,
    Aggregator,
    Cotangent,
    check_key,
    check_range,
    check_reduction,
    stateless,
)
from mtl_jax.types import Array, PyTree


def graddrop(leak: float = 0.0, reduction: str = "sum") -> Aggregator:
    """Keep the gradients of one sign in a coordinate, drawn by how much they agree.

    ``P = (1 + sum_i g_i / sum_i |g_i|) / 2`` is the probability that the positive
    gradients are kept and the negative ones dropped; what is dropped counts ``leak``
    times. Its expectation is the sum of the gradients, for leak 0. Here on the
    parameters of the trunk; see `graddrop_rep` for the published form. Source: Chen et
    al., NeurIPS 2020, Algorithm 1.

    Args:
      leak: what is left of the dropped gradients, 0 to 1.
      reduction: ``sum`` or ``mean`` over tasks.

    Raises:
      InputError: leak is outside [0, 1]; at the first update, there is no key.
    """
    check_reduction(reduction)
    leak = check_range("graddrop's leak", leak, 0, 1)

    def update(
        grads: PyTree, losses: Array, state: PyTree, key: Array
    ) -> tuple[Aggregate, PyTree]:
        del losses
        check_key(key)
        leaves, structure = jax.tree.flatten(grads)
        keys = jax.random.split(key, len(leaves))

        def drop(leaf: Array, key: Array) -> Array:
            kept = jnp.sum(_kept(leaf, key, leak) * leaf, axis=0)
            return kept / leaf.shape[0] if reduction == "mean" else kept

        direction = jax.tree.unflatten(structure, map(drop, leaves, keys))
        weights = jnp.ones(leaves[0].shape[0])
        return Aggregate(direction, weights, jnp.zeros(())), state

    return Aggregator(stateless, update)


def graddrop_rep(leak: float = 0.0) -> Cotangent:
    """Drop gradients by sign where it was published: at the shared representation.

    Gradients are multiplied by the sign of the activation and added up over the batch
    before they vote; the mask holds for the whole batch. Source: Chen et al., NeurIPS
    2020, section 3.2.

    Raises:
      InputError: leak is outside [0, 1].
    """
    leak = check_range("graddrop_rep's leak", leak, 0, 1)

    def update(
        z: Array, grads: Array, state: PyTree, key: Array
    ) -> tuple[Array, PyTree]:
        check_key(key)
        votes = jnp.sum(jnp.sign(z) * grads, axis=1)  # [T, D]
        return grads * _kept(votes, key, leak)[:, None, :], state

    return Cotangent(stateless, update)


def _kept(votes: Array, key: Any, leak: float | Array) -> Array:
    """Part of every task's gradient that is kept ``[T, ...]``."""
    size = jnp.sum(jnp.abs(votes), axis=0)
    purity = jnp.sum(votes, axis=0) / jnp.where(size > 0, size, 1)
    draw = jax.random.uniform(key, size.shape, jnp.float32)
    positive = (1 + purity) / 2 > draw
    return jnp.where(jnp.where(positive, votes > 0, votes < 0), 1, leak).astype(
        votes.dtype
    )
