"""Rows against the training loss: runs, and means over seeds where they match."""

from collections.abc import Mapping

import numpy as np

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.memo import memoised
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
NO_ROWS: rows.Rows = {"x": ()}


def against_loss(
    findings: Findings,
    task: str,
    variant: str,
    what: tuple[str, str, str],
    measure: Measure,
) -> rows.Rows:
    """Runs of a value, by split, name and scope, against the loss on the probe."""
    split, name, scope = what
    of = bundle(findings.table, split, name, task, variant, scope)
    probe = bundle(findings.table, "probe", "loss", task, variant)
    if of.values.shape != probe.values.shape or not of.values.size:
        return NO_ROWS
    x = np.where(probe.values > 0, probe.values, np.nan)
    return rows.of_runs(of, variant, x, factor=measure.factor)


def matched_means(
    frames: Mapping[str, Frame], task: str, factor: float
) -> list[rows.Rows]:
    """Means over seeds in bins of training loss, of MT and, once, of ST."""
    made, drawn = [], False
    for variant, frame in frames.items():
        bins = _means(frame).get(task) if len(frame) else None
        if bins is None:
            continue
        log_loss, st, mt = bins
        x = np.exp(log_loss)
        made.append(rows.line(variant, x, factor * mt))
        if not drawn:
            made.append(rows.line(BASELINE, x, factor * st))
            drawn = True
    return made


@memoised
def _means(frame: Frame) -> dict[str, np.ndarray]:
    """Means over seeds ``[3, P]`` of the log loss, ST and MT in every bin, by task."""
    columns = ["log_loss", "st", "mt"]
    bins = frame[frame["comparable"]].groupby(["task", "bin"])[columns].mean()
    places = bins.groupby("task").indices
    values = bins.to_numpy(float).T
    return {task: values[:, at] for task, at in places.items()}
