"""Like things side by side (runs, tasks of runs), spread over the devices.

They lie along a leading axis that is split evenly over devices and mapped within each.
Where they do not divide, the last one is repeated, and what the copies find is dropped.
On how many devices they lie is nothing to them where they are mapped one after another:
training ends in the same bits, and factors, of which XLA adds up some in another order
for one device than for several, agree to 1e-5 of their size. Mapped together (``vmap``)
they are one program, another for every number of them, and agree to rounding only.

Several devices can share each thing: then the last axis of its batches is split over
them, and the compiler adds the sums that go from device to device. What is computed is
the same to rounding: losses, gradients of every task and batch statistics are those of
the whole batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mtl_jax.devices import batch_sharding, multihost
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.types import PyTree

ROWS = P("rows")
"""Split over rows of devices along the first axis, the same within a row."""
SAME = P()
"""The same on all devices."""


class Stack(NamedTuple):
    """Layout of ``size`` runs on the devices."""

    size: int
    mesh: Mesh
    """As many rows of devices as have something to do; a row shares its things. Of
    several processes all rows, so that every process takes part."""


def make(size: int, devices: Sequence[Any], sharing: int = 1) -> Stack:
    """Spread ``size`` things over the devices, ``sharing`` devices for each."""
    rows = len(devices) // sharing
    if not multihost.is_multihost():
        per_row = -(-size // rows)
        rows = -(-size // per_row)
    # In their order: `jax.make_mesh` takes no part of a TPU.
    placed = np.array(devices[: rows * sharing]).reshape(rows, sharing)
    axes = "rows", batch_sharding.AXIS
    return Stack(size, Mesh(placed, axes, axis_types=(AxisType.Auto,) * 2))


def place(stack: Stack, spec: P = ROWS) -> NamedSharding:
    """Return the sharding of something that is spread over the runs' devices."""
    return NamedSharding(stack.mesh, spec)


def padded(stack: Stack) -> int:
    """Return the length of the axis with the copies that fill it up."""
    return stack.size + -stack.size % stack.mesh.shape["rows"]


def split(rank: int, first: str | None = None) -> P:
    """Return the spec of batches ``[..., B]``: the last of ``rank`` axes is split."""
    return P(first, *[None] * (rank - 2), batch_sharding.AXIS)


def shard(stack: Stack, tree: PyTree, spec: P = ROWS) -> PyTree:
    """Shard leaves ``[size, ...]`` over the devices, filled up to ``[padded, ...]``."""
    copies = padded(stack) - stack.size

    def pad(leaf: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf, np.repeat(leaf[-1:], copies, axis=0)])

    tree = jax.tree.map(pad, jax.device_get(tree)) if copies else tree
    return multihost.put(tree, place(stack, spec))


def gather(stack: Stack, tree: PyTree) -> PyTree:
    """Gather leaves ``[padded, ...]`` on the host, ``[size, ...]``."""
    return jax.tree.map(lambda leaf: leaf[: stack.size], multihost.get(tree))


def replicate(stack: Stack, tree: PyTree, spec: P = SAME) -> PyTree:
    """Put the same leaves in every row of the stack."""
    return multihost.put(tree, place(stack, spec))


def shape(
    stack: Stack, rest: tuple[int, ...], dtype: type, spec: P
) -> jax.ShapeDtypeStruct:
    """Return the shape ``[padded, *rest]`` of something sharded, to compile for."""
    return jax.ShapeDtypeStruct(
        (padded(stack), *rest), dtype, sharding=place(stack, spec)
    )


def sharded_like(stack: Stack, tree: PyTree) -> PyTree:
    """Return shapes of what `shard` makes of leaves ``[size, ...]``."""
    return jax.tree.map(
        lambda leaf: shape(stack, leaf.shape[1:], leaf.dtype, ROWS), tree
    )


def like(stack: Stack, tree: PyTree, spec: P = SAME) -> PyTree:
    """Return shapes of what `replicate` makes, to compile for."""
    where = place(stack, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree
    )


def map_runs(
    stack: Stack, axis_map: AxisMap, f: Callable[..., PyTree], in_axes: tuple
) -> Callable[..., PyTree]:
    """Map ``f`` over the stack, within each device by ``axis_map``.

    Args:
      stack: the stack.
      axis_map: ``jax.vmap`` or `axis_map.sequential`.
      f: of one thing.
      in_axes: 0 for what is spread, None for what is the same everywhere.
    """
    specs = tuple(SAME if axis is None else ROWS for axis in in_axes)
    return jax.shard_map(
        axis_map(f, in_axes), mesh=stack.mesh, in_specs=specs, out_specs=ROWS,
        axis_names={"rows"}, check_vma=False,
    )  # fmt: skip
