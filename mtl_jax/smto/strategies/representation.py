"""The loss cut at the shared representation, into trunk and heads."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.smto.strategies.contract import Tasks
from mtl_jax.types import Array, PyTree


def represent(tasks: Tasks) -> tuple[PyTree, Callable, PyTree]:
    """Compute the representation of the batch, its pullback, and the trunk's state."""

    def of_trunk(shared: PyTree) -> tuple[PyTree, PyTree]:
        axis = tasks.axes.x
        if axis is None:
            return tasks.represent(shared, tasks.model_state.trunk, tasks.batch.x)
        mapped = tasks.task_map(tasks.represent, (None, axis, axis))
        return mapped(shared, tasks.model_state.trunk, tasks.batch.x)

    return jax.vjp(of_trunk, tasks.params.shared, has_aux=True)


def at_heads(tasks: Tasks, z: PyTree) -> tuple[Array, PyTree, PyTree, PyTree]:
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


def flatten(z: PyTree, axes: int) -> Array:
    """Join a representation to one array: leaves ``[..., *]`` to ``[..., D]``.

    >>> import jax.numpy as jnp
    >>> z = jnp.ones((2, 3)), jnp.zeros((2, 2, 2))
    >>> flatten(z, 1).shape
    (2, 7)

    Args:
      z: leaves whose first axes are alike.
      axes: number of these, which stay.
    """
    leaves = jax.tree.leaves(z)
    rows = [leaf.reshape(*leaf.shape[:axes], -1) for leaf in leaves]
    return jnp.concatenate(rows, axis=-1)


def unflatten(flat: Array, like: PyTree) -> PyTree:
    """Cut what `flatten` joined into the shapes of a representation."""
    leaves, structure = jax.tree.flatten(like)
    size = flat[..., 0].size
    ends = np.cumsum([leaf.size // size for leaf in leaves])[:-1]
    parts = jnp.split(flat, ends, axis=-1)
    shaped = [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)]
    return structure.unflatten(shaped)
