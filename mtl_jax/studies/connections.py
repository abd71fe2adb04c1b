"""Loss barriers between solutions of a run: single-task, multi-task and merged ones."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.metrics import barrier
from mtl_jax.objectives.missing import mean_loss
from mtl_jax.studies.statistics import refreshed
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import Data
from mtl_jax.types import Array, Batch, ModelState, Params, PyTree, Scalar

POINTS = 11
"""On a line, both ends included."""


class Solution(NamedTuple):
    """A model of one task."""

    params: Params
    state: ModelState


def barriers(
    setting: Setting, first: Solution, second: Solution, data: Data, probe: Batch,
    rows: Array,
) -> Array:  # fmt: skip
    """Return the barrier of every task between two models, nats: ``[T]``.

    ``max_a L(a) - [(1 - a) L(0) + a L(1)]`` of the task's loss on its probe, along the
    line between both trunks and heads, `metrics.barrier`. Batch statistics are
    recomputed at every point.

    Args:
      setting: of the tasks.
      first: models of all tasks, leaves ``[T, ...]``.
      second: the same.
      data: the pool.
      probe: examples ``[T, N, ...]``, or ``[N, ...]`` with labels ``[T, N]``.
      rows: training examples ``[T, N, B]`` for statistics.
    """

    def of_task(first: Solution, second: Solution, batch: Batch, rows: Array) -> Scalar:
        def refresh(params: Params) -> Solution:
            trunk = refreshed(setting, params.shared, first.state.trunk, data, rows)
            return Solution(params, ModelState(trunk, first.state.heads))

        def loss(solution: Solution, batch: Batch) -> Scalar:
            outputs = setting.predict(solution.params, solution.state, batch.x)
            return mean_loss(setting.objective, outputs, batch.y)

        ends = first.params, second.params
        return barrier(loss, *ends, batch, points=POINTS, refresh=refresh).value

    tasks = jnp.arange(len(setting.tasks))

    def measured(task: Array) -> Scalar:
        at = partial(_at, task)
        x = probe.x if setting.batch_axes.x is None else probe.x[task]
        batch = Batch(x, at(probe.y))
        return of_task(at(first), at(second), batch, rows[task])

    return jax.lax.map(measured, tasks)


def _at(task: Array, tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[task], tree)
