"""Probes: the training examples of every task that factors are measured on."""

from functools import partial
from typing import Any

import jax
import numpy as np

from mtl_jax.training.setting import Setting
from mtl_jax.training.step import data_pool, take
from mtl_jax.types import ONE_INPUT, Array, Batch

RUN_EXAMPLES = 1_024
"""Examples of every task that a factor of a run looks at, of the probe: enough for
conflict between gradients, at half the price."""
BATCH = 128
"""Examples of a task at once there."""


def probe_batch(setting: Setting, probe: tuple[np.ndarray, ...], seed: int) -> Batch:
    """Take the probes of all tasks, as long as the shortest, each in a random order.

    Returns:
      ``x [T, N, ...]``, or ``[N, ...]`` where tasks share it, and ``y [T, N]``.
    """
    tasks, rows = _probe_rows(setting, probe, seed)
    return jax.device_get(take(setting, data_pool(setting), rows, tasks))


def probe_like(setting: Setting, probe: tuple[np.ndarray, ...]) -> Batch:
    """Return shapes of the probes."""
    tasks, rows = _probe_rows(setting, probe, 0)
    return jax.eval_shape(partial(take, setting), data_pool(setting), rows, tasks)


def _probe_rows(
    setting: Setting, probe: tuple[np.ndarray, ...], seed: int
) -> tuple[Any, Any]:
    """Numbers of the tasks, and rows of their probes."""
    size = min(len(rows) for rows in probe)
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    rows = np.stack([order.permutation(part)[:size] for part in probe])
    if setting.batch_axes == ONE_INPUT:
        rows = rows[0]
    return np.arange(len(setting.tasks)), rows


def of_tasks(probe: Batch, tasks: Array, axes: Batch) -> Batch:
    """Return the probes of a run's tasks ``[T, N, ...]`` (a shared ``x`` without T)."""
    x = probe.x if axes.x is None else probe.x[tasks]
    return Batch(x, jax.tree.map(lambda leaf: leaf[tasks], probe.y))


def mini_batches(probe: Batch, axes: Batch) -> Batch:
    """Cut an even number of batches ``[M, T, B, ...]`` (a shared ``x`` without T)."""
    count = min(RUN_EXAMPLES, _length(probe))
    size = min(BATCH, count // 2)
    number = 2 * (count // (2 * size))

    def cut(leaf: Array) -> Array:  # [N, ...] to [M, B, ...]
        return leaf[: number * size].reshape(number, size, *leaf.shape[1:])

    cut_tasks = jax.vmap(cut, out_axes=1)  # [T, N, ...] to [M, T, B, ...]
    x = (cut if axes.x is None else cut_tasks)(probe.x)
    return Batch(x, jax.tree.map(cut_tasks, probe.y))


def random_batch(
    probe: Batch, tasks: Array, size: int, axes: Batch, key: Array
) -> Batch:
    """Draw a random batch of all tasks ``[T, B, ...]`` (a shared ``x`` without T)."""
    length = _length(probe)

    def rows(key: Array) -> Array:
        return jax.random.permutation(key, length)[:size]

    def rows_of_task(task: Array) -> Array:
        return rows(jax.random.fold_in(key, task))

    def of_task(leaf: Array, rows: Array) -> Array:
        return leaf[rows]

    if axes.x is None:
        chosen = rows(key)
        return Batch(
            probe.x[chosen], jax.tree.map(lambda leaf: leaf[:, chosen], probe.y)
        )
    chosen = jax.vmap(rows_of_task)(tasks)
    return jax.tree.map(lambda leaf: jax.vmap(of_task)(leaf, chosen), probe)


def _length(probe: Batch) -> int:
    """Number of examples of a task."""
    return jax.tree.leaves(probe.y)[0].shape[1]
