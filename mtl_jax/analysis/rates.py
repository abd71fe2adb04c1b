"""Learning rates: the one of each variant that its validation data choose."""

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import (
    CURVE,
    Frame,
    better,
    judged_by,
    score_names,
    values,
    with_divergence,
)
from mtl_jax.types import InputError

CANDIDATE = ["setting", "variant", "learning_rate", "batch_size"]


def best_points(df: Frame, by: str | None = None) -> Frame:
    """The point of every curve that its validation data choose: the first best one.

    Args:
      df: records.
      by: name of the validation value that chooses; None for the only score of the
        task and, where there are none or several, the loss.

    Returns:
      A row per curve: setting, variant, learning_rate, batch_size, seed, task; by;
      step; validation (the value there); diverged (the run did, later).

    Raises:
      InputError: no such validation value, or one that is there twice.
    """
    names, found = score_names(df, "validation"), []
    chosen = {key: by or judged_by(scores) for key, scores in names.items()}
    for name in sorted(set(chosen.values())):
        rows = values(df, "validation", name)
        keys = zip(rows["setting"], rows["task"], strict=True)
        rows = rows[np.array([chosen[key] == name for key in keys], bool)]
        rows = rows[np.isfinite(rows["value"])].assign(by=name)
        rows["worse"] = -better(name) * rows["value"]
        found.append(rows)
    if not sum(map(len, found)):
        raise InputError(
            f"the records hold no {by or 'loss'!r} of split 'validation'; it chooses "
            f"the point of a run."
        )
    best = pd.concat(found).sort_values([*CURVE, "worse", "step"])
    best = best.drop_duplicates(CURVE).rename(columns={"value": "validation"})
    best["diverged"] = best["diverged_at"].notna()
    columns = [*CURVE, "by", "step", "validation", "diverged"]
    return best[columns].reset_index(drop=True)


def rates(df: Frame, by: str | None = None) -> Frame:
    """How every learning rate (and batch size) of a variant does in validation.

    The value is the mean over tasks and seeds of the best one along each curve, before
    divergence. The best mean is chosen; a rate at which every run diverged, only where
    there is no other; of equals, the smaller.

    Args:
      df: records.
      by: name of the validation value that chooses; None for the score that all tasks
        of the setting have, if it is their only one, otherwise the loss.

    Returns:
      A row per candidate: setting, variant, learning_rate, batch_size; by; validation;
      runs, diverged (numbers of runs); chosen.

    Raises:
      InputError: as `best_points`.
    """
    found = []
    for _, own in df.groupby("setting"):
        judges = {judged_by(names) for names in score_names(own, "validation").values()}
        name = by or (judges.pop() if len(judges) == 1 else "loss")
        groups = best_points(own, by=name).groupby(CANDIDATE)
        one = groups["validation"].mean().reset_index()
        runs = with_divergence(own).drop_duplicates([*CANDIDATE, "seed", "run"])
        counts = runs.groupby(CANDIDATE)["diverged_at"].agg(["size", "count"])
        counts = counts.rename(columns={"size": "runs", "count": "diverged"})
        one = counts.reset_index().merge(one, how="left", on=CANDIDATE)
        one["lost"] = one["runs"] == one["diverged"]
        one["worse"] = -better(name) * one["validation"]
        order = ["variant", "lost", "worse", "learning_rate", "batch_size"]
        one = one.sort_values(order)
        one["chosen"] = ~one.duplicated("variant")
        found.append(one.assign(by=name))
    columns = [*CANDIDATE, "by", "validation", "runs", "diverged", "chosen"]
    table: Frame = pd.concat(found)
    return table[columns].sort_values(CANDIDATE, ignore_index=True)


def select_rates(df: Frame, by: str | None = None) -> Frame:
    """The records of the rate, with its batch size, that `rates` chooses per variant.

    ST, too, keeps one rate for all of its tasks. The choice needs only validation
    values, so test values stay fair.
    """
    table = rates(df, by)
    return df.merge(table[table["chosen"]][CANDIDATE], on=CANDIDATE)
