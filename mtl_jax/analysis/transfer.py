"""Transfer: how well tasks do on test data, together against alone."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.bootstrap import (
    RESAMPLES,
    Pairs,
    draw,
    estimate,
    mean_of_tasks,
    strict_interval,
    weighted_mean,
    with_sample,
)
from mtl_jax.analysis.curves import (
    CURVE,
    Frame,
    compared,
    need_one_rate,
    score_names,
    values,
)
from mtl_jax.analysis.measures import measures
from mtl_jax.analysis.selection import best_points
from mtl_jax.types import InputError

SIDE = ["setting", "variant", "task"]


class Tested(NamedTuple):
    """Test values of a task at the best-validation points, seed by seed."""

    setting: str
    task: str
    name: str
    direction: int
    """+1 where more is better, -1 where less is."""
    by: str
    """Name of the validation value that chose the points."""
    st: dict[int, float]
    """Values of the baseline, by seed."""
    mt: dict[int, float]
    """Values of the variant, by seed."""
    st_diverged: int
    mt_diverged: int
    reason: str
    """Reason why they cannot be compared; empty where they can."""

    @property
    def pairs(self) -> Pairs:
        """Compare MT with ST, seed by seed: ``[n_st, n_mt]``; + is MT better."""
        st, mt = (np.array([*side.values()]) for side in (self.st, self.mt))
        difference = self.direction * (mt[None, :] - st[:, None])
        return Pairs(list(self.st), list(self.mt), difference)


def transfer(
    df: Frame,
    baseline: str = "single",
    split: str = "test",
    by: str | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Frame:
    """Compare test values at the best-validation point: variants against the baseline.

    All scores of a task, and its loss. The point is the first best one in validation
    (`best_points`). A run that diverged counts with the points it had until then: it
    could have been stopped there. Intervals: 95% percentiles over seeds.

    Args:
      df: records.
      baseline: the variant that the others are held against.
      split: of the values.
      by: name of the validation value that chooses the points; None for the only score
        of the task and, where there are none or several, the loss.
      seed: of the bootstrap.
      resamples: of the bootstrap.

    Returns:
      setting, variant, baseline, split, task, name; by; st, mt (means over seeds, in
      the value's own unit); difference (MT minus ST, with the sign in which + is MT
      *better*: turned where less is better, so of the loss, too), low, high; st_seeds,
      mt_seeds, st_diverged, mt_diverged; clusters; comparable; reason.

    Raises:
      InputError: nothing to compare, no values of the split, or several rates.
    """
    rows = []
    for variant in _others(df, baseline):
        names = {"variant": variant, "baseline": baseline, "split": split}
        for test in tested(df, variant, baseline, split, by):
            st, mt = (_mean([*side.values()]) for side in (test.st, test.mt))
            row = {
                "setting": test.setting,
                **names,
                "task": test.task,
                "name": test.name,
            }
            row |= {"by": test.by, "st": st, "mt": mt}
            row |= {"difference": np.nan, "low": np.nan, "high": np.nan}
            row |= {"st_seeds": len(test.st), "mt_seeds": len(test.mt)}
            row |= {"st_diverged": test.st_diverged, "mt_diverged": test.mt_diverged}
            row |= {"clusters": "none", "comparable": not test.reason}
            if not test.reason:
                difference = estimate([test.pairs], seed=seed, resamples=resamples)
                row |= {
                    "difference": float(difference.value),
                    "clusters": difference.clusters,
                }
                row |= {"low": float(difference.low), "high": float(difference.high)}
            rows.append({**row, "reason": test.reason})
    return pd.DataFrame(rows)


def delta_m(
    df: Frame,
    baseline: str = "single",
    split: str = "test",
    by: str | None = None,
    *,
    over_tasks: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Frame:
    """Compute relative test performance of every variant, in percent; + is MT *better*.

    ``100 / T * sum_t mean_m s (M_mt - M_st) / |M_st|`` with s = -1 where less is better
    (Maninis et al., 2019, Eq. 4, there without 100), of means over seeds at the points
    of `transfer`; averaged over the scores of a task first. A task without a score
    counts with its loss. Others use the opposite sign.

    A resample in which a mean of ST is 0 has no Delta_m: it may lie anywhere, and where
    that is more than a tail of the resamples there is no interval.

    Args:
      df: records.
      baseline: the variant that the others are held against.
      split: of the values.
      by: as in `transfer`.
      over_tasks: resample tasks, too: the interval for tasks like these instead of for
        these tasks.
      seed: of the bootstrap.
      resamples: of the bootstrap.

    Returns:
      setting, variant, baseline, split; delta_m, low, high (percent); tasks; st_seeds,
      mt_seeds (fewest of a task), st_diverged, mt_diverged (curves); clusters;
      comparable (all tasks are, and no mean of ST is 0); reason (why there is no
      Delta_m, or no interval though there are seeds).

    Raises:
      InputError: as `transfer`.
    """
    rows = []
    for variant in _others(df, baseline):
        tests = tested(df, variant, baseline, split, by)
        for setting in dict.fromkeys(test.setting for test in tests):
            tasks = by_task([test for test in tests if test.setting == setting])
            deltas, clusters, reason = _deltas(tasks, over_tasks, seed, resamples)
            low, high = strict_interval(deltas[1:])
            rows.append(
                {
                    "setting": setting,
                    "variant": variant,
                    "baseline": baseline,
                    "split": split,
                    "delta_m": deltas[0],
                    "low": low,
                    "high": high,
                    "tasks": len(tasks),
                    "st_seeds": min(len(_seeds(task, "st")) for task in tasks),
                    "mt_seeds": min(len(_seeds(task, "mt")) for task in tasks),
                    "st_diverged": sum(task[0].st_diverged for task in tasks),
                    "mt_diverged": sum(task[0].mt_diverged for task in tasks),
                    "clusters": clusters,
                    "comparable": bool(np.isfinite(deltas[0])),
                    "reason": reason,
                }
            )
    return pd.DataFrame(rows)


def tested(
    df: Frame, variant: str, baseline: str, split: str, by: str | None = None
) -> list[Tested]:
    """Collect values of every (setting, task, name) at the best-validation points."""
    need_one_rate(df)
    best = best_points(df, by)
    names, declared = score_names(df, split), measures(df)
    at_best = {
        name: _by_side(values(df, split, name).merge(best, on=[*CURVE, "step"]))
        for name in {"loss", *chain(*names.values())}
    }
    if not any(at_best.values()):
        raise InputError(
            f"the records hold no values of split {split!r} at the points that "
            f"validation chose."
        )
    judge = best.groupby(["setting", "task"])["by"].first().to_dict()
    diverged = best[best["diverged"]].groupby(SIDE).size().to_dict()
    tests = []
    for (setting, task), scores in names.items():
        keys = [(setting, name, task) for name in (baseline, variant)]
        for name in [*scores, "loss"]:
            st, mt = (at_best[name].get(key, {}) for key in keys)
            st_diverged, mt_diverged = (diverged.get(key, 0) for key in keys)
            bare = [
                key[1] for key, side in zip(keys, (st, mt), strict=True) if not side
            ]
            reason = f"no {split} {name} of {' and '.join(map(repr, bare))}"
            tests.append(
                Tested(
                    setting,
                    task,
                    name,
                    declared[setting, name].direction,
                    judge.get((setting, task), ""),
                    st,
                    mt,
                    st_diverged,
                    mt_diverged,
                    reason if bare else "",
                )
            )
    return tests


def _by_side(rows: Frame) -> dict[Any, dict[int, float]]:
    """``(setting, variant, task) -> {seed: value}``, without what is not finite."""
    rows = rows[np.isfinite(rows["value"])].sort_values("seed")
    return {
        key: dict(zip(values["seed"].tolist(), values["value"].tolist(), strict=True))
        for key, values in rows.groupby(SIDE)
    }


def _others(df: Frame, baseline: str) -> list[str]:
    others = compared(df, baseline)
    if baseline not in set(df["variant"]) or not others:
        raise InputError(
            f"nothing to hold against the baseline {baseline!r}; the records are of: "
            f"{', '.join(df['variant'].unique())}."
        )
    return others


def by_task(tests: Sequence[Tested]) -> list[list[Tested]]:
    """Group values for Delta_m: per task its scores, or its loss if it has none."""
    tasks = [[test for test in tests if test.task == t] for t in _tasks(tests)]
    return [[o for o in task if o.name != "loss"] or task for task in tasks]


def _tasks(tests: Sequence[Tested]) -> list[str]:
    return list(dict.fromkeys(test.task for test in tests))


def _seeds(task: Sequence[Tested], side: str) -> list[int]:
    """Seeds that have every value of a task."""
    return sorted(set.intersection(*(set(getattr(test, side)) for test in task)))


def _deltas(
    tasks: Sequence[Sequence[Tested]], over_tasks: bool, seed: int, resamples: int
) -> tuple[np.ndarray, str, str]:
    """Delta_m of the sample and of the resamples ``[1 + R]``, clusters, reason.

    NaN where it is not defined, of which the reason tells if it matters.
    """
    st_seeds = [_seeds(task, "st") for task in tasks]
    mt_seeds = [_seeds(task, "mt") for task in tasks]
    reasons = [
        f"{test.task}: {test.reason}" for t in tasks for test in t if test.reason
    ]
    if not reasons and not all(st_seeds + mt_seeds):
        reasons = ["no seed has all scores of a task"]
    if reasons:
        return np.full(1, np.nan), "none", "; ".join(reasons)
    draws = draw(
        st_seeds, mt_seeds, over_tasks=over_tasks, seed=seed, resamples=resamples
    )
    relative, reasons = [], []
    for t, task in enumerate(tasks):
        changes = []
        for test in task:
            st = _means(draws.st[t], [test.st[s] for s in st_seeds[t]])
            mt = _means(draws.mt[t], [test.mt[s] for s in mt_seeds[t]])
            if not st[0]:
                why = f"{test.task}: the mean {test.name} of ST is 0"
                return np.full(1, np.nan), "none", why
            changes.append(
                test.direction * (mt - st) / np.where(st, np.abs(st), np.nan)
            )
        relative.append(np.mean(changes, axis=0))
        lost = np.isnan(relative[t]).mean()
        if lost:
            why = "a mean of ST is 0, or of no seed"
            reasons.append(f"{task[0].task}: in {lost:.1%} of resamples {why}")
    deltas = 100 * mean_of_tasks(draws, np.stack(relative, axis=1))
    has_interval = np.isfinite(strict_interval(deltas[1:])[0])
    return deltas, draws.clusters, "" if has_interval else "; ".join(reasons)


def _means(draws: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """Mean of the sample and of the resamples ``[1 + R]``."""
    rows = np.broadcast_to(values, (len(draws) + 1, len(values)))
    return weighted_mean(with_sample(draws), rows)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
