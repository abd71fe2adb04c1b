"""Processes of one job, on one host or several, each with devices of its own.

All of them run the same program on the same data and reach the same points; the first
writes. A process alone is the first, and nothing here costs it anything.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from mtl_jax.types import PyTree

Arguments = ParamSpec("Arguments")


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def are_many() -> bool:
    """Whether there are other processes."""
    return jax.process_count() > 1


def by_first(f: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Make a function that does nothing but in the first process."""

    @functools.wraps(f)
    def guarded(*args: Arguments.args, **options: Arguments.kwargs) -> None:
        if is_first():
            f(*args, **options)

    return guarded


def largest(number: int) -> int:
    """Largest of the numbers that the processes bring; waits for all of them."""
    if not are_many():
        return number
    with jax.transfer_guard("allow"):
        return int(multihost_utils.process_allgather(np.int32(number)).max())


def agree(number: int) -> bool:
    """Whether all processes bring the same number; waits for all of them."""
    return largest(number) == -largest(-number)


def put(tree: PyTree, sharding: Sharding) -> PyTree:
    """What all processes hold, to the devices of all."""
    if not are_many():
        return jax.device_put(tree, sharding)

    def put_one(leaf: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

    with jax.transfer_guard("allow"):
        return jax.tree.map(put_one, jax.device_get(tree))


def get(tree: PyTree) -> PyTree:
    """What the devices of all processes hold, to every process."""
    if not are_many():
        return jax.device_get(tree)

    leaves, treedef = jax.tree.flatten(tree)
    far = [i for i, leaf in enumerate(leaves) if _is_far(leaf)]
    places = [NamedSharding(leaves[i].sharding.mesh, P()) for i in far]
    near = jax.jit(_same, out_shardings=places)([leaves[i] for i in far])
    for i, leaf in zip(far, near, strict=True):
        leaves[i] = leaf.addressable_data(0)
    return jax.tree.unflatten(treedef, jax.device_get(leaves))


def _is_far(leaf: PyTree) -> bool:
    """Whether part of an array is on devices of other processes only."""
    return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


def _same(leaves: list[jax.Array]) -> list[jax.Array]:
    return leaves
