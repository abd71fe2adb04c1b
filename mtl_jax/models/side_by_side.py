"""Copies of a module side by side, each with parameters of its own."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from mtl_jax.types import Array, PyTree


def side_by_side(
    module: nn.Module,
    count: int,
    x: PyTree,
    apply: Callable[[Any, PyTree], Array],
    *,
    mapped: bool,
) -> Array:
    """Apply ``count`` copies of a module to the same inputs, or each to its own.

    To be called in a compact method, whose part the module is. All variables of the
    module have a leading axis of copies.

    >>> import jax, jax.numpy as jnp
    >>> class Three(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return side_by_side(nn.Dense(4), 3, x, nn.Dense.__call__, mapped=False)
    >>> variables = Three().init(jax.random.key(0), jnp.ones((1, 5)))
    >>> variables["params"]["Dense_0"]["kernel"].shape
    (3, 5, 4)
    >>> Three().apply(variables, jnp.ones((2, 5))).shape
    (2, 3, 4)

    Args:
      module: the module.
      count: of the copies.
      x: inputs of all, leaves ``[B, ...]``, or of each, leaves ``[B, count, ...]``.
      apply: ``(module, x [B, ...]) -> outputs [B, ...]``.
      mapped: every copy has inputs of its own.

    Returns:
      Outputs ``[B, count, ...]``.
    """
    axes: Any = 1 if mapped else None
    copies: Any = nn.vmap(
        apply,
        in_axes=axes,
        out_axes=1,
        axis_size=count,
        variable_axes={True: 0},
        split_rngs={True: True},
    )
    return copies(module, x)
