"""A comparison of two variants as a table: of seeds, of tasks, of settings."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.matching import Sides
from mtl_jax.analysis.simultaneous import bands

Labels = Mapping[str, Any]
"""Column to its values ``[P]``."""


class Compared(NamedTuple):
    """Numbers of a task per seed and row of the labels."""

    sides: Sides
    labels: Labels
    """Columns that tell rows apart, such as the bin."""
    values: np.ndarray
    """``[n, P]``, NaN where missing; of no use where not comparable."""


Rows = Mapping[str, np.ndarray]
"""Column to its values ``[N]``: rows of a table, which costs more to make."""


def seed_rows(sides: Sides, labels: Labels, columns: Labels) -> Rows:
    """List seeds and labels; ``columns`` broadcast to ``[n, P]``."""
    shape = len(sides.seeds), len(next(iter(labels.values())))
    full = {
        "seed": np.asarray(sides.seeds, np.int64)[:, None],
        **{name: np.asarray(label) for name, label in labels.items()},
        **columns,
    }
    flat = {name: np.broadcast_to(v, shape).ravel() for name, v in full.items()}
    of = {"setting": sides.setting, "task": sides.task}
    return rows_of(
        shape[0] * shape[1], {**of, **flat, "comparable": True, "reason": ""}
    )


def lone_row(sides: Sides, nothing: Labels) -> Rows:
    """Make the row of a task that is not comparable: seed -1, and what is given."""
    columns = {"setting": sides.setting, "task": sides.task, "seed": -1}
    return rows_of(
        1, {**columns, **nothing, "comparable": False, "reason": sides.reason}
    )


def rows_of(count: int, columns: Labels) -> Rows:
    """Spread values, or one for all, over a number of rows."""
    return {
        name: np.full(count, value, object)
        if isinstance(value, str)
        else np.broadcast_to(np.asarray(value), count)
        for name, value in columns.items()
    }


def stacked(parts: Sequence[Rows]) -> Frame:
    """Stack rows of the same columns into a table, in the order of the first."""
    return pd.DataFrame(
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    )


def tabulate(
    compared: Sequence[Compared],
    name: str,
    nothing: Labels,
    *,
    simultaneous: bool = False,
) -> Frame:
    """Tabulate means over seeds with intervals, of every task and of every setting.

    Of a task the variance is moderated over the tasks of its setting
    (`moderation.moderated`). The mean over tasks is one number per seed that all tasks
    have, and its interval that of these numbers.

    Args:
      compared: one per (setting, task); within a setting of the same ``P``.
      name: of the column of means.
      nothing: the labels of what is not comparable.
      simultaneous: whether intervals hold for all rows at once (`bands`).
    """
    rows: list[Rows] = []
    for setting in dict.fromkeys(task.sides.setting for task in compared):
        of_setting = [task for task in compared if task.sides.setting == setting]
        usable = [task for task in of_setting if not task.sides.reason]
        drawn = iter(())
        if usable:
            drawn = iter(
                bands([task.values for task in usable], simultaneous=simultaneous)
            )
        for task in of_setting:
            group = [] if task.sides.reason else [task]
            made = next(drawn) if group else None
            of = {"setting": setting, "task": task.sides.task}
            rows.append(_rows(of, group, [task], name, nothing, made))
        mean = _over_tasks(usable) if usable else None
        made = None if mean is None else bands([mean], simultaneous=simultaneous)[0]
        of = {"setting": setting, "task": ""}
        rows.append(_rows(of, usable, of_setting, name, nothing, made, mean))
    return stacked(rows)


def named(frame: Frame, **names: str) -> Frame:
    """Put what the whole table is of behind the setting."""
    for place, (column, value) in enumerate(names.items(), start=1):
        frame.insert(place, column, value)
    return frame


def _rows(
    of: Labels,
    usable: Sequence[Compared],
    group: Sequence[Compared],
    name: str,
    nothing: Labels,
    made: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    values: np.ndarray | None = None,
) -> Rows:
    labels = _common(usable) if usable else nothing
    if made is None:
        nan = np.full(len(next(iter(nothing.values()))), np.nan)
        made = nan, nan, nan
    value, low, high = made
    shown = values if values is not None else usable[0].values if usable else None
    reason = group[0].sides.reason if of["task"] else "no task is comparable"
    columns = {**of, **labels, name: value, "low": low, "high": high}
    columns["seeds"] = np.isfinite(shown).sum(axis=0) if shown is not None else 0
    columns["st_diverged"] = sum(item.sides.st_diverged for item in group)
    columns["mt_diverged"] = sum(item.sides.mt_diverged for item in group)
    columns |= {"tasks": len(usable), "comparable": bool(usable)}
    return rows_of(len(value), {**columns, "reason": "" if usable else reason})


def _over_tasks(tasks: Sequence[Compared]) -> np.ndarray:
    """Mean over tasks ``[n, P]`` of the seeds that all of them have.

    Where tasks have no seed in common it is the mean of their means, of which nothing
    tells how far it may be off.
    """
    shared = sorted(set.intersection(*(set(task.sides.seeds) for task in tasks)))
    if not shared:
        return np.mean([_mean(task.values) for task in tasks], axis=0)[None]
    at = [[task.sides.seeds.index(seed) for seed in shared] for task in tasks]
    return np.mean([t.values[rows] for t, rows in zip(tasks, at, strict=True)], axis=0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over seeds, without the missing."""
    count = np.isfinite(values).sum(axis=0)
    total = np.where(np.isfinite(values), values, 0).sum(axis=0)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def _common(group: Sequence[Compared]) -> dict[str, Any]:
    """Labels of a group: NaN where its members differ."""
    first = dict(group[0].labels)
    for task in group[1:]:
        for column, label in task.labels.items():
            if not np.array_equal(first[column], label):
                first[column] = np.full(len(label), np.nan)
    return first
