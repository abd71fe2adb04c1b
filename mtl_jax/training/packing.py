"""The state of a run in few arrays: a GPU starts a kernel for each that it updates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax.types import Array, PyTree

SMALL = 4096
"""Most numbers of an array that is packed."""
KERNEL = 4
"""Sides of a convolution's kernel, ``[H, W, C, O]``."""


class Packed(NamedTuple):
    """A tree in few arrays."""

    large: list[Array]
    """Arrays as they are."""
    rows: dict[str, Array]
    """All small ones ``[P]``, by their types."""


def packing(
    like: PyTree,
) -> tuple[Callable[[PyTree], Packed], Callable[[Packed], PyTree]]:
    """Return functions that pack a tree, and unpack it.

    >>> tree = {"a": jnp.ones((2, 2)), "b": jnp.arange(3)}
    >>> pack, unpack = packing(tree)
    >>> pack(tree).rows["float32"].shape, unpack(pack(tree))["b"].tolist()
    ((4,), [0, 1, 2])

    Args:
      like: a tree of the same shapes and types.
    """
    leaves, structure = jax.tree.flatten(like)
    rows: dict[str, list[int]] = {}
    large = []
    for place, leaf in enumerate(leaves):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        is_large = is_key or leaf.size > SMALL
        (large if is_large else rows.setdefault(str(leaf.dtype), [])).append(place)

    def pack(tree: PyTree) -> Packed:
        packed = jax.tree.leaves(tree)
        of_rows = {
            kind: jnp.concatenate([packed[place].ravel() for place in places])
            for kind, places in rows.items()
        }
        return Packed([packed[place] for place in large], of_rows)

    def unpack(packed: Packed) -> PyTree:
        unpacked = dict(zip(large, packed.large, strict=True))
        for kind, places in rows.items():
            parts = _cut(packed.rows[kind], [leaves[place] for place in places])
            unpacked |= dict(zip(places, parts, strict=True))
        return jax.tree.unflatten(structure, [unpacked[n] for n in range(len(leaves))])

    return pack, unpack


def ravel(tree: PyTree) -> Array:
    """Put all numbers of a tree in one row ``[P]``.

    Kernels of convolutions with the output channel first, as a GPU's library has them:
    so nothing is transposed.
    """
    leaves = jax.tree.leaves(tree)
    return jnp.concatenate([_channel_first(leaf).ravel() for leaf in leaves])


def unravel(row: Array, like: PyTree) -> PyTree:
    """Cut what `ravel` made into the shapes of a tree.

    >>> tree = {"a": jnp.arange(24.0).reshape(1, 2, 3, 4), "b": jnp.ones(2)}
    >>> again = unravel(ravel(tree), tree)
    >>> bool((again["a"] == tree["a"]).all()), again["b"].shape
    (True, (2,))
    """
    leaves, structure = jax.tree.flatten(like)
    parts = _cut(row, [jax.eval_shape(_channel_first, leaf) for leaf in leaves])
    typed = [part.astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, map(_channel_last, typed))


def join_like(tree: PyTree, like: PyTree) -> PyTree:
    """Ravel every part of a tree that is built as another.

    >>> moments = ({"a": jnp.ones(2), "b": jnp.zeros(1)}, 0)
    >>> join_like(moments, {"a": 0, "b": 0})
    (Array([1., 1., 0.], dtype=float32), 0)

    Args:
      tree: such as an optimizer's state; that of a raveled tree is built as the result.
      like: such as the parameters.
    """
    is_like = _built_as(like)
    return jax.tree.map(
        lambda part: ravel(part) if is_like(part) else part, tree, is_leaf=is_like
    )


def part_like(joined: PyTree, tree: PyTree, like: PyTree) -> PyTree:
    """Undo `join_like`, from the result and what that was given, or its shapes."""
    is_like = _built_as(like)
    return jax.tree.map(
        lambda part, row: unravel(row, part) if is_like(part) else row,
        tree,
        joined,
        is_leaf=is_like,
    )


def _built_as(like: PyTree) -> Callable[[PyTree], bool]:
    structure = jax.tree.structure(like)
    return lambda part: jax.tree.structure(part) == structure


def _cut(row: Array, like: list[Any]) -> list[Array]:
    """Cut a row into arrays of the shapes of others."""
    parts, end = [], 0
    for leaf in like:
        start, end = end, end + leaf.size
        parts.append(lax.slice(row, (start,), (end,)).reshape(leaf.shape))
    return parts


def _channel_first(leaf: Array) -> Array:
    return jnp.moveaxis(leaf, -1, -KERNEL) if leaf.ndim >= KERNEL else leaf


def _channel_last(leaf: Array) -> Array:
    return jnp.moveaxis(leaf, -KERNEL, -1) if leaf.ndim >= KERNEL else leaf
