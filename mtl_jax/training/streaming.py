"""Pools on their way to the devices: the whole data set once, or small ones in turn.

A program takes a pool and rows of it. Where the data set fits a device, that is the
pool. Where it does not, the host gathers the rows that are needed next into a small
pool, always of one length, and numbers them anew. Grain reads ahead while the devices
work; what it reads is a function of the step, so there is no state of it to keep.
Batches are the same either way, and so are the results, bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import grain
import jax
import numpy as np

from mtl_jax.devices import memory, multihost, run_axis
from mtl_jax.devices.run_axis import Stack
from mtl_jax.devices.target import Target
from mtl_jax.training.step import Data

CHOICES = ("auto", "always", "never")
AHEAD = 2
"""Small pools that the host reads while one is in use, each in a thread of its own."""
AT_ONCE = 2
"""Small pools on a device: one in use, and the next one."""

Meshes = dict[Any, Stack]
"""Meshes, each with a stack of runs on it."""


def is_needed(choice: str, data: Data, target: Target | None = None) -> bool:
    """Return whether to stream: ``auto`` does where data takes half a device's memory.

    All processes of a job do the same, whatever memory they have.
    """
    large = memory.size(data) > memory.capacity(target) / 2
    wanted = choice == "always" or (choice == "auto" and large)
    return multihost.max_over_hosts(wanted) > 0


@dataclass(frozen=True)
class WholePool:
    """The whole data set on the devices; it goes there when it is first asked for."""

    data: Data
    meshes: Meshes

    @property
    def like(self) -> Data:
        """Shapes of the pool."""
        return self.data

    @property
    def bytes(self) -> int:
        """Bytes on a device."""
        return len(self.meshes) * memory.size(self.data)

    def gather(self, rows: list[np.ndarray]) -> tuple[Data, list[np.ndarray]]:
        """Return the data set, and the rows as they are."""
        return self.data, rows

    def place(self, pool: Data) -> dict[Any, Data]:
        """Return the pool on the devices of every mesh."""
        del pool
        return self._placed

    @cached_property
    def _placed(self) -> dict[Any, Data]:
        return _replicated(self.meshes, self.data)

    def read(self, f: Callable, items: Sequence) -> Iterator:
        """Map a function over items."""
        return map(f, items)


@dataclass(frozen=True)
class SmallPools:
    """Rows of a data set that stays on the host, in pools of one length."""

    data: Data
    """Mapped from a disk, only what is needed is read."""
    meshes: Meshes
    length: int
    """Rows of a pool; at least the number of different rows of one `gather`."""

    @property
    def like(self) -> Data:
        """Shapes of a pool."""
        x, y = (
            jax.ShapeDtypeStruct((self.length, *leaf.shape[1:]), leaf.dtype)
            for leaf in (self.data.x, self.data.y)
        )
        return Data(x, y, self.data.kinds)  # type: ignore[arg-type]

    @property
    def bytes(self) -> int:
        """Bytes on a device."""
        row = (self.data.x.nbytes + self.data.y.nbytes) // len(self.data.x)
        return len(self.meshes) * AT_ONCE * self.length * row

    def gather(self, rows: list[np.ndarray]) -> tuple[Data, list[np.ndarray]]:
        """Gather rows of the data set in a pool, and number them anew.

        Each is there once, in the order of the data set, as a disk likes it best.

        >>> data = Data(np.arange(0, 60, 10), np.arange(6), None)
        >>> SmallPools(data, {}, 4).gather([np.array([[5, 3]]), np.array([3, 1])])[1]
        [array([[2, 1]], dtype=int32), array([1, 0], dtype=int32)]
        """
        chosen = np.unique(np.concatenate([part.ravel() for part in rows]))
        filling = np.repeat(chosen[:1], self.length - len(chosen))
        filled = np.concatenate([chosen, filling])
        pool = Data(self.data.x[filled], self.data.y[filled], self.data.kinds)
        return pool, [np.searchsorted(chosen, p).astype(np.int32) for p in rows]

    def place(self, pool: Data) -> dict[Any, Data]:
        """Return a pool on the devices of every mesh."""
        return _replicated(self.meshes, pool)

    def read(self, f: Callable, items: Sequence) -> Iterator:
        """Map a function over items, ahead of time."""
        options = grain.ReadOptions(num_threads=AHEAD, prefetch_buffer_size=AHEAD)
        source = grain.MapDataset.source(items)
        return iter(source.map(f).to_iter_dataset(options))


def _replicated(meshes: Meshes, data: Data) -> dict[Any, Data]:
    return {mesh: run_axis.replicate(runs, data) for mesh, runs in meshes.items()}
