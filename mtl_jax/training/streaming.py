"""Pools on their way to the devices: the whole data set once, or small ones in turn.

A program takes a pool and rows of it. Where the data set fits a device, that is the
pool. Where it does not, the host gathers the rows that are needed next into a small
pool, always of one length, and numbers them anew. Grain reads ahead while the devices
work; what it reads is a function of the step, so there is no state of it to keep.
Batches are the same either way, and so are the results, bit for bit.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from mtl_jax.devices import memory, multihost, run_axis
from mtl_jax.devices.run_axis import Stack
from mtl_jax.training.step import Data

CHOICES = ("auto", "always", "never")
AHEAD = 2
"""Small pools that the host reads while one is in use, each in a thread of its own."""
AT_ONCE = 2
"""Small pools of a source on a device: one in use, and the next one."""

Meshes = dict[Any, Stack]
"""Every mesh, with a stack on it."""


class Source(NamedTuple):
    """How rows of a data set become a pool on the devices, and rows of that."""

    like: Data
    """Shapes of its pools."""
    bytes: int
    """On a device."""
    gather: Callable[[list[np.ndarray]], tuple[Data, list[np.ndarray]]]
    """Rows of the data set to a pool on the host, and their numbers in it."""
    place: Callable[[Data], dict[Any, Data]]
    """A pool to the devices of every mesh."""
    read: Callable[..., Iterator[Any]]
    """As ``map``; ahead of time where that takes time."""


def is_needed(choice: str, data: Data) -> bool:
    """Whether to stream: ``auto`` does where the data takes half of a device's memory.

    All processes of a job do the same, whatever memory they have.
    """
    large = memory.size(data) > memory.capacity() / 2
    return (
        multihost.max_over_hosts(choice == "always" or (choice == "auto" and large)) > 0
    )


def whole(data: Data, meshes: Meshes) -> Source:
    """The data set itself; it goes to the devices when it is first asked for."""
    once = functools.cache(partial(_everywhere, meshes, data))
    return Source(
        like=data,
        bytes=len(meshes) * memory.size(data),
        gather=lambda rows: (data, rows),
        place=lambda _: once(),
        read=map,
    )


def small(data: Data, meshes: Meshes, length: int) -> Source:
    """Small pools.

    Args:
      data: the data set, on the host; mapped from a disk, only what is needed is read.
      meshes: where they go.
      length: of a pool; at least the number of different rows of one `Source.gather`.
    """
    x, y = (
        jax.ShapeDtypeStruct((length, *leaf.shape[1:]), leaf.dtype)
        for leaf in (data.x, data.y)
    )
    row = (data.x.nbytes + data.y.nbytes) // len(data.x)
    options = grain.ReadOptions(num_threads=AHEAD, prefetch_buffer_size=AHEAD)

    def read(f: Callable, every: Sequence) -> Iterator:
        return iter(grain.MapDataset.source(every).map(f).to_iter_dataset(options))

    return Source(
        like=Data(x, y, data.kinds),  # type: ignore[arg-type]
        bytes=len(meshes) * AT_ONCE * length * row,
        gather=partial(_gather, data, length),
        place=partial(_everywhere, meshes),
        read=read,
    )


def _everywhere(meshes: Meshes, data: Data) -> dict[Any, Data]:
    return {mesh: run_axis.replicate(own, data) for mesh, own in meshes.items()}


def _gather(
    data: Data, length: int, every: list[np.ndarray]
) -> tuple[Data, list[np.ndarray]]:
    """Every row once, in the order of the data set, as a disk likes it best.

    >>> data = Data(np.arange(0, 60, 10), np.arange(6), None)
    >>> _gather(data, 4, [np.array([[5, 3]]), np.array([3, 1])])[1]
    [array([[2, 1]], dtype=int32), array([1, 0], dtype=int32)]
    """
    rows = np.unique(np.concatenate([own.ravel() for own in every]))
    filled = np.concatenate([rows, np.repeat(rows[:1], length - len(rows))])
    pool = Data(data.x[filled], data.y[filled], data.kinds)
    return pool, [np.searchsorted(rows, own).astype(np.int32) for own in every]
