"""A comparison of two variants as a table: of seed pairs, of tasks, of settings."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.bootstrap import Estimate, Pairs, estimate
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.matching import Sides

Labels = Mapping[str, Any]
"""Column to its values ``[P]``."""


class Compared(NamedTuple):
    """Numbers of a task per pair of seeds and row of the labels."""

    sides: Sides
    labels: Labels
    """Columns that tell rows apart, such as the bin."""
    values: np.ndarray
    """``[n_st, n_mt, P]``, NaN where missing; of no use where not comparable."""

    @property
    def pairs(self) -> Pairs:
        """Pair the numbers with their seeds."""
        return Pairs(self.sides.st_seeds, self.sides.mt_seeds, self.values)


def pair_rows(sides: Sides, labels: Labels, columns: Labels) -> Frame:
    """Tabulate pairs of seeds and labels; ``columns`` broadcast to [n_st, n_mt, P]."""
    size = len(next(iter(labels.values())))
    shape = (len(sides.st_seeds), len(sides.mt_seeds), size)
    full = {
        "st_seed": np.asarray(sides.st_seeds, np.int64)[:, None, None],
        "mt_seed": np.asarray(sides.mt_seeds, np.int64)[None, :, None],
        **{name: np.asarray(label) for name, label in labels.items()},
        **columns,
    }
    flat = {name: np.broadcast_to(v, shape).ravel() for name, v in full.items()}
    frame = pd.DataFrame(flat)
    frame.insert(0, "task", sides.task)
    frame.insert(0, "setting", sides.setting)
    return frame.assign(comparable=True, reason="")


def lone_row(sides: Sides, nothing: Labels) -> Frame:
    """Make the row of a task that is not comparable: seeds -1, and what is given."""
    columns = {"setting": sides.setting, "task": sides.task, "st_seed": -1}
    columns |= {"mt_seed": -1, **nothing, "comparable": False, "reason": sides.reason}
    return pd.DataFrame([columns])


def tabulate(
    compared: Sequence[Compared], name: str, nothing: Labels, seed: int, resamples: int
) -> Frame:
    """Tabulate means with intervals, of every task over its seeds and of every setting.

    Args:
      compared: one per (setting, task); within a setting of the same ``P``.
      name: of the column of means.
      nothing: the labels of what is not comparable.
      seed: of the bootstrap.
      resamples: of the bootstrap.
    """
    frames = []
    for setting in dict.fromkeys(task.sides.setting for task in compared):
        of_setting = [task for task in compared if task.sides.setting == setting]
        groups = [(task.sides.task, [task]) for task in of_setting] + [("", of_setting)]
        for task, group in groups:
            usable = [task for task in group if not task.sides.reason]
            labels = _common(usable) if usable else nothing
            result = _none(nothing)
            if usable:
                pairs = [task.pairs for task in usable]
                result = estimate(pairs, seed=seed, resamples=resamples)
            frame = pd.DataFrame({name: result.value, "low": result.low})
            frame = frame.assign(high=result.high, **counts(group))
            for place, (column, label) in enumerate(labels.items()):
                frame.insert(place, column, label)
            frame.insert(0, "task", task)
            frame.insert(0, "setting", setting)
            reason = "" if usable else group[0].sides.reason
            frame["clusters"], frame["comparable"] = result.clusters, bool(usable)
            frame["reason"] = reason if task or usable else "no task is comparable"
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def counts(group: Sequence[Compared]) -> dict[str, int]:
    """Count seeds that were compared (of a group, the fewest), divergence, tasks."""
    usable = [task.sides for task in group if not task.sides.reason]
    shown = usable or [task.sides for task in group]
    return {
        "st_seeds": min(len(side.st_seeds) for side in shown),
        "mt_seeds": min(len(side.mt_seeds) for side in shown),
        "st_diverged": sum(task.sides.st_diverged for task in group),
        "mt_diverged": sum(task.sides.mt_diverged for task in group),
        "tasks": len(usable),
    }


def named(frame: Frame, **names: str) -> Frame:
    """Put what the whole table is of behind the setting."""
    for place, (column, value) in enumerate(names.items(), start=1):
        frame.insert(place, column, value)
    return frame


def _common(group: Sequence[Compared]) -> dict[str, Any]:
    """Labels of a group: NaN where its members differ."""
    first = dict(group[0].labels)
    for task in group[1:]:
        for column, label in task.labels.items():
            if not np.array_equal(first[column], label):
                first[column] = np.full(len(label), np.nan)
    return first


def _none(nothing: Labels) -> Estimate:
    nan = np.full(len(next(iter(nothing.values()))), np.nan)
    return Estimate(nan, nan, nan, "none")
