"""Paired numbers: one per seed that both variants have, task by task."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.analysis.claims.row import counted
from mtl_jax.analysis.curves import Frame, score_names
from mtl_jax.analysis.gap import STATISTICS, parts, sections
from mtl_jax.analysis.interval import Mean, paired_t
from mtl_jax.analysis.matching import Matched, match
from mtl_jax.analysis.moderation import moderated
from mtl_jax.analysis.variant import group_of, method_of
from mtl_jax.types import InputError

MEASURES = ("score", "loss")
"""Measures that claims are judged on: the score, as in the paper, and the loss."""


class Paired(NamedTuple):
    """A task in two variants that start alike and see the same batches, seed by seed.

    Equal seeds make a pair, so that what both share is no part of the difference.
    """

    setting: str
    task: str
    """Name, with the group where it trained in one."""
    seeds: list[int]
    """Seeds ``n`` of sound curves in both variants."""
    values: dict[str, np.ndarray]
    """Numbers per seed ``[n]``, by name."""
    reason: str = ""
    """Reason why there are none; empty where there are some."""


def variants_of(df: Frame, method: str) -> list[str]:
    """List the variants of a method: the plain one and those of groups of tasks."""
    return [name for name in df["variant"].unique() if method_of(name) == method]


def unit_of(variant: str, task: str) -> str:
    """Name a task, with the group where it is one of several.

    >>> unit_of("multi", "fish"), unit_of("multi:fish/9.2", "fish")
    ('fish', 'fish/9.2')
    """
    group = group_of(variant)
    if not group or group.startswith(f"{task}/"):
        return group or task
    return f"{task} ({group})"


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


def means_of(tasks: Sequence[Paired], name: str) -> list[Mean]:
    """Average over seeds, with variances moderated over the tasks of a setting."""
    means = [paired_t(np.zeros(0))] * len(tasks)
    for setting in dict.fromkeys(task.setting for task in tasks):
        at = [k for k, task in enumerate(tasks) if task.setting == setting]
        drawn = moderated([tasks[k].values[name] for k in at])
        for k, mean in zip(at, drawn, strict=True):
            means[k] = mean
    return means


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


def measured_by(df: Frame, split: str, measure: str) -> dict[tuple[str, str], str]:
    """Name what judges every (setting, task): its first score, or the loss.

    A task without a score has the loss for either measure.
    """
    return {
        key: names[0] if names and measure == "score" else "loss"
        for key, names in score_names(df, split).items()
    }


def gaps(
    df: Frame,
    variants: Sequence[str],
    baseline: str,
    split: str,
    points: int,
    measure: str,
) -> list[Paired]:
    """Compute gaps as `gap_summary`, percent of ST's; + is MT *worse*."""
    names = measured_by(df, split, measure)

    def measured(variant: str) -> list[Paired]:
        return [
            _gap(pair, name, variant)
            for name in dict.fromkeys(names.values())
            for pair in match(df, variant, baseline, split, name, points)
            if names[pair.sides.setting, pair.sides.task] == name
        ]

    return [
        task
        for variant in variants or [""]
        for task in or_reason(df, lambda v=variant: measured(v))
    ]


def _gap(pair: Matched, name: str, variant: str) -> Paired:
    side = pair.sides
    unit = unit_of(variant, side.task)
    if side.reason:
        return Paired(side.setting, unit, [], {}, side.reason)
    worse = (1 if name == "loss" else -1) * parts(pair)
    known = np.asarray(np.isfinite(worse).all(axis=1))
    if not known.any():
        why = "no seed comes to all of the curve in which a gap must last"
        return Paired(side.setting, unit, [], {}, why)
    size = sections(pair, pair.st)[known]
    values = {
        part: percent(worse[known, place], size[:, place])
        for place, part in enumerate(STATISTICS)
    }
    seeds = [seed for seed, yes in zip(side.seeds, known, strict=True) if yes]
    return Paired(side.setting, unit, seeds, values)


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
