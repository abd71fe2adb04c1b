"""Fronts: what runs of one method with other preferences reach, and its hypervolume."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame, values
from mtl_jax.analysis.interval import paired_t
from mtl_jax.analysis.variant import family_of

RUN = ["setting", "variant", "learning_rate", "batch_size", "seed"]
COLUMNS = ["setting", "family", "preferences", "seeds", "volume", "low", "high"]
COLUMNS += ["undominated", "reason"]
FEWEST = 3
"""Preferences that make a front."""
MOST_TASKS = 5
"""Up to which hypervolumes are computed: their cost grows with points to that power."""


def hypervolume(points: np.ndarray, reference: Sequence[float] | np.ndarray) -> float:
    """Measure the volume that points ``[N, T]`` dominate, up to a reference ``[T]``.

    Less is better. Exact, by slicing. Source: Zitzler & Thiele, 1998 (PPSN V).

    >>> hypervolume(np.array([[1.0, 3.0], [2.0, 1.0], [2.0, 2.0]]), [4.0, 4.0])
    7.0
    """
    reference = np.asarray(reference, float)
    points = points[(points < reference).all(axis=1)]
    points = points[np.argsort(points[:, -1], kind="stable")]
    if not len(points):
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - points[0, 0])
    ends = np.append(points[1:, -1], reference[-1])
    heights = ends - points[:, -1]
    slices = (
        float(height) * hypervolume(points[: count + 1, :-1], reference[:-1])
        for count, height in enumerate(heights)
        if height > 0
    )
    return sum(slices)


def undominated(points: np.ndarray) -> np.ndarray:
    """Tell which points ``[N, T]`` no other dominates: bool ``[N]``. Less is better.

    >>> undominated(np.array([[1.0, 3.0], [2.0, 1.0], [2.0, 2.0]])).tolist()
    [True, True, False]
    """
    below = (points[:, None] <= points[None]).all(axis=2)
    less = (points[:, None] < points[None]).any(axis=2)
    return np.logical_not((below & less).any(axis=0))


def ends(df: Frame, split: str = "test") -> Frame:
    """Collect the losses before the first step and at the end of every run.

    Args:
      df: records of one rate a variant.
      split: whose loss.

    Returns:
      A row per run and task: setting, family (of the variants that differ in their
      preferences only), variant, seed, task, start, value.
    """
    losses = values(df, split, "loss").sort_values("step", kind="stable")
    curves = losses.groupby([*RUN, "task"], sort=False)["value"]
    made = curves.agg(start="first", value="last").reset_index()
    made["family"] = made["variant"].map(family_of)
    return made[["setting", "family", "variant", "seed", "task", "start", "value"]]


def fronts(df: Frame, split: str = "test") -> Frame:
    """Measure the front of every family of at least three preferences.

    Losses of a run are divided by those that it starts from, and the volume is the
    share of the unit cube that a family dominates: 1 where all losses are 0.

    Args:
      df: records of one rate a variant, with a point at step 0.
      split: whose loss.

    Returns:
      A row per setting and family: preferences, seeds; volume, low, high (95% t
      interval over seeds); undominated (mean number of preferences); reason (why there
      is no volume).
    """
    rows = []
    for (setting, family), runs in ends(df, split).groupby(["setting", "family"]):
        count = runs["variant"].nunique()
        if count < FEWEST:
            continue
        made = [_relative(of_seed) for _, of_seed in runs.groupby("seed")]
        tasks = made[0].shape[1]
        few = tasks <= MOST_TASKS
        volumes = [
            hypervolume(each, np.ones(tasks)) if few else np.nan for each in made
        ]
        mean = paired_t(np.array(volumes))
        row = {"setting": setting, "family": family, "preferences": count}
        row |= {"seeds": len(made), "volume": mean.value}
        row |= {"low": mean.low, "high": mean.high}
        row["undominated"] = np.mean([undominated(each).sum() for each in made])
        row["reason"] = "" if few else f"{tasks} tasks, more than {MOST_TASKS}"
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _relative(runs: Frame) -> np.ndarray:
    """Losses relative to their starts ``[N, T]``, of runs that have all tasks."""
    table = runs.assign(part=runs["value"] / runs["start"])
    parts = table.pivot(index="variant", columns="task", values="part").dropna()
    return parts.to_numpy(float)
