"""Maps over an axis (tasks, runs): together by ``vmap``, or one after another.

Both have one meaning and differ in speed: on a GPU one batched program keeps the
device busy; on a CPU small sequential pieces stay in cache (about 2x faster).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from mtl_jax.options import one_of
from mtl_jax.types import Array, PyTree

AxisMap = Callable[..., Callable]
"""``axis_map(f, in_axes)``: the signature of ``jax.vmap``, axes 0 or None."""


@dataclass(frozen=True)
class Waves:
    """A map in waves: rows of a wave together, waves one after another.

    Leaves with axis None are the same for every row, as in ``vmap``.

    >>> import jax.numpy as jnp
    >>> Waves(2)(lambda a, b: a * b, (0, None))(jnp.arange(4.0), jnp.float32(2))
    Array([0., 2., 4., 6.], dtype=float32)
    """

    size: int
    """The most rows of a wave; waves are even, so it is the largest number up to it
    that divides the rows."""

    def __call__(self, f: Callable, in_axes: Any = 0) -> Callable:
        """Map a function as ``jax.vmap(f, in_axes)`` does."""
        return self._map(f, in_axes, _each)

    def in_place(self, f: Callable, in_axes: Any = 0) -> Callable:
        """Map ``(state, ...) -> (state, result)`` in the memory of the states.

        Rows of the states become rows of those that are returned, one after another,
        so that they are not there twice. They have the axis in all leaves.
        """
        return self._map(f, in_axes, _each_in_place)

    def _map(self, f: Callable, in_axes: Any, each: Callable) -> Callable:
        def mapped(*args: PyTree) -> PyTree:
            axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
            is_mapped = _is_mapped(axes, args)
            pairs = zip(jax.tree.leaves(args), jax.tree.leaves(is_mapped), strict=True)
            rows = next(len(leaf) for leaf, has_axis in pairs if has_axis)
            wave = max(n for n in range(1, min(self.size, rows) + 1) if rows % n == 0)
            if wave == 1:  # of one row, too: an axis of length 1 costs layouts
                return _in_turn(f, args, is_mapped, each)
            if wave == rows:
                return jax.vmap(f, in_axes)(*args)

            def cut(leaf: Array, has_axis: bool) -> Array:
                return leaf.reshape(-1, wave, *leaf.shape[1:]) if has_axis else leaf

            parts = jax.tree.map(cut, args, is_mapped)
            results = _in_turn(jax.vmap(f, in_axes), parts, is_mapped, each)
            return jax.tree.map(
                lambda leaf: leaf.reshape(rows, *leaf.shape[2:]), results
            )

        return mapped


sequential = Waves(1)
"""One row after another. A row alone has the bits that it has among others."""


def in_place(axis_map: AxisMap) -> AxisMap:
    """Return the map of functions that update a state, as `Waves.in_place` says.

    All rows together, by ``vmap``, are updated in place anyway.
    """
    return axis_map.in_place if isinstance(axis_map, Waves) else axis_map


def _is_mapped(axes: Any, args: PyTree) -> PyTree:
    """Tell whether each leaf of the arguments has the axis."""
    return jax.tree.map(
        lambda axis, subtree: jax.tree.map(lambda _: axis is not None, subtree),
        axes,
        args,
        is_leaf=lambda axis: axis is None,
    )


def _in_turn(f: Callable, args: tuple, is_mapped: PyTree, each: Callable) -> PyTree:
    """Call a function on one row after another."""
    leaves, treedef = jax.tree.flatten(args)
    have_axis = jax.tree.leaves(is_mapped)

    def of_row(rows: list) -> PyTree:
        rows_iter = iter(rows)
        merged = [
            next(rows_iter) if has_axis else leaf
            for has_axis, leaf in zip(have_axis, leaves, strict=True)
        ]
        return f(*jax.tree.unflatten(treedef, merged))

    rows = [x for x, has_axis in zip(leaves, have_axis, strict=True) if has_axis]
    return each(of_row, rows, jax.tree.structure(args[0]))


def _each(f: Callable, rows: list[Array], state: Any) -> PyTree:
    """``lax.map``, of a single row, too, as XLA compiles the body of a loop.

    It makes no loop of one round, and would fuse what is in it with what is around it:
    other sums in other orders.
    """
    del state
    if len(rows[0]) > 1:
        return lax.map(f, rows)
    alone = lax.optimization_barrier([leaf[0] for leaf in rows])
    result = lax.optimization_barrier(f(alone))
    return jax.tree.map(lambda leaf: leaf[None], result)


def _each_in_place(f: Callable, rows: list[Array], state: Any) -> PyTree:
    """Return what `_each` does, with the states (the first rows) carried along."""
    if len(rows[0]) == 1:
        return _each(f, rows, state)
    states, others = rows[: state.num_leaves], rows[state.num_leaves :]

    def of_row(states: list[Array], row: tuple[Array, list[Array]]) -> tuple:
        at, others = row
        before = [lax.dynamic_index_in_dim(s, at, keepdims=False) for s in states]
        after, result = f([*map(_row_major, before), *others])
        put = lax.dynamic_update_index_in_dim
        leaves = map(_row_major, state.flatten_up_to(after))
        return [put(s, x, at, 0) for s, x in zip(states, leaves, strict=True)], result

    places = jnp.arange(len(rows[0]))
    states, results = lax.scan(of_row, states, (places, others))
    return jax.tree.unflatten(state, states), results


def _row_major(leaf: Array) -> Array:
    """Keep a layout that a row asks for from the states: all would be laid out anew."""
    return with_layout_constraint(leaf, Layout(tuple(range(leaf.ndim))))


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
