"""Costs of predictors: the training that they need."""

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.grouping.predictors import PREDICTORS
from mtl_jax.analysis.grouping.transfers import groups, tasks_of


def costs(df: Frame, table: Frame, method: str = "multi") -> Frame:
    """Tabulate what every predictor costs in training, for one seed.

    Args:
      df: records.
      table: of `predictors`.
      method: of the groups.

    Returns:
      setting, predictor; runs; task_steps (steps times the tasks of a run, summed over
      runs: as many steps as training goes on for); looks (points of the trajectory at
      which gradients of the tasks were measured, besides: of affinity each costs the
      gradients of T tasks and T (T + 1) losses). Predictors of data need no training.
    """
    rows = []
    for setting, of in table.groupby("setting", sort=False):
        tasks = len(tasks_of(df, setting))
        records = df[df["setting"] == setting]
        variants = groups(records, method)["variant"]
        steps = records[records["variant"].isin(variants)]["step"].max()
        for name in dict.fromkeys(of["predictor"]):
            known = PREDICTORS.get(name)
            sizes = known.runs(tasks) if known else []
            looks = records[_looks(records["name"], known.looks if known else "")]
            row = {"setting": setting, "predictor": name, "runs": len(sizes)}
            row |= {"task_steps": sum(sizes) * int(steps)}
            rows.append({**row, "looks": looks["step"].nunique()})
    columns = ["setting", "predictor", "runs", "task_steps", "looks"]
    return pd.DataFrame(rows, columns=columns)


def _looks(names: Frame, of: str) -> Frame:
    """Mark the rows of a factor, of pairs ``NAME/OTHER`` or of tasks ``NAME``."""
    if not of:
        return np.zeros(len(names), bool)
    return names.str.partition("/")[0] == of
