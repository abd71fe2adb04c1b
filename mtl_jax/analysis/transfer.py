"""Transfer: how well tasks do on test data, together against alone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.aggregates import labels
from mtl_jax.analysis.curves import (
    Frame,
    counted,
    need_one_rate,
    of_name,
    score_names,
)
from mtl_jax.analysis.deltas import counterpart
from mtl_jax.analysis.interval import NO_MEAN, Mean, paired_t
from mtl_jax.analysis.measures import measures
from mtl_jax.analysis.memo import memoised
from mtl_jax.analysis.moderation import moderated
from mtl_jax.analysis.selection import best_values
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
    def seeds(self) -> list[int]:
        """List the seeds that both have."""
        return sorted(self.st.keys() & self.mt.keys())

    def sides(self, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of ST and of MT at these seeds."""
        st, mt = (np.array([of[seed] for seed in seeds]) for of in (self.st, self.mt))
        return st, mt


class Deltas(NamedTuple):
    """Delta_m of a variant in a setting, task by task and seed by seed."""

    seeds: list[int]
    """Seeds ``n`` that have all values of all tasks in both variants."""
    percent: np.ndarray
    """``[T, n]``, of the size of ST's mean; + is MT better."""
    reason: str
    """Reason why there is none; empty where there is."""


def transfer(
    df: Frame, baseline: str = "single", split: str = "test", by: str | None = None
) -> Frame:
    """Compare test values at the best-validation point: variants against the baseline.

    All scores of a task, and its loss, each at the best point of its own
    (`selection.best_values`). A run that diverged counts with the points it had until
    then: it could have been stopped there. Of a variant with a target, the target
    alone. Intervals: 95% t of the differences, paired by seed.

    Args:
      df: records.
      baseline: the variant that the others are held against; with groups of tasks, the
        one of this method that trains the same group, where there is one.
      split: of the values.
      by: name of the validation value that chooses the points of all values.

    Returns:
      setting, variant, baseline, split, task, name; by; st, mt (means over the seeds
      that both have, in the value's own unit); difference (MT minus ST, with the sign
      in which + is MT *better*: turned where less is better, so of the loss, too), low,
      high; st_seeds, mt_seeds, seeds (that both have; where there are none, means are
      over all, without interval), st_diverged, mt_diverged; comparable; reason (why
      there is no difference, or no interval).

    Raises:
      InputError: nothing to compare, no values of the split, or several rates.
    """
    rows = []
    for variant, against in _pairs(df, baseline):
        for test in tested(df, variant, against, split, by):
            seeds = test.seeds
            st, mt = test.sides(seeds)
            if not seeds:
                st, mt = (np.array([*side.values()]) for side in (test.st, test.mt))
            mean = paired_t(test.direction * (mt - st)) if seeds else NO_MEAN
            st, mt = _mean(st), _mean(mt)
            row = {"setting": test.setting, "variant": variant, "baseline": against}
            row |= {"split": split, "task": test.task, "name": test.name}
            row |= {"by": test.by, "st": st, "mt": mt}
            row |= {"difference": test.direction * (mt - st)}
            row |= {"low": mean.low, "high": mean.high}
            row |= {"st_seeds": len(test.st), "mt_seeds": len(test.mt)}
            row |= {"seeds": len(seeds)}
            row |= {"st_diverged": test.st_diverged, "mt_diverged": test.mt_diverged}
            row |= {"comparable": not test.reason}
            rows.append({**row, "reason": test.reason or few(len(seeds))})
    return pd.DataFrame(rows)


