"""What an experiment's programs are fed: batches of chunks, and rounds of evaluation.

Variants share what is read: a task sees the same batches in the same order whether it
trains alone or in company, so they are functions of seed, task and step.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from mtl_jax.data import schedule
from mtl_jax.devices import memory, run_axis
from mtl_jax.devices.run_axis import Stack
from mtl_jax.training import streaming
from mtl_jax.training.evaluate import Rounds
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import Data, data_pool
from mtl_jax.training.variants import Variant
from mtl_jax.types import ONE_INPUT, Array

Steps = tuple[int, int]
"""Where a chunk begins, and where it ends."""


class Part(NamedTuple):
    """What a program takes, on the devices: a pool and rows of it."""

    data: Data
    rows: Array
    """Of a chunk ``[R, S, T, B]``, for one input ``[R, S, B]``; of a piece of the
    evaluation ``[T, N, B]``."""
    mask: Array | None = None
    """Of a piece, as `Rounds.mask`."""


class Feed(NamedTuple):
    """Parts for the programs of all variants, in their order."""

    stacks: list[Stack]
    """Where the runs of every variant lie."""
    chunk_like: list[Part]
    """Shapes of the parts of a chunk."""
    piece_like: list[Part]
    """Shapes of the parts of a piece."""
    bytes: int
    """On a device."""
    chunks: Callable[[Sequence[Steps]], Iterator[list[Part]]]
    """Chunks, one after the other."""
    pieces: Callable[[], Iterator[list[Part]]]
    """Pieces of the evaluation: rounds in their order, as many in each, the last one
    filled up with rounds of nothing."""


def make_feed(
    setting: Setting,
    variants: list[Variant],
    train: tuple[np.ndarray, ...],
    batch_size: int,
    chunk: int,
    rounds: Rounds,
    sharing: int = 1,
    streams: bool = False,
) -> Feed:
    """Feed the programs of an experiment.

    Args:
      setting: of all variants.
      variants: of the experiment.
      train: rows of the training split of every task.
      batch_size: of training.
      chunk: the most steps of a chunk; rows are filled up to as many.
      rounds: of the evaluation.
      sharing: devices that share the batch of a run.
      streams: whether the data set stays on the host; see `mtl_jax.training.streaming`.
    """
    data, one_input = data_pool(setting), setting.batch_axes == ONE_INPUT
    stacks = [run_axis.make(len(variant.seeds), sharing) for variant in variants]
    meshes = {runs.mesh: runs for runs in stacks}  # variants of as many runs share it
    cut = [rounds]
    of_chunk = of_piece = streaming.whole(data, meshes)
    if streams:
        most = _most_rows(variants, train, chunk * batch_size, one_input)
        cut = _cut(rounds, most)
        most_of_piece = max(len(np.unique(piece.rows)) for piece in cut)
        of_chunk = streaming.small(data, meshes, most)
        of_piece = streaming.small(data, meshes, most_of_piece)

    def read_chunk(steps: Steps) -> tuple[Data, list[np.ndarray]]:
        batches = partial(_batches, train, batch_size, one_input, *steps)
        return of_chunk.gather([batches(variant) for variant in variants])

    def chunks(every: Sequence[Steps]) -> Iterator[list[Part]]:
        for own, rows in of_chunk.read(read_chunk, every):
            at = of_chunk.place(own)
            filled = [_fill(batches, chunk) for batches in rows]
            yield [
                Part(at[runs.mesh], run_axis.shard(runs, batches, _spec(one_input)))
                for runs, batches in zip(stacks, filled, strict=True)
            ]

    def read_piece(piece: Rounds) -> tuple[Data, Rounds]:
        own, (rows,) = of_piece.gather([piece.rows])
        return own, piece._replace(rows=rows)

    def pieces() -> Iterator[list[Part]]:
        for own, piece in of_piece.read(read_piece, cut):
            at = of_piece.place(own)
            split = {
                mesh: run_axis.replicate(runs, piece[:2], run_axis.split(3))
                for mesh, runs in meshes.items()
            }
            yield [Part(at[runs.mesh], *split[runs.mesh]) for runs in stacks]

    def chunk_like(variant: Variant, runs: Stack) -> Part:
        tasks = () if one_input else variant.task_ids.shape[1:]
        shape = (chunk, *tasks, batch_size)
        rows = run_axis.shape(runs, shape, np.int32, _spec(one_input))
        return Part(run_axis.like(runs, of_chunk.like), rows)  # type: ignore[arg-type]

    def piece_like(runs: Stack) -> Part:
        split = run_axis.like(runs, cut[0][:2], run_axis.split(3))
        return Part(run_axis.like(runs, of_piece.like), *split)

    sources = {id(source): source for source in (of_chunk, of_piece)}.values()
    return Feed(
        stacks=stacks,
        chunk_like=list(map(chunk_like, variants, stacks)),
        piece_like=list(map(piece_like, stacks)),
        bytes=sum(source.bytes for source in sources)
        + len(meshes) * memory.size(cut[0][:2]),
        chunks=chunks,
        pieces=pieces,
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
    """How the rows of a chunk lie."""
    return run_axis.split(3 if one_input else 4, first="rows")


def _fill(rows: np.ndarray, chunk: int) -> np.ndarray:
    """Rows of a chunk that ends early, as long as any: nobody looks at the rest."""
    filled = np.zeros((len(rows), chunk, *rows.shape[2:]), np.int32)
    filled[:, : rows.shape[1]] = rows
    return filled


def _most_rows(
    variants: list[Variant], train: tuple[np.ndarray, ...], count: int, one_input: bool
) -> int:
    """The most different rows that a chunk has, with ``count`` examples of a task."""
    streams = {
        (seed, 0 if one_input else task)
        for variant in variants
        for seed, tasks in zip(variant.seeds.tolist(), variant.task_ids, strict=True)
        for task in tasks.tolist()
    }
    seeds = Counter(task for _, task in streams)
    return sum(min(n * count, len(train[task])) for task, n in seeds.items())


def _cut(rounds: Rounds, most: int) -> list[Rounds]:
    """Rounds in pieces of one length, each of about ``most`` different rows.

    At least two rounds: a loop over one is no loop to XLA, which may round otherwise.
    """
    number = rounds.rows.shape[1]
    of_round = max(len(np.unique(rounds.rows[:, n])) for n in range(number))
    length = max(2, most // of_round)
    length = -(-number // -(-number // length))  # as even as they can be
    ends = range(length, number + length, length)
    return [_piece(rounds, end - length, end) for end in ends]


def _piece(rounds: Rounds, start: int, stop: int) -> Rounds:
    """Some of the rounds; behind the last one, the last one with nothing in it."""
    numbers = np.arange(start, stop)
    there = numbers < rounds.rows.shape[1]
    numbers = np.where(there, numbers, rounds.rows.shape[1] - 1)
    mask = rounds.mask[:, numbers] * there[:, None].astype(np.float32)
    return Rounds(rounds.rows[:, numbers], mask, rounds.split[numbers])
