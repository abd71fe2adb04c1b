"""Measured transfer of groups: what training together changes for each of its tasks."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from mtl_jax.analysis.aggregates import labels
from mtl_jax.analysis.curves import Frame, counted, need_one_rate, score_names
from mtl_jax.analysis.measures import measures
from mtl_jax.analysis.selection import best_values
from mtl_jax.analysis.variant import method_of
from mtl_jax.options import one_of
from mtl_jax.types import AUXILIARIES, JOIN, InputError

QUANTITIES = ("score", "loss")
KEY = ["setting", "group", "target"]


def transfers(
    df: Frame,
    quantity: str = "score",
    method: str = "multi",
    baseline: str = "single",
    split: str = "test",
) -> Frame:
    """Measure what every group changes for its tasks, seed by seed.

    Percent of the size of the baseline's mean, + is better: the terms of `delta_m`, at
    the points that validation chose.

    Args:
      df: records of one rate a task and variant.
      quantity: ``score``, averaged over the scores of a task (its loss if it has none),
        or ``loss``.
      method: of the variants ``method``, all tasks, and ``method:a+b`` or
        ``method:a/b``; both are the group of a and b, the second for a alone.
      baseline: tasks alone.
      split: of the values.

    Returns:
      A row per group, task and seed: setting; group (tasks in the order of the records,
      ``a+b``); target; seed; value (percent). Empty where there are no groups, or where
      no seed has both sides.

    Raises:
      InputError: an unknown quantity, several rates, or no values of the split.
    """
    one_of("quantity", quantity, QUANTITIES)
    need_one_rate(counted(df))
    best = best_values(df, split)
    if not len(best):
        raise InputError(
            f"the records hold no values of split {split!r} at the points that "
            f"validation chose."
        )
    shown = _shown(df, split, quantity)
    best = best.merge(shown, on=["setting", "task", "name"])
    key = ["setting", "task", "name", "seed"]
    alone = best[best["variant"] == baseline][[*key, "value"]]
    together = best.merge(groups(df, method), on=["setting", "variant"])
    both = together.merge(alone, on=key, suffixes=("", "_alone"))
    both = both[np.isfinite(both["value"]) & np.isfinite(both["value_alone"])]
    size = both.groupby([*KEY[:2], "task", "name"])["value_alone"].transform("mean")
    size = size.abs().where(size != 0)
    change = both["direction"] * (both["value"] - both["value_alone"])
    both = both.assign(value=100 * change / size).dropna(subset="value")
    means = both.groupby(["setting", "group", "task", "seed"])["value"].mean()
    return means.reset_index().rename(columns={"task": "target"})


def groups(df: Frame, method: str = "multi") -> Frame:
    """List the groups that a method trained: setting, variant, group."""
    table = labels(df)
    is_of = [method_of(name) == method for name in table["variant"]]
    table = table[np.array(is_of, bool)]
    order = {setting: tasks_of(df, setting) for setting in df["setting"].unique()}
    of_variant = [
        name_of(members(text) or order[setting], order[setting])
        for setting, text in zip(table["setting"], table["group"], strict=True)
    ]
    return table.assign(group=of_variant)[["setting", "variant", "group"]]


def tasks_of(df: Frame, setting: str) -> list[str]:
    """List the tasks of a setting and of its groups, in the order of its records."""
    rows = df[df["setting"] == setting]
    in_groups = [members(group) for group in dict.fromkeys(labels(rows)["group"])]
    names = [*rows["task"].unique(), *itertools.chain(*in_groups)]
    return [name for name in dict.fromkeys(names) if name]


def members(group: str) -> list[str]:
    """List the tasks of a group.

    >>> members("a/b+c"), members("")
    (['a', 'b', 'c'], [])
    """
    return [name for name in group.replace(AUXILIARIES, JOIN).split(JOIN) if name]


def name_of(tasks: Iterable[str], order: Sequence[str]) -> str:
    """Name a group by its tasks, in order.

    >>> name_of({"c", "a"}, "abc")
    'a+c'
    """
    return JOIN.join(sorted(tasks, key=list(order).index))


def _shown(df: Frame, split: str, quantity: str) -> Frame:
    """Names whose change counts, with their directions."""
    declared, rows = measures(df), []
    for (setting, task), names in score_names(df, split).items():
        for name in (names if quantity == "score" else []) or ["loss"]:
            direction = declared[setting, name].direction
            rows.append((setting, task, name, direction))
    return pd.DataFrame(rows, columns=["setting", "task", "name", "direction"])
