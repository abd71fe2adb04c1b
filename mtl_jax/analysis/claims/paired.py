"""Paired numbers: one per seed that both variants have, task by task."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.analysis.claims.interval import Mean, paired_t
from mtl_jax.analysis.claims.row import counted
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.matching import match
from mtl_jax.types import InputError


class Paired(NamedTuple):
    """A task in two variants that start alike and see the same batches, seed by seed.

    Equal seeds make a pair, so that what both share is no part of the difference.
    """

    setting: str
    task: str
    seeds: list[int]
    """Seeds ``n`` of sound curves in both variants."""
    values: dict[str, np.ndarray]
    """Numbers per seed ``[n]``, by name."""
    reason: str = ""
    """Reason why there are none; empty where there are some."""


def why_not(task: Paired) -> str:
    """Explain why there is no interval over seeds; empty where there is one."""
    if task.reason:
        return task.reason
    if len(task.seeds) < 2:
        return f"{counted(len(task.seeds), 'common sound seed')}, fewer than 2"
    return ""


def usable(tasks: Sequence[Paired]) -> list[Paired]:
    """Select the tasks that can be judged."""
    return [task for task in tasks if not why_not(task)]


def reasons(tasks: Sequence[Paired]) -> str:
    """Explain why tasks cannot be judged: every reason once, with its tasks."""
    told: dict[str, list[str]] = {}
    for task in tasks:
        if why_not(task):
            told.setdefault(why_not(task), []).append(task.task)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in told.items())


def of_setting(tasks: Sequence[Paired], setting: str) -> list[Paired]:
    """Select the tasks of one setting; all for the empty name."""
    return [task for task in tasks if setting in ("", task.setting)]


def over_tasks(tasks: Sequence[Paired], name: str) -> Mean:
    """Average over tasks, with an interval over the seeds that all of them have."""
    if not tasks:
        return paired_t(np.zeros(0))
    shared = sorted(set.intersection(*(set(task.seeds) for task in tasks)))
    if not shared:  # a mean of means that belong to no seed has no interval
        return paired_t(
            np.array([np.mean([task.values[name].mean() for task in tasks])])
        )
    rows = [task.values[name][places(task.seeds, shared)] for task in tasks]
    return paired_t(np.mean(rows, axis=0))


def fewest_seeds(tasks: Sequence[Paired]) -> int:
    """Count the seeds of the task that has the fewest."""
    return min((len(task.seeds) for task in tasks), default=0)


def share(agree: Sequence[np.ndarray]) -> float:
    """Compute the share of (task, seed) units that agrees; NaN where there are none."""
    units = np.concatenate([np.ravel(signs) for signs in agree]) if len(agree) else []
    return float(np.mean(units)) if len(units) else float("nan")


def gaps(
    df: Frame, variant: str, baseline: str, split: str, points: int
) -> list[Paired]:
    """Compute gaps as `gap_summary`, percent of ST's loss: early, late and mean."""

    def measured() -> list[Paired]:
        return [
            _gap(pair) for pair in match(df, variant, baseline, split, "loss", points)
        ]

    return or_reason(df, measured)


def _gap(pair: Any) -> Paired:
    side = pair.sides
    if side.reason:
        return Paired(side.setting, side.task, [], {}, side.reason)
    seeds = sorted(set(side.st_seeds) & set(side.mt_seeds))
    st, mt = places(side.st_seeds, seeds), places(side.mt_seeds, seeds)
    gap, loss = pair.gap[st, mt], pair.st[st]
    third = max(1, round(gap.shape[-1] / 3))
    parts = {"early": slice(third), "late": slice(-third, None), "mean": slice(None)}
    values = {
        name: percent(gap[:, part].mean(axis=-1), loss[:, part])
        for name, part in parts.items()
    }
    return Paired(side.setting, side.task, seeds, values)


def percent(difference: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Express a difference in percent of the mean of ``whole``; NaN where that is 0."""
    size = abs(float(np.mean(whole))) if whole.size else 0.0
    return 100 * difference / (size if size > 0 else np.nan)


def said(error: InputError) -> str:
    """Turn an error into a reason, which has no full stop."""
    return str(error).removesuffix(".")


def or_reason(df: Frame, make: Callable[[], list[Paired]]) -> list[Paired]:
    """Make paired tasks; where the records lack something, it becomes their reason."""
    try:
        return [defined(task) for task in make()]
    except InputError as error:
        keys = df[df["task"] != ""][["setting", "task"]].drop_duplicates()
        return [
            Paired(setting, task, [], {}, said(error))
            for setting, task in keys.itertuples(index=False, name=None)
        ]


def defined(task: Paired) -> Paired:
    """Give a task of which some numbers are undefined that as a reason."""
    undefined = [
        name for name, values in task.values.items() if not np.isfinite(values).all()
    ]
    if task.reason or not undefined:
        return task
    return task._replace(reason=f"{', '.join(undefined)} not defined at all seeds")


def places(seeds: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Find the places of the wanted seeds."""
    return [list(seeds).index(seed) for seed in wanted]
