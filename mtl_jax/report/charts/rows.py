"""Rows of curves: runs, and their means."""

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.charts.trajectories import Bundle

MEAN = ""
"""Seed of a mean."""


def of_runs(of: Bundle, variant: str, x: np.ndarray, *, factor: float = 1.0) -> Frame:
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
    return pd.DataFrame({name: values[there] for name, values in columns.items()})


def of_mean(of: Bundle, variant: str, *, factor: float = 1.0) -> Frame:
    """Make the rows of the mean of sound runs over steps."""
    return line(variant, of.steps, factor * of.mean, step=of.steps)


def line(variant: str, x: np.ndarray, y: np.ndarray, **more: np.ndarray) -> Frame:
    """Make the rows of the line of a variant; ``low`` and ``high`` are its band."""
    rows = pd.DataFrame({"x": x, "y": y, "step": np.arange(len(x)), **more})
    return rows.assign(variant=variant, seed=MEAN, kind="mean")


def joined(frames: list[Frame]) -> Frame:
    """Join rows, none if there are none."""
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=["variant", "seed", "step", "x", "y", "kind"])
    return pd.concat(frames, ignore_index=True)
