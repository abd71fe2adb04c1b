"""Choice of groups by every predictor, with what was measured of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.grouping.predictors import JUDGES, matrix_of, predictors
from mtl_jax.analysis.grouping.search import (
    ALONE,
    Grouping,
    Groups,
    all_groups,
    best_groups,
    mean_of_pairs,
)
from mtl_jax.analysis.grouping.transfers import (
    JOIN,
    members,
    name_of,
    tasks_of,
    transfers,
)
from mtl_jax.analysis.interval import NO_MEAN, paired_t
from mtl_jax.analysis.memo import scope
from mtl_jax.types import InputError

MEASURED, ALONE_ALL, TOGETHER = "measured groups", "all alone", "all together"
"""Choices beside those of predictors: by the validation values of all groups that were
trained, and two that need no choice."""
COLUMNS = ["setting", "by", "budget", "models", "groups", "serves", "predicted"]
COLUMNS += ["measured", "low", "high", "seeds", "untrained", "reason"]


@scope()
def choices(
    df: Frame,
    budget: int,
    data: Frame | None = None,
    costs: Sequence[int] | None = None,
    method: str = "multi",
    baseline: str = "single",
    split: str = "test",
) -> Frame:
    """Choose the best groups under a budget by every predictor, and look them up.

    A task that trains alone scores 0: neither helped nor harmed. Predictors that are
    never negative, such as similarities of data, leave no task alone by choice. Groups
    are `search.all_groups`: of more than 13 tasks not the largest.
    ``measured groups`` chooses by validation values of all groups that were trained.

    Args:
      df: records of one rate a task and variant.
      budget: models, or the sum of their costs, at most.
      data: values of predictors that records do not hold, as `tabulate` makes them.
      costs: of a model of 1 to T tasks; 1 each if not given.
      method: of the groups.
      baseline: tasks alone.
      split: of what was measured.

    Returns:
      setting; by (the predictor); budget, models; groups (``a+b | c``), serves (``a |
      c``, the tasks that each is used for); predicted (mean score of a task, in the
      predictor's unit); measured (mean over tasks of their transfer, percent, + is
      better), low, high (95% t over seeds), seeds; untrained (variants that would have
      to be trained to know it); reason (why there is no choice, or no measure).

    Raises:
      InputError: as `transfers`.
    """
    table, rows = predictors(df, data, method, baseline), []
    measured = transfers(df, "score", method, baseline, split)
    judged = transfers(df, "score", method, baseline, JUDGES)
    for setting in dict.fromkeys(measured["setting"]):
        tasks = tasks_of(df, setting)
        groups = all_groups(len(tasks))
        of_test = measured[measured["setting"] == setting]
        by: dict[str, tuple[np.ndarray, Groups]] = {
            name: (mean_of_pairs(matrix_of(of, tasks), groups), groups)
            for name, of in table[table["setting"] == setting].groupby(
                "predictor", sort=False
            )
        }
        of_setting = judged[judged["setting"] == setting]
        by[MEASURED] = scores_of(of_setting, tasks)
        for name, (scores, searched) in by.items():
            try:
                chosen = best_groups(scores, searched, budget, costs)
            except InputError as error:
                row = {"predicted": np.nan, "measured": np.nan, "reason": str(error)}
            else:
                row = _looked_up(chosen, of_test, tasks, method)
            rows.append({"setting": setting, "by": name, "budget": budget, **row})
        every_task = tuple(range(len(tasks)))
        for name, models in (
            (ALONE_ALL, tuple((task,) for task in every_task)),
            (TOGETHER, (every_task,)),
        ):
            grouping = Grouping(models, models, np.nan)
            row = _looked_up(grouping, of_test, tasks, method)
            rows.append({"setting": setting, "by": name, "budget": len(models), **row})
    return pd.DataFrame(rows, columns=COLUMNS)


def scores_of(measured: Frame, tasks: Sequence[str]) -> tuple[np.ndarray, Groups]:
    """Score tasks ``[T, G]`` in groups that were measured, and alone; NaN of others.

    Args:
      measured: rows of `transfers` of one setting; means over seeds are taken.
      tasks: names of the tasks ``[T]``.
    """
    number = {name: place for place, name in enumerate(tasks)}
    means = measured.groupby(["target", "group"])["value"].mean()
    trained = {
        name: tuple(sorted(number[task] for task in members(name)))
        for name in means.index.unique("group")
    }
    groups = list(dict.fromkeys([*all_groups(len(tasks), 1), *trained.values()]))
    place = {group: column for column, group in enumerate(groups)}
    scores = np.full((len(tasks), len(groups)), np.nan)
    np.fill_diagonal(scores, ALONE)
    for (target, name), value in means.items():
        scores[number[target], place[trained[name]]] = value
    return scores, groups


def _looked_up(
    chosen: Grouping, measured: Frame, tasks: Sequence[str], method: str
) -> dict[str, Any]:
    """Columns of a choice, and of what was measured of it."""
    wide = measured.pivot_table(
        index="seed", columns=["target", "group"], values="value"
    )
    per_task, untrained = [], []
    for group, served in zip(chosen.groups, chosen.serves, strict=True):
        name = name_of([tasks[t] for t in group], tasks)
        for target in (tasks[t] for t in served):
            if len(group) == 1:
                per_task.append(pd.Series(ALONE, index=wide.index))
            elif (target, name) in wide:
                per_task.append(wide[target, name])
            else:
                untrained.append(f"{method}:{name}")
    mean = NO_MEAN
    if not untrained:
        means = pd.concat(per_task, axis=1).mean(axis=1, skipna=False)
        mean = paired_t(means.dropna().to_numpy())
    reason = f"not trained: {', '.join(dict.fromkeys(untrained))}" * bool(untrained)

    def text(sets: Sequence[Sequence[int]]) -> str:
        return " | ".join(JOIN.join(tasks[t] for t in part) for part in sets)

    return {
        "models": len(chosen.groups),
        "groups": text(chosen.groups),
        "serves": text(chosen.serves),
        "predicted": chosen.score,
        "measured": mean.value,
        "low": mean.low,
        "high": mean.high,
        "seeds": measured["seed"].nunique(),
        "untrained": ", ".join(dict.fromkeys(untrained)),
        "reason": reason,
    }
