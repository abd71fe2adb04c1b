"""Gradients of independent parts of the batch: double sampling."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.smto import CrossWeighting, SmtoState, lift
from mtl_jax.smto.strategies.contract import Direction, Tasks
from mtl_jax.smto.strategies.jacobian import ByJacobian
from mtl_jax.types import Array, Batch, Params


@dataclass(frozen=True)
class BySamples(ByJacobian):
    """Weights from the first two parts of the batch, applied to those it names.

    The batch is cut into equal parts, so a step costs what it costs any other method;
    examples that are left over are not used. Memory: the gradients of all tasks, once a
    part.
    """

    method: CrossWeighting

    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Compute the gradients of the parts, and combine them."""
        parts = self.method.parts
        pieces = Batch(
            _cut(tasks.batch.x, parts, 0 if tasks.axes.x is None else 1),
            jax.tree.map(lambda leaf: _cut(leaf, parts, 1), tasks.batch.y),
        )

        def grads_of(piece: Batch) -> Any:
            return dataclasses.replace(tasks, batch=piece).grads()

        (losses, model_states), grads = tasks.task_map(grads_of, (0,))(pieces)
        # Every part starts from the same statistics: their mean is that of the batch.
        model_states = jax.tree.map(_mean, model_states)
        losses = losses.mean(axis=0)
        first, second = (
            jax.tree.map(lambda g, i=i: g[i], grads.shared) for i in (0, 1)
        )
        chosen = jnp.array(self.method.combined)
        used = jax.tree.map(lambda g: g[chosen].mean(axis=0), grads.shared)
        update: Any = lift(self.method, len(losses)).update
        samples = first, second
        shared, smto = update(used, state, losses=losses, key=key, samples=samples)
        heads = jax.tree.map(lambda g: g.mean(axis=0), grads.heads)
        combined = Params(shared, self.weigh_heads(smto.weights, heads))
        return Direction(losses, combined, tasks.updated(model_states), smto)


by_samples = BySamples


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
