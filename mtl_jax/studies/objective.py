"""Objective of a study: what candidates are worth by validation, as one number."""

import numpy as np

from mtl_jax import analysis
from mtl_jax.analysis.curves import Frame, counted
from mtl_jax.analysis.measures import measures
from mtl_jax.types import Config


def value_of(select: Config, df: Frame) -> float:
    """Return `mean_validation` of the records of one candidate.

    Args:
      select: ``by`` and ``over``, as in `analysis.candidates`.
      df: its records, up to any step.

    Returns:
      -inf where validation has no finite value.
    """
    df = counted(df)
    validated = df[(df["split"] == "validation") & np.isfinite(df["value"])]
    if not len(validated):
        return -np.inf
    return mean_validation(df, analysis.candidates(df, select.by or None, select.over))


def mean_validation(df: Frame, table: Frame) -> float:
    """Mean of the chosen values, signed so that more is better; -inf of diverged ones.

    Of tasks first, then of variants: each has as much of a say as any other.
    """
    chosen, declared = table[table["chosen"]], measures(df)
    values: dict[str, list[float]] = {}
    for row in chosen.itertuples():
        lost = row.runs == row.diverged or not np.isfinite(row.validation)
        value = -np.inf
        if not lost:
            value = declared[row.setting, row.by].direction * row.validation
        values.setdefault(row.variant, []).append(value)
    return float(np.mean([np.mean(of_tasks) for of_tasks in values.values()]))