def delta_m(
    df: Frame,
    baseline: str = "single",
    split: str = "test",
    by: str | None = None,
    *,
    over_tasks: bool = False,
) -> Frame:
    """Compute relative test performance of every variant, in percent; + is MT *better*.

    ``100 / T * sum_t mean_m s (M_mt - M_st) / |M_st|`` with s = -1 where less is better
    (Maninis et al., 2019, Eq. 4, there without 100), of means over the seeds that all
    have, at the points of `transfer`; averaged over the scores of a task first. A task
    without a score counts with its loss. Others use the opposite sign.

    Intervals: 95% t over seeds, paired, with the variance moderated over the variants
    that are held against the same baseline. A score of ST that is 0 in a run makes
    Delta_m undefined: it is never that of the other tasks.

    Args:
      df: records.
      baseline: as in `transfer`.
      split: of the values.
      by: as in `transfer`.
      over_tasks: take tasks as a sample: the t interval over the means of tasks, for
        tasks like these instead of for these tasks.

    Returns:
      setting, variant, baseline, split; delta_m, low, high (percent); tasks; st_seeds,
      mt_seeds (fewest of a task), seeds (that all have), st_diverged, mt_diverged
      (curves); comparable; reason (why there is no Delta_m, or no interval).

    Raises:
      InputError: as `transfer`.
    """
    rows, parts = [], []
    for variant, against in _pairs(df, baseline):
        tests = tested(df, variant, against, split, by)
        for setting in dict.fromkeys(test.setting for test in tests):
            tasks = by_task([test for test in tests if test.setting == setting])
            part = deltas_of(tasks)
            parts.append(part)
            too_few = few(part.percent.shape[0 if over_tasks else 1], over_tasks)
            rows.append(
                {
                    "setting": setting,
                    "variant": variant,
                    "baseline": against,
                    "split": split,
                    "tasks": len(tasks),
                    "st_seeds": min(len(test.st) for task in tasks for test in task),
                    "mt_seeds": min(len(test.mt) for task in tasks for test in task),
                    "seeds": len(part.seeds),
                    "st_diverged": sum(task[0].st_diverged for task in tasks),
                    "mt_diverged": sum(task[0].mt_diverged for task in tasks),
                    "comparable": not part.reason,
                    "reason": part.reason or too_few,
                }
            )
    keys = [(row["setting"], row["baseline"]) for row in rows]
    units = [np.mean(p.percent, axis=1 if over_tasks else 0) for p in parts]
    means = _moderated(keys, units, alone=over_tasks)
    table = pd.DataFrame(rows)
    for place, end in enumerate(("value", "low", "high")):
        name = "delta_m" if end == "value" else end
        table.insert(4 + place, name, [getattr(mean, end) for mean in means])
    return table


def deltas_of(tasks: Sequence[Sequence[Tested]]) -> Deltas:
    """Compute Delta_m task by task and seed by seed.

    Args:
      tasks: values of every task that count, as `by_task` groups them.
    """
    tests = [test for task in tasks for test in task]
    reasons = [f"{test.task}: {test.reason}" for test in tests if test.reason]
    seeds = sorted(set.intersection(*(set(test.seeds) for test in tests)))
    if not reasons and not seeds:
        reasons = ["no seed has all scores of both variants"]
    for test in tests if not reasons else ():
        st, _ = test.sides(seeds)
        zero = [str(seed) for seed, value in zip(seeds, st, strict=True) if not value]
        if zero or not st.mean():
            where = f"in seed {', '.join(zero)}" if zero else "on average"
            reasons.append(f"{test.task}: the {test.name} of ST is 0 {where}")
    if reasons:
        return Deltas([], np.zeros((len(tasks), 0)), "; ".join(reasons))
    percent = [np.mean([_percent(test, seeds) for test in task], 0) for task in tasks]
    return Deltas(seeds, np.stack(percent), "")


@memoised
def tested(
    df: Frame, variant: str, baseline: str, split: str, by: str | None = None
) -> list[Tested]:
    """Collect values of every (setting, task, name) at the best-validation points.

    Of a variant that trains a group of tasks, only the tasks of the group that count.
    """
    need_one_rate(counted(of_name(df, "loss")))
    at_best = _at_best(df, split, by)
    if not at_best:
        raise InputError(
            f"the records hold no values of split {split!r} at the points that "
            f"validation chose."
        )
    names, declared = score_names(df, split), measures(df)
    served = _served(df, variant)
    tests = []
    for (setting, task), scores in names.items():
        if served and (setting, task) not in served:
            continue
        for name in [*scores, "loss"]:
            st, mt = (
                at_best.get((setting, side, task, name), NOT_TESTED)
                for side in (baseline, variant)
            )
            pairs = zip((baseline, variant), (st, mt), strict=True)
            bare = [repr(side) for side, known in pairs if not known.values]
            reason = f"no {split} {name} of {' and '.join(bare)}"
            tests.append(
                Tested(
                    setting,
                    task,
                    name,
                    declared[setting, name].direction,
                    st.by or mt.by,
                    st.values,
                    mt.values,
                    st.diverged,
                    mt.diverged,
                    reason if bare else "",
                )
            )
    return tests


