"""Conflict between tasks, against what MT does to optimization and to transfer."""

import numpy as np
import pandas as pd

from mtl_jax.analysis.comparison import Compared, lone_row, named, pair_rows
from mtl_jax.analysis.curves import Frame, judged_by, score_names, values
from mtl_jax.analysis.optimization import effects
from mtl_jax.analysis.transfer import Tested, tested
from mtl_jax.types import InputError

MEASURE = "mean_cosine"


def conflict_effects(
    df: Frame,
    variant: str = "multi",
    baseline: str = "single",
    split: str = "test",
    by: str | None = None,
    *,
    per_step: bool = False,
) -> Frame:
    """Tabulate a task's gradient conflict, D and transfer, per pair of seeds (C3).

    ``conflict`` is minus the mean cosine of the task's gradient with those of the
    others (scope ``shared``), so that + is conflict; ``effect`` is D of
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
      setting, variant, baseline, split, task; st_seed, mt_seed; step (-1 for the mean);
      conflict; effect; transfer (NaN where a run has no test value), transfer_name;
      comparable; reason. A task that is not comparable has one row, with seeds -1.

    Raises:
      InputError: no conflict was recorded, or as `optimization_effect`.
    """
    conflicts = values(df, "probe", MEASURE, "shared")
    conflicts = conflicts[conflicts["variant"] == variant]
    if not len(conflicts):
        raise InputError(
            f"the records hold no {MEASURE!r} (scope 'shared') of the tasks of "
            f"{variant!r}; gradient conflict must be among the measured factors."
        )
    tests = {
        (t.setting, t.task, t.name): t for t in tested(df, variant, baseline, split, by)
    }
    names = score_names(df, split)
    frames = []
    for effect in effects(df, variant, baseline):
        key = effect.sides.setting, effect.sides.task
        name = judged_by(names[key])
        rows = conflicts[
            (conflicts["setting"] == key[0]) & (conflicts["task"] == key[1])
        ]
        frames.append(_rows(effect, rows, tests[*key, name], per_step))
    table = pd.concat(frames, ignore_index=True)
    return named(table, variant=variant, baseline=baseline, split=split)


def _rows(compared: Compared, conflicts: Frame, test: Tested, per_step: bool) -> Frame:
    """Rows of one task."""
    side, steps, effect = (
        compared.sides,
        np.asarray(compared.labels["step"]),
        compared.values,
    )
    conflict = -(
        conflicts.pivot(index="seed", columns="step", values="value")
        .reindex(index=side.mt_seeds, columns=steps)
        .to_numpy()
    )
    at = np.isfinite(conflict[None] + effect).all(axis=(0, 1))
    if not side.reason and not at.any():
        side = side._replace(reason="no step with the conflict and loss of all seeds")
    if side.reason:
        nothing = dict.fromkeys(["conflict", "effect", "transfer"], np.nan)
        return lone_row(side, {"step": -1, **nothing, "transfer_name": test.name})
    conflict, effect, steps = conflict[:, at], effect[..., at], steps[at]
    if not per_step:
        conflict = conflict.mean(axis=-1, keepdims=True)
        effect, steps = effect.mean(axis=-1, keepdims=True), np.array([-1])
    st = np.array([test.st.get(seed, np.nan) for seed in side.st_seeds])
    mt = np.array([test.mt.get(seed, np.nan) for seed in side.mt_seeds])
    columns = {"conflict": conflict[None], "effect": effect}
    columns["transfer"] = test.direction * (mt[None] - st[:, None])[..., None]
    columns["transfer_name"] = np.array(test.name)
    return pair_rows(side, {"step": steps}, columns)
