"""The loss cut at the shared representation, into trunk and heads."""

from collections.abc import Callable

import jax

from mtl_jax.directions.contract import Tasks
from mtl_jax.types import Array, PyTree


def represent(tasks: Tasks) -> tuple[Array, Callable, PyTree]:
    """Representation of the batch, its pullback to the trunk, and the model state."""

    def of_trunk(shared: PyTree) -> tuple[Array, PyTree]:
        axis = tasks.axes.x
        if axis is None:
            return tasks.represent(shared, tasks.model_state, tasks.batch.x)
        mapped = tasks.task_map(tasks.represent, (None, axis, axis))
        return mapped(shared, tasks.model_state, tasks.batch.x)

    return jax.vjp(of_trunk, tasks.params.shared, has_aux=True)


def at_heads(tasks: Tasks, z: Array) -> tuple[Array, PyTree, Array]:
    """Losses ``[T]``, gradients of the heads and of the representation ``[T, ...]``."""
    grad_fn = jax.value_and_grad(tasks.head_loss, (0, 1))
    mapped = tasks.task_map(grad_fn, (0, tasks.axes.x, 0))
    losses, (heads, grads) = mapped(tasks.params.heads, z, tasks.batch.y)
    return losses, heads, grads
