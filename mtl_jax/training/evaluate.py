"""Loss and scores of runs on whole splits: sums on the device, divisions after."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from mtl_jax import types
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.objectives.losses import named
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import Data, take
from mtl_jax.types import TASK_AXES, Array, ModelState, Params, PyTree


class EvalBatches(NamedTuple):
    """All splits of all tasks cut into batches of one size."""

    rows: np.ndarray
    """Rows of the pool ``[T, N, B]``; the last batch of a split is filled up."""
    mask: np.ndarray
    """1 for an example, 0 for a filling ``[T, N, B]``."""
    split: np.ndarray
    """Name of the split of every batch ``[N]``."""


def eval_batches(
    splits: dict[str, tuple[np.ndarray, ...]], batch_size: int
) -> EvalBatches:
    """Cut ``split -> rows per task`` into batches; tasks may differ in size."""
    rows, masks, names = [], [], []
    for name, per_task in splits.items():
        number = max(-(-len(part) // batch_size) for part in per_task)
        filled = np.zeros((len(per_task), number * batch_size), np.int32)
        mask = np.zeros(filled.shape, np.float32)
        for task, part in enumerate(per_task):
            filled[task] = part[0]
            filled[task, : len(part)] = part
            mask[task, : len(part)] = 1
        rows.append(filled.reshape(len(per_task), number, batch_size))
        masks.append(mask.reshape(rows[-1].shape))
        names += [name] * number
    return EvalBatches(
        np.concatenate(rows, axis=1), np.concatenate(masks, axis=1), np.array(names)
    )


def labelled(batches: EvalBatches, setting: Setting) -> EvalBatches:
    """Take examples whose label is missing out of the mask of their task."""
    data = setting.data
    mask = batches.mask.copy()
    for task, objective in enumerate(map(named, data.objectives)):
        if objective.labelled:
            rows = batches.rows[task]
            y = data.y[rows, task] if data.one_input else data.y[rows]
            mask[task] *= np.asarray(objective.labelled(y))
    return batches._replace(mask=mask)


def sums(
    setting: Setting,
    task_map: AxisMap,
    params: Params,
    model_state: ModelState,
    rows: Array,
    mask: Array,
    task_ids: Array,
    data: Data,
) -> PyTree:
    """Sum losses, score statistics and examples of one run, batch by batch.

    Statistics of a score of examples are kept instead, in every place of the batches. A
    batch that is nothing but filling costs nothing where what it is of (the task, or
    the whole run) is mapped one after another.

    Args:
      setting: the setting.
      task_map: how tasks are mapped.
      params: of one run of ``T`` tasks.
      model_state: of the run.
      rows: of all tasks of the setting.
      mask: of all tasks of the setting.
      task_ids: ``[T]``.
      data: the pool.

    Returns:
      ``{"loss": [T, N], "count": [T, N], "scores": {name: leaves [T, N, ...]}}``, with
      leaves ``[T, N, B, ...]`` of a score of examples.
    """
    objective = setting.objective

    def batch_sums(params: Params, state: ModelState, x: Array, y: PyTree, m: Array):
        outputs = setting.predict(params, state, x)

        def total(statistics: PyTree) -> PyTree:
            return jax.tree.map(lambda leaf: jnp.tensordot(m, leaf, axes=1), statistics)

        scores = {}
        for name, score in objective.scores.items():
            statistics = score.statistics(outputs, y)
            scores[name] = statistics if score.of_examples else total(statistics)
        loss = total(objective.example_loss(outputs, y))
        return {"loss": loss, "count": m.sum(), "scores": scores}

    x_axis, state_axes = setting.batch_axes.x, types.state_axes(setting.batch_axes)
    all_tasks = task_map(_where_any(batch_sums), (TASK_AXES, state_axes, x_axis, 0, 0))
    run_sums = _where_any(all_tasks)

    def round_sums(xs: tuple[Array, Array]) -> PyTree:
        rows, mask = xs  # [T, B]
        rows = rows if x_axis is not None else rows[0]
        batch = take(setting, data, rows, task_ids)
        return run_sums(params, model_state, batch.x, batch.y, mask)

    per_round = lax.map(
        round_sums,
        (jnp.moveaxis(rows[task_ids], 1, 0), jnp.moveaxis(mask[task_ids], 1, 0)),
    )
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), per_round)


def join(parts: list[PyTree], batches: EvalBatches) -> PyTree:
    """Join sums of parts, leaves ``[R, T, n, ...]``, to those of all batches.

    What fills up the last part is left out.
    """
    number = batches.rows.shape[1]
    return jax.tree.map(
        lambda *leaves: np.concatenate(leaves, axis=2)[:, :, :number], *parts
    )


def values(
    setting: Setting, totals: PyTree, batches: EvalBatches, task_ids: np.ndarray
) -> Iterator[tuple[str, str, int, float]]:
    """Yield loss and scores of one run from its `sums`, on the host.

    Args:
      setting: the setting.
      totals: of the run.
      batches: of all tasks of the setting.
      task_ids: the run's ``[T]``.

    Yields:
      ``(split, name, task, value)``, by split and task the loss and its scores.
    """
    for split in dict.fromkeys(batches.split.tolist()):
        here = batches.split == split
        for place, task in enumerate(task_ids.tolist()):
            of_task = jax.tree.map(lambda leaf, at=(place, here): leaf[at], totals)
            for name in ("loss", *setting.scores[task]):
                value = _value(setting, of_task, name, batches.mask[task, here])
                yield split, name, task, value


def _value(setting: Setting, totals: PyTree, name: str, mask: np.ndarray) -> float:
    """Value of a task, from leaves ``[N, ...]`` and the mask ``[N, B]`` of a split."""

    def total(leaf: np.ndarray) -> np.ndarray:
        return np.asarray(leaf, np.float64).sum(axis=0)

    count = total(totals["count"])
    if name == "loss":
        return float(total(totals["loss"]) / count)
    score, statistics = setting.objective.scores[name], totals["scores"][name]
    if score.of_examples:
        statistics = jax.tree.map(lambda leaf: leaf[mask > 0], statistics)
    else:
        statistics = jax.tree.map(total, statistics)
    return float(score.value(statistics, count))


def _where_any(f: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """``f(..., mask)``, and zeros without any work where the mask has no example.

    A branch wherever it is met on its own. Under ``vmap`` a branch would be a choice
    between two results, both computed, and of arguments copied for every row: there it
    is ``f``, whose result for a mask of nothing must not matter.
    """
    f = jax.jit(f)  # traced once for both of its uses

    @custom_vmap
    def guarded(*args: PyTree) -> PyTree:
        def nothing(*args: PyTree) -> PyTree:
            shapes = jax.eval_shape(f, *args)
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        return lax.cond(args[-1].any(), f, nothing, *args)

    @guarded.def_vmap
    def _(axis_size: int, in_batched: list, *args: PyTree) -> tuple[PyTree, PyTree]:
        del axis_size
        axes = jax.tree.map(lambda batched: 0 if batched else None, in_batched)
        outputs = jax.vmap(f, tuple(axes))(*args)
        return outputs, jax.tree.map(lambda _: True, outputs)

    return guarded
