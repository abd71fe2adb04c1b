"""Rows of curves: runs, and their means."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtl_jax.analysis.comparison import rows_of
from mtl_jax.analysis.curves import Frame
from mtl_jax.report.charts.trajectories import Bundle

MEAN = ""
"""Seed of a mean."""
Rows = Mapping[str, Any]
"""Columns ``[N]`` by name: a table, which is made of many of them at once."""
ABSENT = {"last": False}
"""Values of columns that some rows do not have, where it is not NaN."""


def of_runs(of: Bundle, variant: str, x: np.ndarray, *, factor: float = 1.0) -> Rows:
    """Make the rows of runs for `panel.curves`, a line each.

    Args:
      of: the runs.
      variant: their name.
      x: abscissas ``[S]``, or ``[S, n]`` for every run its own.
      factor: by which values are multiplied.
    """
    shape = of.values.shape
    abscissas = np.broadcast_to(x if x.ndim == 2 else x[:, None], shape)
    there = np.isfinite(of.values) & np.isfinite(abscissas)
    last = there & (np.cumsum(there[::-1], axis=0)[::-1] == 1)
    kind = np.where(of.sound, "seed", "lost")
    columns = {
        "variant": np.full(shape, variant, object),
        "seed": np.broadcast_to(of.seeds.astype(str).astype(object), shape),
        "step": np.broadcast_to(of.steps[:, None], shape),
        "x": abscissas,
        "y": factor * of.values,
        "kind": np.broadcast_to(kind.astype(object), shape),
        "last": last,
    }
    return {name: values[there] for name, values in columns.items()}


def of_mean(of: Bundle, variant: str, *, factor: float = 1.0) -> Rows:
    """Make the rows of the mean of sound runs over steps."""
    return line(variant, of.steps, factor * of.mean, step=of.steps)


def line(variant: str, x: np.ndarray, y: np.ndarray, **more: np.ndarray) -> Rows:
    """Make the rows of the line of a variant; ``low`` and ``high`` are its band."""
    columns = {"x": x, "y": y, "step": np.arange(len(x)), **more}
    of = {"variant": variant, "seed": MEAN, "kind": "mean"}
    return rows_of(len(x), {**columns, **of})


def joined(parts: Sequence[Rows | Frame]) -> Frame:
    """Join rows, of tables too; none if there are none."""
    parts = [part for part in parts if len(part["x"])]
    if not parts:
        return pd.DataFrame(columns=["variant", "seed", "step", "x", "y", "kind"])
    names = dict.fromkeys(name for part in parts for name in part)
    return pd.DataFrame(
        {
            name: np.concatenate([_column(part, name) for part in parts])
            for name in names
        }
    )


def _column(part: Rows | Frame, name: str) -> np.ndarray:
    if name in part:
        return np.asarray(part[name])
    return np.full(len(part["x"]), ABSENT.get(name, np.nan))
