"""Trajectories: the values of a variant along its steps, run by run."""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np

from mtl_jax.analysis.curves import Frame, scopes, with_divergence
from mtl_jax.analysis.measures import Measures, measures
from mtl_jax.objectives.measure import Measure

KEY = ["split", "scope", "name", "task", "variant"]


class Trajectories(NamedTuple):
    """Records of one setting by what they are of; rows are numbered."""

    setting: str
    measures: Measures
    places: Mapping[tuple, np.ndarray]
    """Rows of every (split, scope, name, task, variant)."""
    step: np.ndarray
    seed: np.ndarray
    value: np.ndarray
    """NaN where not finite."""
    diverged: np.ndarray
    """Runs that did, sooner or later."""

    def measure(self, name: str) -> Measure:
        """Look up the direction and unit of a loss or a score."""
        return self.measures[self.setting, name]


class Bundle(NamedTuple):
    """Values of a task and variant, in ``n`` runs."""

    steps: np.ndarray
    """``[S]``."""
    seeds: np.ndarray
    """``[n]``."""
    values: np.ndarray
    """``[S, n]``; NaN where there is none."""
    sound: np.ndarray
    """Runs that did not diverge ``[n]``."""

    @property
    def mean(self) -> np.ndarray:
        """Average over sound runs ``[S]``; NaN where one has no value."""
        sound = self.values[:, self.sound]
        return sound.mean(axis=1) if sound.size else np.full(len(self.steps), np.nan)


def indexed(df: Frame) -> Trajectories:
    """Group records of a setting, one rate per variant, for `bundle` to look up."""
    rows = with_divergence(df)
    rows = rows.assign(scope=scopes(rows))
    return Trajectories(
        setting=str(df["setting"].iloc[0]),
        measures=measures(df),
        places=rows.groupby(KEY).indices,
        step=rows["step"].to_numpy(float),
        seed=rows["seed"].to_numpy(),
        value=rows["value"].where(np.isfinite(rows["value"])).to_numpy(float),
        diverged=rows["diverged_at"].notna().to_numpy(),
    )


def bundle(
    table: Trajectories,
    split: str,
    name: str,
    task: str,
    variant: str,
    scope: str = "",
) -> Bundle:
    """Collect a value of all runs; empty where none was recorded.

    Args:
      table: of `indexed`.
      split: as in the records, like the rest.
      name: of the value.
      task: empty for values of the run.
      variant: of the runs.
      scope: of a factor.
    """
    at = table.places.get((split, scope, name, task, variant), np.zeros(0, int))
    steps, row = np.unique(table.step[at], return_inverse=True)
    seeds, column = np.unique(table.seed[at], return_inverse=True)
    values = np.full((len(steps), len(seeds)), np.nan)
    values[row, column] = table.value[at]
    sound = np.ones(len(seeds), bool)
    sound[column[table.diverged[at]]] = False
    return Bundle(steps, seeds, values, sound)


def mean_over(bundles: list[Bundle]) -> Bundle:
    """Average over tasks, seed by seed, at the steps that all have.

    Tasks without a value, or with other seeds than the first, are left out.
    """
    recorded = [b for b in bundles if b.values.size] or bundles[:1]
    first = recorded[0]
    alike = [b for b in recorded if np.array_equal(b.seeds, first.seeds)]
    steps = reduce(np.intersect1d, [b.steps for b in alike])
    values = np.mean([b.values[np.isin(b.steps, steps)] for b in alike], axis=0)
    return Bundle(steps, first.seeds, values, np.all([b.sound for b in alike], axis=0))
