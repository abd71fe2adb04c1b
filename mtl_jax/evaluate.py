"""Loss and scores of runs on whole splits: sums on the device, divisions after."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mtl_jax import types
from mtl_jax.axis_map import AxisMap
from mtl_jax.settings import Setting
from mtl_jax.train import Data, take
from mtl_jax.types import TASK_AXES, Array, ModelState, Params, PyTree


class Rounds(NamedTuple):
    """All splits of all tasks cut into batches of one size."""

    rows: np.ndarray
    """Rows of the pool ``[T, N, B]``; the last batch of a split is filled up."""
    mask: np.ndarray
    """1 for an example, 0 for a filling ``[T, N, B]``."""
    split: np.ndarray
    """Name of the split of every batch ``[N]``."""


def rounds(splits: dict[str, tuple[np.ndarray, ...]], batch_size: int) -> Rounds:
    """Cut ``split -> rows per task`` into batches; tasks may differ in size."""
    rows, masks, names = [], [], []
    for name, per_task in splits.items():
        batches = max(-(-len(own) // batch_size) for own in per_task)
        filled = np.zeros((len(per_task), batches * batch_size), np.int32)
        mask = np.zeros(filled.shape, np.float32)
        for task, own in enumerate(per_task):
            filled[task] = own[0]
            filled[task, : len(own)] = own
            mask[task, : len(own)] = 1
        rows.append(filled.reshape(len(per_task), batches, batch_size))
        masks.append(mask.reshape(rows[-1].shape))
        names += [name] * batches
    return Rounds(
        np.concatenate(rows, axis=1), np.concatenate(masks, axis=1), np.array(names)
    )


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
    """Sums of losses, score statistics and examples of one run, batch by batch.

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
      ``{"loss": [T, N], "count": [T, N], "scores": {name: leaves [T, N, ...]}}``.
    """
    objective = setting.objective

    def batch_sums(own: Params, own_state: ModelState, x: Array, y: PyTree, m: Array):
        outputs = setting.predict(own, own_state, x)
        statistics = {
            "loss": objective.example_loss(outputs, y),
            "scores": {
                name: score.statistics(outputs, y)
                for name, score in objective.scores.items()
            },
        }
        totals = jax.tree.map(lambda s: jnp.tensordot(m, s, axes=1), statistics)
        return {**totals, "count": m.sum()}

    x_axis, state_axes = setting.batch_axes.x, types.state_axes(setting.batch_axes)

    def round_sums(xs: tuple[Array, Array]) -> PyTree:
        rows, mask = xs  # [T, B]
        rows = rows if x_axis is not None else rows[0]
        batch = take(data, rows, task_ids, setting.batch_axes)
        return task_map(batch_sums, (TASK_AXES, state_axes, x_axis, 0, 0))(
            params, model_state, batch.x, batch.y, mask
        )

    per_round = lax.map(
        round_sums,
        (jnp.moveaxis(rows[task_ids], 1, 0), jnp.moveaxis(mask[task_ids], 1, 0)),
    )
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), per_round)


def join(pieces: list[PyTree], rounds: Rounds) -> PyTree:
    """Sums of pieces of the rounds, leaves ``[R, T, n, ...]``, to ``[R, T, N, ...]``.

    What fills up the last piece is left out.
    """
    number = rounds.rows.shape[1]
    return jax.tree.map(
        lambda *leaves: np.concatenate(leaves, axis=2)[:, :, :number], *pieces
    )


def values(
    setting: Setting, totals: PyTree, rounds: Rounds
) -> dict[tuple[str, str], np.ndarray]:
    """Values from the sums of one run: ``(split, name) -> [T]``, on the host."""
    found = {}
    for split in dict.fromkeys(rounds.split.tolist()):
        here = rounds.split == split
        sums = jax.tree.map(
            lambda leaf, here=here: np.asarray(leaf, np.float64)[:, here].sum(axis=1),
            totals,
        )
        found[split, "loss"] = sums["loss"] / sums["count"]
        for name, score in setting.objective.scores.items():
            found[split, name] = score.value(sums["scores"][name], sums["count"])
    return found