def by_task(tests: Sequence[Tested]) -> list[list[Tested]]:
    """Group values for Delta_m: per task its scores, or its loss if it has none."""
    names = dict.fromkeys(test.task for test in tests)
    tasks = [[test for test in tests if test.task == name] for name in names]
    return [[o for o in task if o.name != "loss"] or task for task in tasks]


def few(count: int, over_tasks: bool = False) -> str:
    """Explain why there is no interval; empty where there is.

    >>> few(1), few(3)
    ('1 common seed, fewer than 2', '')
    """
    noun = "task" if over_tasks else "common seed"
    return f"{count} {noun}{'s' * (count != 1)}, fewer than 2" * (count < 2)


def _percent(test: Tested, seeds: Sequence[int]) -> np.ndarray:
    """Differences in percent of the size of ST's mean ``[n]``; + is better."""
    st, mt = test.sides(seeds)
    return 100 * test.direction * (mt - st) / abs(st.mean())


def _moderated(
    keys: Sequence[Any], units: Sequence[np.ndarray], *, alone: bool
) -> list[Mean]:
    """Means of units; those of one key share what is known of their variance."""
    if alone:
        return [paired_t(unit) for unit in units]
    means = [NO_MEAN] * len(units)
    for key in dict.fromkeys(keys):
        at = [i for i, other in enumerate(keys) if other == key and len(units[i])]
        for i, mean in zip(at, moderated([units[i] for i in at]), strict=True):
            means[i] = mean
    return means


class AtBest(NamedTuple):
    """Values of a task in a variant, each at the best-validation point of its run."""

    by: str
    """Name of the validation value that chose the points."""
    values: dict[int, float]
    """The finite ones, by seed."""
    diverged: int
    """Curves that did, later."""


NOT_TESTED = AtBest("", {}, 0)


@memoised
def _at_best(df: Frame, split: str, by: str | None) -> dict[tuple, AtBest]:
    """Collect `best_values` by (setting, variant, task, name)."""
    best = best_values(df, split, by).sort_values("seed", kind="stable")
    seeds, values = best["seed"].to_numpy(), best["value"].to_numpy(float)
    judges, diverged = best["by"].to_numpy(), best["diverged"].to_numpy(bool)
    by_key = {}
    for key, at in best.groupby([*SIDE, "name"]).indices.items():
        finite = at[np.isfinite(values[at])]
        by_seed = dict(
            zip(seeds[finite].tolist(), values[finite].tolist(), strict=True)
        )
        by_key[key] = AtBest(judges[at[0]], by_seed, int(diverged[at].sum()))
    return by_key


def _served(df: Frame, variant: str) -> set[tuple[str, str]]:
    """Tasks that count of a variant with groups; none of one without."""
    groups = labels(df).query("group != ''")["variant"]
    if variant not in set(groups):
        return set()
    rows = counted(df[(df["variant"] == variant) & (df["task"] != "")])
    keys = rows[["setting", "task"]].drop_duplicates()
    return set(keys.itertuples(index=False, name=None))


def _pairs(df: Frame, baseline: str) -> list[tuple[str, str]]:
    """Variants with what each is held against, in the order of the records."""
    variants = list(df["variant"].unique())
    against = {name: counterpart(name, baseline, variants) for name in variants}
    pairs = [
        (name, other)
        for name, other in against.items()
        if name != other and other in variants
    ]
    if not pairs:
        raise InputError(
            f"nothing to hold against the baseline {baseline!r}; the records are of: "
            f"{', '.join(variants)}."
        )
    return pairs


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
