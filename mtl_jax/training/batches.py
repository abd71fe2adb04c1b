"""The loader of an experiment: batches of training in chunks, and of evaluation.

Variants share what is read: a task sees the same batches in the same order whether it
trains alone or in company, so they are functions of seed, task and step.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.data import schedule
from mtl_jax.devices import memory, run_axis
from mtl_jax.devices.run_axis import Stack
from mtl_jax.training.evaluate import EvalBatches
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import Data, data_pool
from mtl_jax.training.streaming import Meshes, SmallPools, WholePool
from mtl_jax.training.variants import Variant
from mtl_jax.types import ONE_INPUT, Array

Span = tuple[int, int]
"""Steps between which a chunk lies: the first, and the one after its last."""


class IndexedPool(NamedTuple):
    """A pool of examples on the devices, and the rows of it that a program takes."""

    data: Data
    rows: Array
    """In training ``[R, S, T, B]``, for one input ``[R, S, B]``; in evaluation
    ``[T, N, B]``."""
    mask: Array | None = None
    """In evaluation, as `EvalBatches.mask`."""


@dataclass(frozen=True)
class Loader:
    """Batches for the programs of all variants, in their order; see `make_loader`."""

    variants: list[Variant]
    train: tuple[np.ndarray, ...]
    """Rows of the training split of every task."""
    batch_size: int
    chunk: int
    """The most steps of a chunk; rows are filled up to as many."""
    one_input: bool
    stacks: list[Stack]
    """Layouts of the runs of the variants on the devices."""
    eval_parts: list[EvalBatches]
    """Batches of the evaluation, in parts of one length."""
    train_pools: WholePool | SmallPools
    eval_pools: WholePool | SmallPools

    @property
    def train_like(self) -> list[IndexedPool]:
        """Shapes of one of `train_chunks`."""
        return list(map(self._train_like, self.variants, self.stacks))

    @property
    def eval_like(self) -> list[IndexedPool]:
        """Shapes of one of `eval_chunks`."""
        spec = run_axis.split(3)
        return [
            IndexedPool(
                run_axis.like(runs, self.eval_pools.like),
                *run_axis.like(runs, self.eval_parts[0][:2], spec),
            )
            for runs in self.stacks
        ]

    @property
    def bytes(self) -> int:
        """Bytes on a device."""
        pools = {id(pool): pool for pool in (self.train_pools, self.eval_pools)}
        indices = len(self._meshes) * memory.size(self.eval_parts[0][:2])
        return sum(pool.bytes for pool in pools.values()) + indices

    def train_chunks(self, spans: Sequence[Span]) -> Iterator[list[IndexedPool]]:
        """Yield the batches of all variants, a chunk of steps at a time."""
        for pool, rows in self.train_pools.read(self._read_span, spans):
            placed = self.train_pools.place(pool)
            filled = [_fill(batches, self.chunk) for batches in rows]
            yield [
                IndexedPool(
                    placed[runs.mesh],
                    run_axis.shard(runs, batches, _spec(self.one_input)),
                )
                for runs, batches in zip(self.stacks, filled, strict=True)
            ]

    def eval_chunks(self) -> Iterator[list[IndexedPool]]:
        """Yield the batches of an evaluation, of all variants, part by part."""
        for pool, part in self.eval_pools.read(self._read_part, self.eval_parts):
            placed = self.eval_pools.place(pool)
            split = {
                mesh: run_axis.replicate(runs, part[:2], run_axis.split(3))
                for mesh, runs in self._meshes.items()
            }
            yield [
                IndexedPool(placed[runs.mesh], *split[runs.mesh])
                for runs in self.stacks
            ]

    @property
    def _meshes(self) -> Meshes:
        return self.train_pools.meshes

    def _read_span(self, span: Span) -> tuple[Data, list[np.ndarray]]:
        cut = partial(_batches, self.train, self.batch_size, self.one_input, *span)
        return self.train_pools.gather([cut(variant) for variant in self.variants])

    def _read_part(self, part: EvalBatches) -> tuple[Data, EvalBatches]:
        pool, (rows,) = self.eval_pools.gather([part.rows])
        return pool, part._replace(rows=rows)

    def _train_like(self, variant: Variant, runs: Stack) -> IndexedPool:
        tasks = () if self.one_input else variant.task_ids.shape[1:]
        shape = (self.chunk, *tasks, self.batch_size)
        rows: Any = run_axis.shape(runs, shape, np.int32, _spec(self.one_input))
        return IndexedPool(run_axis.like(runs, self.train_pools.like), rows)


def make_loader(
    setting: Setting,
    variants: list[Variant],
    train: tuple[np.ndarray, ...],
    batch_size: int,
    chunk: int,
    evaluation: EvalBatches,
    devices: Sequence[Any],
    data_parallel: int = 1,
    streams: bool = False,
) -> Loader:
    """Make the loader of an experiment.

    Args:
      setting: of all variants.
      variants: of the experiment.
      train: rows of the training split of every task.
      batch_size: of training.
      chunk: the most steps of a chunk; rows are filled up to as many.
      evaluation: batches of the evaluation.
      devices: that the runs are spread over.
      data_parallel: devices that share the batch of a run.
      streams: whether the data set stays on the host; see `mtl_jax.training.streaming`.
    """
    data, one_input = data_pool(setting), setting.batch_axes == ONE_INPUT
    stacks = [run_axis.make(len(v.seeds), devices, data_parallel) for v in variants]
    meshes = {runs.mesh: runs for runs in stacks}  # variants of as many runs share it
    parts = [evaluation]
    train_pools = eval_pools = WholePool(data, meshes)
    if streams:
        most = _most_rows(variants, train, chunk * batch_size, one_input)
        parts = _cut(evaluation, most)
        longest = max(len(np.unique(part.rows)) for part in parts)
        train_pools = SmallPools(data, meshes, most)
        eval_pools = SmallPools(data, meshes, longest)
    return Loader(
        variants=variants,
        train=train,
        batch_size=batch_size,
        chunk=chunk,
        one_input=one_input,
        stacks=stacks,
        eval_parts=parts,
        train_pools=train_pools,
        eval_pools=eval_pools,
    )


def _batches(
    train: tuple[np.ndarray, ...],
    batch_size: int,
    one_input: bool,
    start: int,
    stop: int,
    variant: Variant,
) -> np.ndarray:
    """Rows of the batches of all runs: ``[R, S, T, B]``, for one input ``[R, S, B]``.

    A function of seed and task, not of the variant: a task sees the same batches in
    the same order whether it trains alone or in company.
    """

    def batches(seed: int, task: int) -> np.ndarray:
        return schedule.batches(train[task], seed, task, start, stop, batch_size)

    runs = zip(variant.seeds.tolist(), variant.task_ids.tolist(), strict=True)
    if one_input:
        return np.stack([batches(seed, 0) for seed, _ in runs])
    return np.stack(
        [np.stack([batches(seed, t) for t in tasks], axis=1) for seed, tasks in runs]
    )


def _spec(one_input: bool) -> run_axis.P:
    """Layout of the rows of a chunk on the devices."""
    return run_axis.split(3 if one_input else 4, first="rows")


def _fill(rows: np.ndarray, chunk: int) -> np.ndarray:
    """Fill up rows of a chunk that ends early: nobody looks at the rest."""
    filled = np.zeros((len(rows), chunk, *rows.shape[2:]), np.int32)
    filled[:, : rows.shape[1]] = rows
    return filled


def _most_rows(
    variants: list[Variant], train: tuple[np.ndarray, ...], count: int, one_input: bool
) -> int:
    """Most different rows that a chunk has, with ``count`` examples of a task."""
    streams = {
        (seed, 0 if one_input else task)
        for variant in variants
        for seed, tasks in zip(variant.seeds.tolist(), variant.task_ids, strict=True)
        for task in tasks.tolist()
    }
    seeds = Counter(task for _, task in streams)
    return sum(min(n * count, len(train[task])) for task, n in seeds.items())


def _cut(evaluation: EvalBatches, most: int) -> list[EvalBatches]:
    """Cut batches in parts of one length, each of about ``most`` different rows.

    At least two batches: a loop over one is no loop to XLA, which may round otherwise.
    """
    number = evaluation.rows.shape[1]
    of_batch = max(len(np.unique(evaluation.rows[:, n])) for n in range(number))
    length = max(2, most // of_batch)
    length = -(-number // -(-number // length))  # as even as they can be
    ends = range(length, number + length, length)
    return [_part(evaluation, end - length, end) for end in ends]


def _part(evaluation: EvalBatches, start: int, stop: int) -> EvalBatches:
    """Some of the batches; behind the last one, the last one with nothing in it."""
    numbers = np.arange(start, stop)
    there = numbers < evaluation.rows.shape[1]
    numbers = np.where(there, numbers, evaluation.rows.shape[1] - 1)
    mask = evaluation.mask[:, numbers] * there[:, None].astype(np.float32)
    return EvalBatches(evaluation.rows[:, numbers], mask, evaluation.split[numbers])
