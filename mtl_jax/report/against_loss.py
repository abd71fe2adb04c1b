"""Rows against the training loss: runs, and means over seeds where they match."""

from collections.abc import Mapping

import numpy as np

from mtl_jax.analysis.curves import Frame
from mtl_jax.objectives.measure import Measure
from mtl_jax.report.charts import Axis, bundle, rows
from mtl_jax.report.charts.labels import (
    TRAINING_LOSS,
)
from mtl_jax.report.findings import (
    BASELINE,
    Findings,
)

LOSS_AXIS = Axis(TRAINING_LOSS, "log", reverse=True)


def against_loss(
    findings: Findings,
    task: str,
    variant: str,
    what: tuple[str, str, str],
    measure: Measure,
) -> Frame:
    """Runs of a value, by split, name and scope, against the loss on the probe."""
    split, name, scope = what
    of = bundle(findings.table, split, name, task, variant, scope)
    probe = bundle(findings.table, "probe", "loss", task, variant)
    if of.values.shape != probe.values.shape or not of.values.size:
        return rows.joined([])
    x = np.where(probe.values > 0, probe.values, np.nan)
    return rows.of_runs(of, variant, x, factor=measure.factor)


def matched_means(frames: Mapping[str, Frame], task: str, factor: float) -> list[Frame]:
    """Means over seeds in bins of training loss, of MT and, once, of ST."""
    made, drawn = [], False
    for variant, frame in frames.items():
        if not len(frame):
            continue
        frame = frame[(frame["task"] == task) & frame["comparable"]]
        bins = frame.groupby("bin")[["log_loss", "st", "mt"]].mean()
        if not len(bins):
            continue
        x = np.exp(bins["log_loss"].to_numpy())
        made.append(rows.line(variant, x, factor * bins["mt"].to_numpy()))
        if not drawn:
            made.append(rows.line(BASELINE, x, factor * bins["st"].to_numpy()))
            drawn = True
    return made
