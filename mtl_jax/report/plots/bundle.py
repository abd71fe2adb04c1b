"""Bundles: the runs of a variant along their steps, and how a bundle is drawn."""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from mtl_jax.analysis.curves import Frame, scopes, with_divergence
from mtl_jax.analysis.measures import Measures, measures
from mtl_jax.objectives.measure import Measure
from mtl_jax.report.plots.style import Look

KEY = ["split", "scope", "name", "task", "variant"]
MOST_LINES = 3
"""Seeds that are drawn one by one; of more there is a band."""


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
    return Bundle(steps, values, sound)


def mean_over(bundles: list[Bundle]) -> Bundle:
    """Average over tasks, seed by seed, at the steps that all have.

    Tasks without a value, or with other numbers of seeds than the first, are left out.
    """
    recorded = [b for b in bundles if b.values.size] or bundles[:1]
    alike = [b for b in recorded if len(b.sound) == len(recorded[0].sound)]
    steps = reduce(np.intersect1d, [b.steps for b in alike])
    values = np.mean([b.values[np.isin(b.steps, steps)] for b in alike], axis=0)
    return Bundle(steps, values, np.all([b.sound for b in alike], axis=0))


def draw(
    ax: Axes,
    x: np.ndarray,
    of: Bundle,
    look: Look,
    *,
    factor: float = 1,
    bold: bool = False,
) -> np.ndarray:
    """Draw runs as thin lines, many as a band, with the mean of the sound.

    A run that diverged is a thin dotted line up to a cross.

    Args:
      ax: a panel.
      x: abscissas ``[S]``, or ``[S, n]`` for every run its own.
      of: the runs.
      look: of the variant.
      factor: by which values are multiplied.
      bold: whether runs are all there is to see of a variant.

    Returns:
      All values that are shown.
    """
    values = factor * of.values
    own_x = np.broadcast_to(x if x.ndim == 2 else x[:, None], values.shape)
    width, alpha = (1.3, 0.8) if bold else (0.7, 0.45)
    few = of.sound.sum() <= MOST_LINES or x.ndim == 2
    for run in range(values.shape[1]):
        if of.sound[run] and not few:
            continue
        style = (look.dash if x.ndim == 1 else "-") if of.sound[run] else ":"
        there = np.isfinite(values[:, run]) & np.isfinite(own_x[:, run])
        at, value = own_x[there, run], values[there, run]
        ax.plot(
            at, value, color=look.color, linestyle=style, linewidth=width, alpha=alpha
        )
        if not of.sound[run]:
            size = 8 if look.marker == "o" else 5  # crosses of two variants may meet
            end = at[-1:], value[-1:]
            ax.plot(*end, color=look.color, marker="x", markersize=size, linestyle="")
    if x.ndim == 1 and of.sound.any():
        if not few:
            low, high = (end(values[:, of.sound], axis=1) for end in (np.min, np.max))
            ax.fill_between(x, low, high, color=look.color, alpha=0.16, linewidth=0)
        line(ax, x, factor * of.mean, look)
    return values.ravel()


def line(ax: Axes, x: np.ndarray, y: np.ndarray, look: Look) -> None:
    """Draw the line that stands for a variant; a lone point gets its marker."""
    alone = np.isfinite(y).sum() == 1
    marker = look.marker if alone else None
    ax.plot(x, y, color=look.color, linestyle=look.dash, marker=marker, zorder=3)


def band(
    ax: Axes, x: np.ndarray, low: np.ndarray, high: np.ndarray, look: Look
) -> None:
    """Draw an interval around a line, with edges to be seen where several meet."""
    ax.fill_between(x, low, high, color=look.color, alpha=0.12, linewidth=0, zorder=2)
    for end in (low, high):
        ax.plot(x, end, color=look.color, linewidth=0.6, alpha=0.6, zorder=2)
