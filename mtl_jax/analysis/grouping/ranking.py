"""Ranking: how well predictors order the transfer that was measured.

The units are tasks in groups, each with its mean over seeds. They are no sample of
their own: tasks that help everybody, or that share a run, are in many of them. So the
error of the correlation is at least the one that it has when the tasks of the predictor
are exchanged for each other, all orders of up to five tasks and `DRAWS` of more (the
quadratic assignment of Krackhardt, 1988), and p is the share of those orders that rank
the groups as well, in either direction.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mtl_jax.analysis.correlation import Correlation, rank_correlation
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.grouping.cost import costs
from mtl_jax.analysis.grouping.predictors import matrix_of, predictors
from mtl_jax.analysis.grouping.transfers import (
    QUANTITIES,
    members,
    tasks_of,
    transfers,
)
from mtl_jax.analysis.interval import ROUNDING, Mean
from mtl_jax.analysis.memo import scope

DRAWS = 200
"""Orders of tasks that are drawn where there are more than five."""
LIMIT = 3.0
"""Fisher's z of a perfect order, at least."""
REPEAT = "other seeds"
"""Measurements of other seeds: where they do not rank a seed, nothing could."""
RANKED = ["setting", "predictor", "measured", "over", "target", "value", "low"]
RANKED += ["high", "p", "units", "targets", "seeds", "reason"]
COLUMNS = [*RANKED[:-1], "runs", "task_steps", "looks", "reason"]
SIZES: dict[str, Callable[[int], bool]] = {
    "pairs": lambda size: size == 2,
    "groups": lambda size: size > 2,
}
"""Groups that are ranked among each other, by their number of tasks."""


class Ranked(NamedTuple):
    """A rank correlation within targets, against orders of the tasks."""

    correlation: Correlation
    p: float
    """Share of the orders of tasks with a correlation as far from 0."""


class Units(NamedTuple):
    """Tasks in groups, ``U`` of them, and what was measured."""

    targets: np.ndarray
    """Number of the task ``[U]``."""
    inside: np.ndarray
    """Tasks of its group, bool ``[U, T]``."""
    values: np.ndarray
    """Transfer ``[U]``."""


@scope()
def ranking(
    df: Frame,
    data: Frame | None = None,
    method: str = "multi",
    baseline: str = "single",
    split: str = "test",
) -> Frame:
    """Correlate what predictors say of groups with the transfer that was measured.

    Spearman's rho within targets: does the order in which a predictor puts the company
    of a task agree with the order of its transfers? A predictor's score of a task in a
    group is the mean over the others. Rows are over pairs and over larger groups, over
    all targets (``target`` empty) and of each alone. The predictor ``other seeds`` is
    the measurement itself: how well the others rank each seed, mean over seeds.

    Args:
      df: records of one rate a task and variant.
      data: values of predictors that records do not hold, as `tabulate` makes them.
      method: of the groups.
      baseline: tasks alone.
      split: of what was measured; HOA reads validation values.

    Returns:
      setting, predictor, measured (``score``, ``loss``), over (``pairs``, ``groups``),
      target; value, low, high (95%), p; units, targets, seeds; runs, task_steps, looks
      (of one seed: see `costs`); reason (why there is no value, or no interval). Empty
      where no groups were measured.

    Raises:
      InputError: as `transfers`.
    """
    table, rows = predictors(df, data, method, baseline), []
    of_cost = costs(df, table, method)
    for quantity in QUANTITIES:
        measured = transfers(df, quantity, method, baseline, split)
        for setting, of_setting in measured.groupby("setting", sort=False):
            tasks = tasks_of(df, setting)
            said = table[table["setting"] == setting]
            for over, fits in SIZES.items():
                is_of = [fits(len(members(name))) for name in of_setting["group"]]
                made = _of_sizes(of_setting[is_of], said, tasks)
                shown = {"setting": setting, "measured": quantity, "over": over}
                rows += [{**shown, **row} for row in made]
    ranked = pd.DataFrame(rows, columns=RANKED)
    return ranked.merge(of_cost, how="left", on=["setting", "predictor"])[COLUMNS]


def rank(pairs: np.ndarray, units: Units) -> Ranked:
    """Correlate the means of pairs with what was measured, within targets.

    Args:
      pairs: value of auxiliary j for target t ``[T, T]``; NaN where not known.
      units: what was measured.

    >>> pairs = np.array([[0, 1.0, 2.0, 3.0]] * 4)
    >>> inside = np.eye(4, dtype=bool)[[1, 2, 3]] | np.eye(4, dtype=bool)[[0, 0, 0]]
    >>> units = Units(np.zeros(3, int), inside, np.array([1.0, 5.0, 7.0]))
    >>> round(rank(pairs, units).correlation.value, 2)
    1.0
    """
    scores = score(pairs, units)
    known = np.isfinite(scores)
    kept = Units(*(part[known] for part in units))
    real = rank_correlation(scores, units.values, units.targets)
    exchanged = np.array([pairs[np.ix_(order, order)] for order in orders(len(pairs))])
    shuffled = score(exchanged, kept)
    shuffled = shuffled[np.isfinite(shuffled).all(axis=1)]
    both = np.concatenate([scores[None, known], shuffled])
    exact, *others = rhos(both, kept.values, kept.targets).tolist()
    return _against(real, exact, np.array(others))


def score(pairs: np.ndarray, units: Units) -> np.ndarray:
    """Average pairs over the others of groups, ``[..., T, T]`` to ``[..., U]``."""
    numbers = np.arange(len(units.targets))
    others = units.inside.copy()
    others[numbers, units.targets] = False
    values = np.where(others, pairs[..., units.targets, :], 0)
    return rounded(values.sum(axis=-1) / np.maximum(others.sum(axis=-1), 1))


