"""Values of a task in all runs of a variant, at the steps that recorded them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.memo import memoised


class AtSteps(NamedTuple):
    """Finite values of a task and variant, ``[N]`` each."""

    seeds: np.ndarray
    steps: np.ndarray
    values: np.ndarray

    def table(self, seeds: Sequence[int], steps: np.ndarray) -> np.ndarray:
        """Tabulate the values ``[n, S]`` of some seeds at steps; NaN where none is.

        >>> recorded = AtSteps(np.array([0, 1]), np.array([5, 9]), np.array([0.5, 0.2]))
        >>> recorded.table([1, 0], np.array([5, 9]))
        array([[nan, 0.2],
               [0.5, nan]])
        """
        table = np.full((len(seeds), len(steps)), np.nan)
        rows, columns = (
            {int(key): place for place, key in enumerate(keys)}
            for keys in (seeds, steps)
        )
        for seed, step, value in zip(self.seeds, self.steps, self.values, strict=True):
            if seed in rows and step in columns:
                table[rows[seed], columns[step]] = value
        return table


NOTHING = AtSteps(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
"""Nothing was recorded."""


@memoised
def at_steps(rows: Frame) -> dict[tuple[str, str, str], AtSteps]:
    """Collect the finite values of `curves.values` by (setting, variant, task)."""
    rows = rows[np.isfinite(rows["value"])]
    seeds, steps = rows["seed"].to_numpy(int), rows["step"].to_numpy(int)
    values = rows["value"].to_numpy(float)
    groups = rows.groupby(["setting", "variant", "task"]).indices
    return {
        key: AtSteps(seeds[at], steps[at], values[at]) for key, at in groups.items()
    }
