"""Search for groups: the best models under a budget, each task served by its best."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.types import InputError

MOST_TASKS = 10
"""Up to which the search is exact: its cost grows as 3^T."""
ALONE = 0.0
"""Score of a task that trains alone: neither helped nor harmed."""


class Grouping(NamedTuple):
    """Groups of tasks, a model each, and who is served by which."""

    groups: tuple[tuple[int, ...], ...]
    """Tasks of every model; a task may train in several."""
    serves: tuple[tuple[int, ...], ...]
    """Tasks that every model is used for; all of them together are all tasks."""
    score: float
    """Mean over tasks."""


def best_groups(
    scores: np.ndarray, budget: int, costs: Sequence[int] | None = None
) -> Grouping:
    """Find the groups with the highest mean score under a budget, exactly.

    Every task is served by one model that trains it; models may train others, too,
    that do not use them. So a model is a set S of tasks that it serves and the best
    group that contains S, and the best cover follows by dynamic programming over sets:
    ``f(b, M) = max_S gain(c, S) + f(b - c, M - S)`` over S that contain the first task
    of M. Fewer models are preferred where scores are equal, then smaller groups.

    Source of the problem: Standley et al., 2020, section 5.

    Args:
      scores: of task t in group G ``[T, 2^T]``, bit j of G for task j; NaN where it is
        not known, or t is not in G: then G does not serve t.
      budget: sum of the costs of all models, at most.
      costs: of a model of 1 to T tasks, whole numbers; 1 each if not given.

    Raises:
      InputError: more than ten tasks, scores of another shape, a budget or costs that
        are no positive whole numbers, or no groups within the budget serve all tasks.

    >>> pairs = np.array([[0.0, 2.0, -1.0], [1.0, 0.0, -1.0], [-1.0, -1.0, 0.0]])
    >>> best_groups(mean_of_pairs(pairs), budget=2)
    Grouping(groups=((0, 1), (2,)), serves=((0, 1), (2,)), score=1.0)
    """
    count = check_count(len(scores))
    costs = [1] * count if costs is None else list(costs)
    _check(scores, budget, costs)
    sizes = np.array([mask.bit_count() for mask in range(2**count)])
    levels = sorted(set(costs))
    classes = [[n for n in range(1, count + 1) if costs[n - 1] == c] for c in levels]
    gains, carriers = _gains(scores, sizes, classes)
    full = 2**count - 1
    best = np.full((budget + 1, full + 1), -np.inf)
    best[:, 0] = 0
    choice = np.zeros((budget + 1, full + 1, 2), int)
    for mask in range(1, full + 1):
        lowest, rest = mask & -mask, mask & (mask - 1)
        served = np.array([lowest | part for part in _submasks(rest)])
        for place, level in enumerate(levels):
            for left in range(budget + 1 - level):
                totals = gains[place, served] + best[left, mask ^ served]
                at = int(totals.argmax())
                if totals[at] > best[left + level, mask]:
                    best[left + level, mask] = totals[at]
                    choice[left + level, mask] = place, served[at]
    if not np.isfinite(best[budget, full]):
        raise InputError(
            f"no groups with scores serve all {count} tasks within a budget of "
            f"{budget}; raise it, or measure more groups."
        )
    spent = int(np.flatnonzero(best[:, full] >= best[budget, full] - 1e-12)[0])
    models, mask, left = [], full, spent
    while mask:
        place, served = choice[left, mask]
        models.append((_tasks(int(carriers[place, served])), _tasks(int(served))))
        mask, left = mask ^ served, left - levels[place]
    models.sort(key=lambda model: model[1])
    groups, serves = zip(*models, strict=True)
    return Grouping(groups, serves, float(best[budget, full]) / count)


def mean_of_pairs(pairs: np.ndarray) -> np.ndarray:
    """Score tasks in groups by means of pairs (HOA: Standley et al., 2020).

    Args:
      pairs: value of auxiliary j for target t ``[T, T]``; the diagonal is not looked
        at.

    Returns:
      ``[T, 2^T]``: mean over the others of the group, `ALONE` of a task alone; NaN
      where the task is not in it, or a pair is not known.

    Raises:
      InputError: more than ten tasks.

    >>> pairs = np.array([[0, 2.0, 4.0], [1.0, 0, 1.0], [3.0, 5.0, 0]])
    >>> mean_of_pairs(pairs)[:, 0b111].tolist()
    [3.0, 1.0, 4.0]
    """
    count = check_count(len(pairs))
    masks = np.arange(2**count)
    inside = (masks[None] >> np.arange(count)[:, None]) & 1  # [T, 2^T]
    values = np.where(np.eye(count, dtype=bool), 0.0, pairs)
    unknown = ~np.isfinite(values)
    totals = np.where(unknown, 0, values) @ inside
    totals[(unknown @ inside) > 0] = np.nan
    others = inside.sum(axis=0) - 1
    means = np.where(others > 0, totals / np.maximum(others, 1), ALONE)
    return np.where(inside > 0, means, np.nan)


def check_count(tasks: int) -> int:
    """Return the number of tasks, if groups of so many are searched for.

    Raises:
      InputError: more than ten.
    """
    if tasks > MOST_TASKS:
        raise InputError(
            f"the best groups of {tasks} tasks are not searched for: the search is "
            f"exact up to {MOST_TASKS}; choose fewer tasks."
        )
    return tasks


def _gains(
    scores: np.ndarray, sizes: np.ndarray, classes: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Best sums of scores of sets served ``[C, 2^T]``, and the groups they train in."""
    count = len(scores)
    known = np.where(np.isfinite(scores), scores, -np.inf)
    gains = np.full((len(classes), 2**count), -np.inf)
    carriers = np.zeros(gains.shape, int)
    for place, of_class in enumerate(classes):
        for group in (g for size in of_class for g in np.flatnonzero(sizes == size)):
            served = np.array(_submasks(int(group)))
            sums = np.zeros(len(served))
            for task in _tasks(int(group)):
                sums += np.where((served >> task) & 1, known[task, group], 0)
            better = sums > gains[place, served]
            gains[place, served[better]] = sums[better]
            carriers[place, served[better]] = group
    gains[:, 0] = -np.inf
    return gains, carriers


def _submasks(mask: int) -> list[int]:
    """List the subsets of a set, itself and the empty one included."""
    parts = [mask]
    while parts[-1]:
        parts.append((parts[-1] - 1) & mask)
    return parts


def _tasks(mask: int) -> tuple[int, ...]:
    return tuple(task for task in range(mask.bit_length()) if mask >> task & 1)


def _check(scores: np.ndarray, budget: int, costs: Sequence[int]) -> None:
    count = check_count(len(scores))
    if scores.shape != (count, 2**count):
        raise InputError(
            f"scores are {scores.shape}; give a column for each of the {2**count} "
            f"groups of {count} tasks."
        )
    numbers = [budget, *costs]
    if not all(isinstance(n, int) and n >= 1 for n in numbers) or len(costs) != count:
        raise InputError(
            f"budget {budget} and costs {list(costs)} must be whole numbers, at least "
            f"1, with a cost for groups of 1 to {count} tasks."
        )