def rounded(values: np.ndarray) -> np.ndarray:
    """Round to 9 digits of the largest: what rounding makes of ties has no order."""
    size = np.abs(values).max(initial=0, where=np.isfinite(values)) or 1.0
    return size * np.round(values / size, 9)


def orders(tasks: int) -> np.ndarray:
    """List orders of the tasks, first as they are: all of up to five, else some."""
    if math.factorial(tasks) <= DRAWS:
        return np.array(list(itertools.permutations(range(tasks))))
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(tasks) for _ in range(DRAWS - 1)]
    return np.array([np.arange(tasks), *drawn])


def rhos(scores: np.ndarray, values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rank correlations within targets of many scores ``[P, U]``, as the house's."""
    products = np.zeros((3, len(scores)))
    for target in dict.fromkeys(targets.tolist()):
        at = targets == target
        if at.sum() < 3 or not np.ptp(values[at]) > 0:
            continue
        x, y = (_centred(part[..., at]) for part in (scores, values[None]))
        y = y * (np.ptp(x, axis=1, keepdims=True) > 0)
        parts = zip((x, x, y), (y, x, y), strict=True)
        products += np.array([(first * second).sum(axis=1) for first, second in parts])
    size = np.sqrt(products[1] * products[2])
    return np.where(size > 0, products[0] / np.where(size > 0, size, 1), np.nan)


def _centred(values: np.ndarray) -> np.ndarray:
    ranks = stats.rankdata(values, axis=-1) / (values.shape[-1] + 1)
    return ranks - ranks.mean(axis=-1, keepdims=True)


def _against(real: Correlation, exact: float, others: np.ndarray) -> Ranked:
    """A correlation with the error that it has where it means nothing, if larger.

    Args:
      real: the correlation.
      exact: its rho, also of a perfect order.
      others: rhos of other orders of the tasks.
    """
    others = others[np.isfinite(others)]
    if not len(others) or not np.isfinite(real.value):
        return Ranked(real, np.nan)
    p = float(np.mean(np.abs(others) >= abs(exact) - ROUNDING))
    if not np.isfinite(real.z.error):
        return Ranked(real, p)
    limit = np.tanh(max(LIMIT, abs(real.z.value)))
    spread = np.sqrt(np.mean(np.arctanh(np.clip(others, -limit, limit)) ** 2))
    z = real.z._replace(error=max(real.z.error, float(spread)))
    return Ranked(real._replace(z=z), p)


def _of_sizes(measured: Frame, said: Frame, tasks: Sequence[str]) -> list[dict]:
    """Rows of all predictors, over groups that are ranked among each other."""
    if not len(measured):
        return []
    units, rows = units_of(measured, tasks), []
    for predictor, of in said.groupby("predictor", sort=False):
        pairs = matrix_of(of, tasks)
        rows.append(_row(predictor, "", rank(pairs, units), units))
        for number, target in enumerate(tasks):
            alone = Units(*(part[units.targets == number] for part in units))
            correlation = rank_correlation(score(pairs, alone), alone.values)
            rows.append(_row(predictor, target, Ranked(correlation, np.nan), alone))
    repeated = Ranked(_repeat(measured), np.nan)
    rows.append(_row(REPEAT, "", repeated, units))
    return [{**row, "seeds": measured["seed"].nunique()} for row in rows]


def units_of(measured: Frame, tasks: Sequence[str]) -> Units:
    """Average rows of `transfers` of a setting over seeds."""
    means = measured.groupby(["target", "group"])["value"].mean().reset_index()
    number = {name: place for place, name in enumerate(tasks)}
    inside = np.zeros((len(means), len(tasks)), bool)
    for row, group in enumerate(means["group"]):
        inside[row, [number[name] for name in members(group)]] = True
    targets = means["target"].map(number).to_numpy(int)
    return Units(targets, inside, rounded(means["value"].to_numpy(float)))


def _repeat(measured: Frame) -> Correlation:
    """Rank each seed by the mean of the others; the error is that of one seed."""
    index = ["target", "group"]
    wide = measured.pivot_table(index=index, columns="seed", values="value")
    targets = wide.index.get_level_values("target").tolist()
    sides = [
        (wide.drop(columns=seed).mean(axis=1).to_numpy(), wide[seed].to_numpy())
        for seed in wide.columns
        if wide.shape[1] > 1
    ]
    made = [rank_correlation(rounded(x), rounded(y), targets) for x, y in sides]
    made = [each for each in made if np.isfinite(each.value)]
    if not made:
        return rank_correlation([], [])
    value, z, error = np.mean([(c.value, c.z.value, c.z.error) for c in made], axis=0)
    return made[0]._replace(value=value, z=Mean(z, error, np.inf))


def _row(predictor: str, target: str, ranked: Ranked, units: Units) -> dict[str, Any]:
    correlation = ranked.correlation
    row = {"predictor": predictor, "target": target, "value": correlation.value}
    row |= {"low": correlation.low, "high": correlation.high, "p": ranked.p}
    row |= {"units": correlation.units, "targets": len(set(units.targets.tolist()))}
    return {**row, "reason": _reason(correlation, units)}


def _reason(correlation: Correlation, units: Units) -> str:
    """Say why there is no value, or no interval."""
    if np.isfinite(correlation.low):
        return ""
    if np.isfinite(correlation.value):
        return f"{correlation.units} tasks in groups are too few for an interval"
    most = int(np.bincount(units.targets).max()) if len(units.targets) else 0
    if most < 3:
        return f"a task has at most {most} such group{'s' * (most != 1)}, fewer than 3"
    return "no values, or all alike, for the groups of a task"
