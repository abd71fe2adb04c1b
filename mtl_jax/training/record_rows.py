"""Rows of the records: values of a look at the runs."""

from collections.abc import Callable, Iterator

import jax
import numpy as np

from mtl_jax.smto import TOLERANCE, SmtoState
from mtl_jax.storage.records import Row
from mtl_jax.training import evaluate
from mtl_jax.training.evaluate import EvalBatches
from mtl_jax.training.setting import Setting
from mtl_jax.training.variants import Variant
from mtl_jax.types import PyTree

RowOf = Callable[..., Row]
"""``(run, step, split, task or None, name, value) -> Row``; see `row`."""


def row(
    setting: Setting,
    variant: Variant,
    batch_size: int,
    run: int,
    step: int,
    split: str,
    task: int | None,
    name: str,
    value: float,
    scope: str = "",
    standard_error: float = np.nan,
) -> Row:
    """Make the row of one number; ``task`` is None for what concerns the whole run."""
    first = int(variant.task_ids[run, 0])
    label = variant.labels[run]
    size = len(setting.data.rows["train"][first if task is None else task])
    return Row(
        setting=setting.name,
        variant=label.variant,
        run=label.number,
        seed=int(variant.seeds[run]),
        learning_rate=float(variant.learning_rates[run]),
        batch_size=batch_size,
        smto=variant.smto,
        step=step,
        epoch=step * batch_size / size,
        split=split,
        task="" if task is None else setting.tasks[task],
        name=name,
        value=float(value),
        scope=scope,
        standard_error=float(standard_error),
        group=label.group,
        target=label.target,
    )


def marks(row_of: RowOf, runs: np.ndarray, diverged: np.ndarray) -> Iterator[Row]:
    """Yield a row for every run that has diverged, at the step where it did."""
    for run in runs.tolist():
        yield row_of(run, int(diverged[run]), "train", None, "diverged", 1.0)


def values(
    row_of: RowOf,
    setting: Setting,
    variant: Variant,
    step: int,
    runs: np.ndarray,
    sums: PyTree,
    batches: EvalBatches,
) -> Iterator[Row]:
    """Yield losses and scores of some runs on all splits, from sums ``[R, ...]``."""
    measures = setting.objective.measures
    for run in runs.tolist():
        of_run = jax.tree.map(lambda leaf, run=run: leaf[run], sums)
        values = evaluate.values(setting, of_run, batches, variant.task_ids[run])
        for split, name, task, value in values:
            measured = row_of(run, step, split, task, name, value)
            yield measured._replace(**measures[name]._asdict())


def updates(
    row_of: RowOf, variant: Variant, step: int, runs: np.ndarray, smto: SmtoState
) -> Iterator[Row]:
    """Yield what multi-task optimizers of some runs did at the step before ``step``.

    On that step's mini-batch: of every task its ``weight`` and the ``direction_cosine``
    of its gradient with the direction, where the gradients are made; of the run the
    ``direction_norm``, the ``solver_residual`` (relative), ``solver_failed`` (1: it is
    above `smto.TOLERANCE`) and ``skipped_steps`` so far.
    """
    if step == 0 or variant.task_ids.shape[1] == 1:
        return
    for run in runs.tolist():
        for name, value in [
            ("direction_norm", smto.norm[run]),
            ("solver_residual", smto.residual[run]),
            ("solver_failed", smto.residual[run] > TOLERANCE),
            ("skipped_steps", smto.skipped[run]),
        ]:
            yield row_of(run, step, "train", None, name, value)
        for place, task in enumerate(variant.task_ids[run].tolist()):
            yield row_of(run, step, "train", task, "weight", smto.weights[run, place])
            cosine = smto.cosines[run, place]
            if np.isfinite(cosine):
                yield row_of(run, step, "train", task, "direction_cosine", cosine)
