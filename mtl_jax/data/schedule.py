"""The examples of a step: pure functions of seed, task and step.

The examples of a task are a stream of epochs, each an exact shuffle of its rows.
Any stretch of it is computed alone, so a resumed run sees what it would have seen.
"""

import functools

import numpy as np

from mtl_jax.types import InputError


def batches(
    rows: np.ndarray, seed: int, task: int, start: int, stop: int, batch_size: int
) -> np.ndarray:
    """Return the rows in batches ``start`` to ``stop``: int32 ``[stop - start, B]``.

    Batch ``s`` takes the places ``[s B, (s + 1) B)`` of the stream, across the
    borders of epochs.

    >>> batches(np.array([10, 20, 30]), seed=0, task=0, start=0, stop=3, batch_size=2)
    array([[30, 10],
           [20, 20],
           [30, 10]], dtype=int32)

    Args:
      rows: rows of the task's train split, ``[n]``.
      seed: of the run.
      task: number of the task.
      start: first batch.
      stop: batch behind the last one.
      batch_size: ``B``, at most ``n``.

    Raises:
      InputError: a batch is larger than the split.
    """
    n = len(rows)
    if batch_size > n:
        raise InputError(
            f"a batch of {batch_size} examples is larger than the train split of "
            f"task {task}, which has {n}; choose a batch size of at most {n}"
        )
    first, last = start * batch_size, stop * batch_size
    epochs = range(first // n, max(first, last - 1) // n + 1)
    stream = np.concatenate([permutation(n, seed, task, epoch) for epoch in epochs])
    places = stream[first - epochs[0] * n : last - epochs[0] * n]
    return rows[places].astype(np.int32).reshape(stop - start, batch_size)


def probe(rows: np.ndarray, seed: int, task: int, size: int) -> np.ndarray:
    """Sample rows to measure on, sorted and fixed: int32 ``[min(size, n)]``."""
    # A list of seeds is padded with zeros, so that [seed, task] would be the shuffle
    # of epoch 0; a spawn key is not.
    key = np.random.SeedSequence([seed, task], spawn_key=(0,))
    n = len(rows)
    sample = np.random.default_rng(key).choice(n, min(size, n), replace=False)
    return np.sort(rows[sample]).astype(np.int32)


@functools.lru_cache(maxsize=64)
def permutation(n: int, seed: int, task: int, epoch: int) -> np.ndarray:
    """Shuffle the places of an epoch: read-only int32 ``[n]``."""
    shuffle = np.random.default_rng([seed, task, epoch]).permutation(n)
    shuffle = shuffle.astype(np.int32)
    shuffle.setflags(write=False)  # it is shared by all callers
    return shuffle
