"""Conflict between tasks, against what MT does to optimization and to transfer."""

import numpy as np

from mtl_jax.analysis.at_steps import NOTHING, AtSteps, at_steps
from mtl_jax.analysis.comparison import (
    Compared,
    Rows,
    lone_row,
    named,
    seed_rows,
    stacked,
)
from mtl_jax.analysis.curves import Frame, judged_by, score_names, values
from mtl_jax.analysis.optimization import effects
from mtl_jax.analysis.transfer import Tested, tested
from mtl_jax.types import InputError

MEASURES = ("gradient_similarity", "mean_cosine")
"""Similarities of a task's gradient with the others', the first that was recorded: with
the summed gradient of the same batches; mean cosine with those of the other tasks."""


def conflict_effects(
    df: Frame,
    variant: str = "multi",
    baseline: str = "single",
    split: str = "test",
    by: str | None = None,
    *,
    per_step: bool = False,
) -> Frame:
    """Tabulate a task's gradient conflict, D and transfer, seed by seed (C3).

    ``conflict`` is minus the similarity (`MEASURES`) of the task's gradient with what
    the others want (scope ``shared``), so that + is conflict; ``effect`` is D of
    `optimization_effect` (nats, + is MT *worse*); ``transfer`` is the difference of
    `transfer` (+ is MT *better*) of the task's only score, otherwise its loss. C3
    expects conflict and effect to go together, and conflict and transfer not to.

    Args:
      df: records.
      variant: MT.
      baseline: ST.
      split: of transfer.
      by: what chooses the points of transfer, as there.
      per_step: a row per step that has both conflict and D, instead of their means
        over these steps.

    Returns:
      setting, variant, baseline, split, task; seed; step (-1 for the mean);
      conflict; effect; transfer (NaN where a run has no test value), transfer_name;
      comparable; reason. A task that is not comparable has one row, with seed -1.

    Raises:
      InputError: no conflict was recorded, or as `optimization_effect`.
    """
    conflicts = similarities(df, variant)
    if not len(conflicts):
        raise InputError(
            f"the records hold no {' nor '.join(map(repr, MEASURES))} (scope "
            f"'shared') of the tasks of {variant!r}; gradient conflict must be among "
            f"the measured factors."
        )
    tests = {
        (t.setting, t.task, t.name): t for t in tested(df, variant, baseline, split, by)
    }
    names = score_names(df, split)
    rows, curves = [], at_steps(conflicts)
    for effect in effects(df, variant, baseline):
        key = effect.sides.setting, effect.sides.task
        name = judged_by(names[key])
        conflict = curves.get((key[0], variant, key[1]), NOTHING)
        rows.append(_rows(effect, conflict, tests[*key, name], per_step))
    return named(stacked(rows), variant=variant, baseline=baseline, split=split)


def similarities(df: Frame, variant: str) -> Frame:
    """Select the gradient similarities of a variant's tasks; may be empty."""
    for name in MEASURES:
        rows = values(df, "probe", name, "shared")
        rows = rows[rows["variant"] == variant]
        if len(rows):
            break
    return rows


def _rows(compared: Compared, conflicts: AtSteps, test: Tested, per_step: bool) -> Rows:
    """Rows of one task."""
    side, effect = compared.sides, compared.values
    steps = np.asarray(compared.labels["step"])
    conflict = -conflicts.table(side.seeds, steps)
    at = np.isfinite(conflict + effect).all(axis=0)
    if not side.reason and not at.any():
        side = side._replace(reason="no step with the conflict and loss of all seeds")
    if side.reason:
        nothing = dict.fromkeys(["conflict", "effect", "transfer"], np.nan)
        return lone_row(side, {"step": -1, **nothing, "transfer_name": test.name})
    conflict, effect, steps = conflict[:, at], effect[:, at], steps[at]
    if not per_step:
        conflict = conflict.mean(axis=-1, keepdims=True)
        effect, steps = effect.mean(axis=-1, keepdims=True), np.array([-1])
    st, mt = (
        np.array([values.get(seed, np.nan) for seed in side.seeds])
        for values in (test.st, test.mt)
    )
    columns = {"conflict": conflict, "effect": effect}
    columns["transfer"] = test.direction * (mt - st)[:, None]
    columns["transfer_name"] = np.array(test.name)
    return seed_rows(side, {"step": steps}, columns)
