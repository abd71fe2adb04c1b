"""Figures 1 to 3: scores and factors of a task against its training loss."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from mtl_jax.analysis.aggregates import (
    AGGREGATES,
    FACTORS,
    epochs,
    headline,
    labels,
    targets,
    training_loss,
)
from mtl_jax.analysis.curves import (
    CURVE,
    Frame,
    are,
    compared,
    counted,
    need_one_rate,
    values,
)
from mtl_jax.analysis.deltas import deltas
from mtl_jax.analysis.gap import gap_summary
from mtl_jax.analysis.measures import measures

BASELINE = "single"
MEAN = -1
"""Seed of the rows that are means over seeds."""
POINT = ["setting", "target", "group", "variant", "seed", "seeds", "step", "epoch"]
POINT += ["loss", "loss_split"]


def figure_1(
    df: Frame, targets: Iterable[tuple[str, str]] = (), score: str = ""
) -> Frame:
    """Tabulate the test score of a target against its training loss, point by point.

    A point is an epoch (`aggregates.epochs`), the loss that of all training data where
    it is recorded. Rows of the seed `MEAN` are means over the seeds that did not
    diverge, at the epochs that all of them have: of the score the mean, of the loss the
    geometric mean.

    Args:
      df: records of one rate a task and variant.
      targets: pairs of a setting and a task; none for the targets of the records, and
        for all tasks of a setting that has none.
      score: as in `aggregates.aggregates`.

    Returns:
      setting, target, group, variant, seed, seeds (behind the row); step, epoch; loss
      (training, nats), loss_split (``train``, or ``probe`` where that is all there is);
      name, unit, score.

    Raises:
      InputError: several rates of a task, or a number that is there twice.
    """
    wanted = list(targets)
    rows = []
    for name, of_name in headline(counted(df), "test", score).items():
        declared = measures(df)
        frame = values(counted(df), "test", name)
        frame = frame[are(frame, of_name)]
        units = [declared[setting, name] for setting in frame["setting"]]
        frame["value"] *= [measure.factor for measure in units]
        rows.append(frame.assign(name=name, unit=[m.unit for m in units]))
    made = _against_loss(df, pd.concat(rows), ["name", "unit"], wanted)
    return made.rename(columns={"value": "score"})


def gaps(df: Frame, score: str = "") -> Frame:
    """Tabulate the gap of the score of every target at the same training loss.

    It is the engine's answer to Figure 1 (`analysis.gap_summary`), beside the paper's
    means of best points.

    Returns:
      setting, target, group, variant; name, unit; statistic (mean, early, late); value,
      low, high (MT minus ST, of ``%`` in points); seeds; opens_at (training loss; NaN
      if it never does), opens_step, opens_epoch; reason.

    Raises:
      InputError: as `analysis.gap_summary`.
    """
    declared, frames = measures(df), []
    for name, of_name in headline(counted(df), "test", score).items():
        for variant in compared(df, BASELINE):
            table = gap_summary(df, variant, BASELINE, name=name)
            shown = table[are(table, set(of_name) & set(targets(df)))]
            measured = [declared[setting, name] for setting in shown["setting"]]
            factors = np.array([m.factor for m in measured], float)
            ends = {end: factors * shown[end] for end in ("value", "low", "high")}
            frames.append(shown.assign(unit=[m.unit for m in measured], **ends))
    made = pd.concat(frames, ignore_index=True)
    made = made.merge(labels(df), on=["setting", "variant"]).drop(columns="target")
    columns = ["setting", "target", "group", "variant", "name", "unit", "statistic"]
    columns += ["value", "low", "high", "seeds", "opens_at", "opens_step"]
    return made.rename(columns={"task": "target"})[[*columns, "opens_epoch", "reason"]]


def figure_2(df: Frame, score: str = "") -> Frame:
    """Tabulate what `figure_1` does, of all tasks with significant transfer.

    Significant by the paper's rule (`deltas`); of variants, those whose
    transfer of the task is, and the baseline. Several settings may be concatenated.
    """
    changes = deltas(df, score=score)
    changes = changes[(changes["aggregate"] == "score") & changes["significant"]]
    keys = ["setting", "target", "variant"]
    shown = pd.concat(
        [changes[keys], changes[["setting", "target"]].assign(variant=BASELINE)]
    ).drop_duplicates()
    tasks = dict.fromkeys(zip(changes["setting"], changes["target"], strict=True))
    if not tasks:
        return figure_1(df, score=score).iloc[:0]
    return figure_1(df, tasks, score).merge(shown, on=keys)


def figure_3(df: Frame, targets: Iterable[tuple[str, str]] = ()) -> Frame:
    """Tabulate the factors of a target against its training loss, point by point.

    Args:
      df: records of one rate a task and variant.
      targets: as in `figure_1`.

    Returns:
      Columns of `figure_1` up to loss_split; factor (sharpness, covariance, fisher),
      name (recorded), value.

    Raises:
      InputError: as `figure_1`.
    """
    rows = [
        values(counted(df), rule.split, rule.name, rule.scope).assign(
            factor=factor, name=rule.name
        )
        for factor in FACTORS
        for rule in [AGGREGATES[factor]]
    ]
    return _against_loss(df, pd.concat(rows), ["factor", "name"], list(targets))


def _against_loss(
    df: Frame, rows: Frame, what: list[str], wanted: list[tuple[str, str]]
) -> Frame:
    """Points of every seed and their means, with the training loss at each."""
    need_one_rate(df)
    rows = rows[are(rows, wanted or targets(df)) & np.isfinite(rows["value"])]
    losses = training_loss(counted(df))
    losses = losses[np.isfinite(losses["value"])].rename(
        columns={"value": "loss", "split": "loss_split"}
    )
    losses = losses[[*CURVE, "step", "loss", "loss_split"]]
    points = rows.merge(losses, on=[*CURVE, "step"]).merge(
        epochs(counted(df)), on=[*CURVE, "step"]
    )
    points = points.merge(labels(df), on=["setting", "variant"])
    points["target"] = points["task"]
    points["seeds"] = 1
    table = pd.concat([points, _means(points, what)], ignore_index=True)
    place = {name: number for number, name in enumerate(df["variant"].unique())}
    table["place"] = [place[variant] for variant in table["variant"]]
    order = ["setting", "target", *what, "place", "seed", "step"]
    return table.sort_values(order, ignore_index=True)[[*POINT, *what, "value"]]


def _means(points: Frame, what: list[str]) -> Frame:
    """Means over sound seeds, at the steps that all of them have."""
    sound = points[points["diverged_at"].isna() & (points["loss"] > 0)].copy()
    of_variant = ["setting", "target", "group", "variant", "loss_split", *what]
    if not len(sound):
        return sound
    sound["all"] = sound.groupby(of_variant)["seed"].transform("nunique")
    sound["log"] = np.log(sound["loss"])
    means = sound.groupby([*of_variant, "step", "all"], sort=False).agg(
        epoch=("epoch", "mean"),
        log=("log", "mean"),
        value=("value", "mean"),
        seeds=("seed", "nunique"),
    )
    means = means.reset_index()
    means = means[means["seeds"] == means["all"]]
    return means.assign(loss=np.exp(means["log"]), seed=MEAN)
