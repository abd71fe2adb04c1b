"""The loss cut at the shared representation, into trunk and heads."""

from collections.abc import Callable

import jax

from mtl_jax.smto.strategies.contract import Tasks
from mtl_jax.types import Array, PyTree


def represent(tasks: Tasks) -> tuple[Array, Callable, PyTree]:
    """Compute the representation of the batch, its pullback, and the trunk's state."""

    def of_trunk(shared: PyTree) -> tuple[Array, PyTree]:
        axis = tasks.axes.x
        if axis is None:
            return tasks.represent(shared, tasks.model_state.trunk, tasks.batch.x)
        mapped = tasks.task_map(tasks.represent, (None, axis, axis))
        return mapped(shared, tasks.model_state.trunk, tasks.batch.x)

    return jax.vjp(of_trunk, tasks.params.shared, has_aux=True)


def at_heads(tasks: Tasks, z: Array) -> tuple[Array, PyTree, Array, PyTree]:
    """Compute losses ``[T]``, and gradients at heads and representation ``[T, ...]``.

    Returns:
      Losses, gradients of the heads, those of the representation, and heads' states.
    """
    grad_fn = jax.value_and_grad(tasks.head_loss, (0, 2), has_aux=True)
    mapped = tasks.task_map(grad_fn, (0, 0, tasks.axes.x, 0))
    (losses, states), (heads, grads) = mapped(
        tasks.params.heads, tasks.model_state.heads, z, tasks.batch.y
    )
    return losses, heads, grads, states
