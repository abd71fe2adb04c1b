"""Search for groups: the best models under a budget, each task served by its best."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from mtl_jax.types import InputError

MOST_GROUPS = 10_000
"""Groups that are searched, at most: some seconds on a core."""
ALONE = 0.0
"""Score of a task that trains alone: neither helped nor harmed."""
SCALE = 1e4
"""Range of scores as the solver sees them, which stops within 1e-6 of the best."""
MODEL, MEMBER = 1e-2, 1e-4
"""Costs there of a model and of a task in it: of equals the smaller are chosen."""

Groups = Sequence[tuple[int, ...]]
"""Tasks of every group, in ascending order."""


class Grouping(NamedTuple):
    """Groups of tasks, a model each, and who is served by which."""

    groups: tuple[tuple[int, ...], ...]
    """Tasks of every model; a task may train in several."""
    serves: tuple[tuple[int, ...], ...]
    """Tasks that every model is used for; all of them together are all tasks."""
    score: float
    """Mean over tasks."""


def all_groups(tasks: int, largest: int | None = None) -> list[tuple[int, ...]]:
    """List groups of tasks ``0 .. T - 1``, the small ones first.

    Args:
      tasks: number ``T`` of tasks.
      largest: tasks of a group, at most; if not given, as many as make no more than
        `MOST_GROUPS` groups: all of 13, groups of four of 20, of two of 100.

    >>> all_groups(3, largest=2)
    [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    """
    if largest is None:
        counts = itertools.accumulate(math.comb(tasks, n) for n in range(1, tasks + 1))
        largest = sum(count <= MOST_GROUPS for count in counts)
    sizes = range(1, min(largest, tasks) + 1)
    return [g for size in sizes for g in itertools.combinations(range(tasks), size)]


def best_groups(
    scores: np.ndarray,
    groups: Groups,
    budget: int,
    costs: Sequence[int] | None = None,
) -> Grouping:
    """Find the groups with the highest mean score under a budget.

    Every task is served by one model that trains it; models may train others, too,
    that do not use them. An integer program, which HiGHS solves by branch and bound:
    ``max sum_tg y_tg s_tg`` with ``sum_g y_tg = 1``, ``y_tg <= x_g`` and
    ``sum_g c_g x_g <= budget``, where ``x_g`` says that group g is trained and ``y_tg``
    that it serves task t. Exact to a millionth of the range of the scores; of groups
    that are equal to that, fewer models are chosen, then smaller ones.

    Source of the problem: Standley et al., 2020, section 5.

    Args:
      scores: of task t in group g ``[T, G]``; NaN where it is not known, or t is not in
        g: then g does not serve t.
      groups: that may be trained ``[G]``, such as `all_groups`.
      budget: sum of the costs of all models, at most.
      costs: of a model of 1 to T tasks, whole numbers; 1 each if not given.

    Raises:
      InputError: scores of another shape, a budget or costs that are no positive whole
        numbers, or no groups within the budget serve all tasks.

    >>> pairs = np.array([[0.0, 2.0, -1.0], [1.0, 0.0, -1.0], [-1.0, -1.0, 0.0]])
    >>> groups = all_groups(3)
    >>> best_groups(mean_of_pairs(pairs, groups), groups, budget=2)
    Grouping(groups=((0, 1), (2,)), serves=((0, 1), (2,)), score=1.0)
    """
    costs = [1] * len(scores) if costs is None else list(costs)
    _check(scores, groups, budget, costs)
    served, models = np.nonzero(np.isfinite(scores))
    sizes = np.array([len(group) for group in groups])
    price = np.array(costs)[sizes - 1]
    chosen = None
    if np.isfinite(scores).any(axis=1).all():
        chosen = _solved(scores[served, models], served, models, price, sizes, budget)
    if chosen is None:
        raise InputError(
            f"no groups with scores serve all {len(scores)} tasks within a budget of "
            f"{budget}; raise it, or measure more groups."
        )
    known = np.where(np.isfinite(scores), scores, -np.inf)[:, chosen]
    by = known.argmax(axis=1)
    pairs = sorted(
        (tuple(np.flatnonzero(by == place).tolist()), tuple(groups[group]))
        for place, group in enumerate(chosen)
        if (by == place).any()
    )
    serves, trained = zip(*pairs, strict=True)
    return Grouping(trained, serves, float(known.max(axis=1).mean()))


def mean_of_pairs(pairs: np.ndarray, groups: Groups) -> np.ndarray:
    """Score tasks in groups by means of pairs (HOA: Standley et al., 2020).

    Args:
      pairs: value of auxiliary j for target t ``[T, T]``; the diagonal is not looked
        at.
      groups: ``[G]``.

    Returns:
      ``[T, G]``: mean over the others of the group, `ALONE` of a task alone; NaN where
      the task is not in it, or a pair is not known.

    >>> pairs = np.array([[0, 2.0, 4.0], [1.0, 0, 1.0], [3.0, 5.0, 0]])
    >>> mean_of_pairs(pairs, [(0, 1, 2)])[:, 0].tolist()
    [3.0, 1.0, 4.0]
    """
    values = np.where(np.eye(len(pairs), dtype=bool), ALONE, pairs)
    means = np.full((len(pairs), len(groups)), np.nan)
    for place, group in enumerate(groups):
        tasks = list(group)
        total = values[np.ix_(tasks, tasks)].sum(axis=1)
        means[tasks, place] = total / max(len(tasks) - 1, 1)
    return np.where(np.isfinite(means), means, np.nan)


def _solved(
    scores: np.ndarray,
    served: np.ndarray,
    models: np.ndarray,
    price: np.ndarray,
    sizes: np.ndarray,
    budget: int,
) -> np.ndarray | None:
    """Groups of the best program, of scores ``[K]`` of tasks in groups; None: none."""
    count, ways = len(price), len(scores)
    at, ones = np.arange(ways), np.ones(ways)
    tasks = int(served.max(initial=0)) + 1
    once = sparse.csr_array((ones, (served, count + at)), (tasks, count + ways))
    trained = sparse.csr_array(
        (np.concatenate([ones, -ones]), (np.tile(at, 2), [*(count + at), *models])),
        (ways, count + ways),
    )
    spent = np.concatenate([price, np.zeros(ways)])
    value = (scores - scores.min(initial=0)) * (SCALE / (np.ptp(scores) or 1.0))
    result = milp(
        np.concatenate([MODEL * price + MEMBER * sizes, -value]),
        integrality=np.concatenate([np.ones(count), np.zeros(ways)]),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(once, 1, 1),
            LinearConstraint(trained, -np.inf, 0),
            LinearConstraint(spent[None], -np.inf, budget),
        ],
        options={"mip_rel_gap": 0.0},
    )
    return np.flatnonzero(result.x[:count] > 0.5) if result.success else None


def _check(
    scores: np.ndarray, groups: Groups, budget: int, costs: Sequence[int]
) -> None:
    count = len(scores)
    if scores.shape != (count, len(groups)):
        raise InputError(
            f"scores are {scores.shape}; give a row for each of the {count} tasks and "
            f"a column for each of the {len(groups)} groups."
        )
    numbers = [budget, *costs]
    if not all(isinstance(n, int) and n >= 1 for n in numbers) or len(costs) != count:
        raise InputError(
            f"budget {budget} and costs {list(costs)} must be whole numbers, at least "
            f"1, with a cost for groups of 1 to {count} tasks."
        )
