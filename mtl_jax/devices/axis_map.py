"""Maps over an axis (tasks, runs): together by ``vmap``, or one after another.

Both have one meaning and differ in speed: on a GPU one batched program keeps the
device busy; on a CPU small sequential pieces stay in cache (about 2x faster).
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from mtl_jax.options import one_of
from mtl_jax.types import Array, PyTree

AxisMap = Callable[..., Callable]
"""``axis_map(f, in_axes)``: the signature of ``jax.vmap``, axes 0 or None."""


def sequential(f: Callable, in_axes: Any = 0) -> Callable:
    """Map a function as ``jax.vmap(f, in_axes)`` does, but by ``lax.map``.

    Leaves with axis None are the same for every call, as in ``vmap``. A row alone has
    the bits that it has among others.

    >>> import jax.numpy as jnp
    >>> sequential(lambda a, b: a * b, (0, None))(jnp.arange(3.0), jnp.float32(2))
    Array([0., 2., 4.], dtype=float32)
    """

    def mapped(*args: PyTree) -> PyTree:
        leaves, treedef = jax.tree.flatten(args)
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        leaf_axes = jax.tree.leaves(_is_mapped(axes, args))

        def of_row(rows: list) -> PyTree:
            rows_iter = iter(rows)
            merged = [
                next(rows_iter) if is_mapped else leaf
                for is_mapped, leaf in zip(leaf_axes, leaves, strict=True)
            ]
            return f(*jax.tree.unflatten(treedef, merged))

        return _each(of_row, [x for x, m in zip(leaves, leaf_axes, strict=True) if m])

    return mapped


def _is_mapped(axes: Any, args: PyTree) -> PyTree:
    """Tell whether each leaf of the arguments has the axis."""
    return jax.tree.map(
        lambda axis, subtree: jax.tree.map(lambda _: axis is not None, subtree),
        axes,
        args,
        is_leaf=lambda axis: axis is None,
    )


def _each(f: Callable, rows: list[Array]) -> PyTree:
    """``lax.map``, of a single row, too, as XLA compiles the body of a loop.

    It makes no loop of one round, and would fuse what is in it with what is around it:
    other sums in other orders.
    """
    if len(rows[0]) > 1:
        return lax.map(f, rows)
    alone = lax.optimization_barrier([leaf[0] for leaf in rows])
    result = lax.optimization_barrier(f(alone))
    return jax.tree.map(lambda leaf: leaf[None], result)


def waves(size: int) -> AxisMap:
    """Return a map in waves: rows of a wave together, waves one after another.

    >>> import jax.numpy as jnp
    >>> waves(2)(lambda a: a + 1)(jnp.arange(4))
    Array([1, 2, 3, 4], dtype=int32)

    Args:
      size: the most rows of a wave; waves are even, so it is the largest number below
        that divides the rows.
    """

    def wave_map(f: Callable, in_axes: Any = 0) -> Callable:
        def mapped(*args: PyTree) -> PyTree:
            axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
            is_mapped = _is_mapped(axes, args)
            pairs = zip(jax.tree.leaves(args), jax.tree.leaves(is_mapped), strict=True)
            rows = next(len(leaf) for leaf, has_axis in pairs if has_axis)
            wave = max(n for n in range(1, min(size, rows) + 1) if rows % n == 0)
            if wave == 1:  # of one row, too: an axis of length 1 costs layouts
                return sequential(f, in_axes)(*args)
            if wave == rows:
                return jax.vmap(f, in_axes)(*args)

            def cut(leaf: Array, has_axis: bool) -> Array:
                return leaf.reshape(-1, wave, *leaf.shape[1:]) if has_axis else leaf

            parts = jax.tree.map(cut, args, is_mapped)
            results = sequential(jax.vmap(f, in_axes), in_axes)(*parts)
            return jax.tree.map(
                lambda leaf: leaf.reshape(rows, *leaf.shape[2:]), results
            )

        return mapped

    return wave_map


AXIS_MAPS: dict[str, AxisMap] = {"vmap": jax.vmap, "sequential": sequential}


def make(name: str) -> AxisMap:
    """Return an axis map by name; ``auto`` is sequential on a CPU and vmap elsewhere.

    Raises:
      InputError: unknown name.
    """
    if name == "auto":
        name = "sequential" if jax.default_backend() == "cpu" else "vmap"
    one_of("axis map", name, ("auto", *AXIS_MAPS))
    return AXIS_MAPS[name]
