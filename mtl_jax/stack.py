"""Like things side by side (runs, tasks of runs), spread over the local devices.

They lie along a leading axis that is split evenly over devices and mapped within each.
Where they do not divide, the last one is repeated, and what the copies find is dropped.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mtl_jax.axis_map import AxisMap
from mtl_jax.types import PyTree

ROWS = P("rows")


class Stack(NamedTuple):
    """Where ``size`` things lie."""

    size: int
    mesh: Mesh
    """As many devices as have something to do, in one row."""


def make(size: int) -> Stack:
    """Spread ``size`` things over the local devices."""
    devices = jax.local_devices()
    per_device = -(-size // len(devices))
    used = devices[: -(-size // per_device)]
    mesh = jax.make_mesh(
        (len(used),), ("rows",), axis_types=(AxisType.Auto,), devices=used
    )
    return Stack(size, mesh)


def padded(stack: Stack) -> int:
    """Length of the axis with the copies that fill it up."""
    return stack.size + -stack.size % stack.mesh.size


def spread(stack: Stack, tree: PyTree) -> PyTree:
    """Leaves ``[size, ...]`` to the devices, filled up to ``[padded, ...]``."""
    copies = padded(stack) - stack.size

    def pad(leaf: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf, np.repeat(leaf[-1:], copies, axis=0)])

    tree = jax.tree.map(pad, jax.device_get(tree)) if copies else tree
    return jax.device_put(tree, NamedSharding(stack.mesh, ROWS))


def collect(stack: Stack, tree: PyTree) -> PyTree:
    """Leaves ``[padded, ...]`` to the host, ``[size, ...]``."""
    return jax.tree.map(lambda leaf: leaf[: stack.size], jax.device_get(tree))


def everywhere(stack: Stack, tree: PyTree) -> PyTree:
    """Put the same leaves on every device of the stack."""
    return jax.device_put(tree, NamedSharding(stack.mesh, P()))


def shape(stack: Stack, rest: tuple[int, ...], dtype: type) -> jax.ShapeDtypeStruct:
    """Shape ``[padded, *rest]`` of something spread, to compile for."""
    return jax.ShapeDtypeStruct(
        (padded(stack), *rest), dtype, sharding=NamedSharding(stack.mesh, ROWS)
    )


def over(
    stack: Stack, axis_map: AxisMap, f: Callable[..., PyTree], in_axes: tuple
) -> Callable[..., PyTree]:
    """Map ``f`` over the stack, within each device by ``axis_map``.

    Args:
      stack: the stack.
      axis_map: ``jax.vmap`` or `axis_map.sequential`.
      f: of one thing.
      in_axes: 0 for what is spread, None for what is the same everywhere.
    """
    specs = tuple(P() if axis is None else ROWS for axis in in_axes)
    return jax.shard_map(
        axis_map(f, in_axes), mesh=stack.mesh, in_specs=specs, out_specs=ROWS,
        check_vma=False,
    )  # fmt: skip
