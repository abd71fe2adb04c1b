"""Gradients of independent parts of the batch: double sampling."""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.smto import CrossWeighting, SmtoState, lift
from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks, weigh_heads
from mtl_jax.smto.strategies.jacobian import by_jacobian
from mtl_jax.types import Array, Batch, Params


def by_samples(method: CrossWeighting, weighted_heads: bool = False) -> Strategy:
    """Weights from the first two parts of the batch, applied to those it names.

    The batch is cut into equal parts, so a step costs what it costs any other method;
    examples that are left over are not used. Memory: the gradients of all tasks, once a
    part.
    """
    other = by_jacobian(method, weighted_heads)
    parts = method.parts

    def step(tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        pieces = Batch(
            _cut(tasks.batch.x, parts, 0 if tasks.axes.x is None else 1),
            jax.tree.map(lambda leaf: _cut(leaf, parts, 1), tasks.batch.y),
        )
        mapped = tasks.task_map(lambda piece: tasks._replace(batch=piece).grads(), (0,))
        (losses, model_states), grads = mapped(pieces)
        # Every part starts from the same statistics: their mean is that of the batch.
        model_states = jax.tree.map(_mean, model_states)
        losses = losses.mean(axis=0)
        first, second = (
            jax.tree.map(lambda g, i=i: g[i], grads.shared) for i in (0, 1)
        )
        chosen = jnp.array(method.combined)
        used = jax.tree.map(lambda g: g[chosen].mean(axis=0), grads.shared)
        update: Any = lift(method, len(losses)).update
        samples = first, second
        shared, found = update(used, state, losses=losses, key=key, samples=samples)
        heads = jax.tree.map(lambda g: g.mean(axis=0), grads.heads)
        heads = weigh_heads(weighted_heads, found.weights, heads)
        combined = Params(shared, heads)
        return Direction(losses, combined, tasks.updated(model_states), found)

    return Strategy(other.init, step, other.combine)


def _mean(leaf: Array) -> Array:
    """Mean over parts of a statistic; a key is that of the first."""
    is_number = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.mean(axis=0) if is_number else leaf[0]


def _cut(leaf: Array, parts: int, axis: int) -> Array:
    """Parts ``[N, ...]`` of the examples on an axis."""
    size = leaf.shape[axis] // parts
    kept = jax.lax.slice_in_dim(leaf, 0, parts * size, axis=axis)
    shape = (*leaf.shape[:axis], parts, size, *leaf.shape[axis + 1 :])
    return jnp.moveaxis(kept.reshape(shape), axis, 0)
