"""Panels of the paper's figures, from the frames of `mtl_jax.analysis.paper`."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.paper import MEAN
from mtl_jax.objectives.measure import Measure
from mtl_jax.report import charts
from mtl_jax.report.charts import Axis, Look, Panel, rows
from mtl_jax.report.charts.labels import TRAINING_LOSS, label, short, spans
from mtl_jax.report.paper.looks import LABELS

MOST_BINS = 30
"""Bins of the training loss whose means make a line."""
CHANGE = "change of the score (%), + better"
TEMPERATURE = "temperature (learning rate / batch size)"


def against_loss(
    title: str, table: Frame, value: str, name: str, looks: Mapping[str, Look]
) -> Panel:
    """Draw values against the training loss: a dot an epoch and seed, means as lines.

    Args:
      title: of the panel.
      table: its rows.
      value: column of the ordinates.
      name: label of the ordinate.
      looks: by variant.
    """
    table = table[table["loss"] > 0]
    if not len(table):
        return charts.empty(short(title), "not recorded")
    # From the loss on that the paper shows.
    late = table["loss"] <= 1
    shown = table[late] if late.sum() * 2 > len(table) else table
    runs = shown[shown["seed"] != MEAN]
    dots = pd.DataFrame(
        {
            "x": runs["loss"], "y": runs[value], "step": runs["step"],
            "epoch": runs["epoch"], "variant": runs["variant"],
            "seed": runs["seed"].astype(str), "kind": "dot",
        }
    )  # fmt: skip
    made: list[rows.Rows | Frame] = [dots]
    for variant, its in runs.groupby("variant", sort=False):
        made.append(rows.line(str(variant), *_means(its, value)))
    seen = runs[value].to_numpy(float)
    scale = "log" if spans(seen) else "linear"
    x, y = Axis(TRAINING_LOSS, "log", reverse=True), Axis(name, scale)
    return charts.curves(short(title), rows.joined(made), x, y, looks)


def _means(runs: Frame, value: str) -> tuple[np.ndarray, np.ndarray]:
    """Means over seeds in bins of the log loss in which all seeds have points.

    Losses of single epochs oscillate; a line from epoch to epoch would go to and fro.
    """
    log = np.log(runs["loss"].to_numpy())
    count = int(np.clip(runs["epoch"].nunique() // 2, 4, MOST_BINS))
    edges = np.linspace(log.min(), log.max(), count + 1)[1:-1]
    table = runs.assign(log=log, bin=np.digitize(log, edges))
    means = table.groupby(["bin", "seed"])[["log", value]].mean()
    bins = means.groupby("bin")
    whole = bins.mean()[bins.size() == runs["seed"].nunique()][::-1]
    return np.exp(whole["log"].to_numpy()), whole[value].to_numpy()


def quadrants(
    title: str, points: Frame, factor: str, looks: Mapping[str, Look]
) -> Panel:
    """Draw changes of the score against changes of a factor, SMTOs against the sum.

    Args:
      title: of the panel.
      points: rows of `analysis.paper.figure_4` of a factor, with ``method``.
      factor: its name.
      looks: by method.
    """
    cloud = pd.DataFrame(
        {
            "x": points["factor_change"].astype(float),
            "y": points["score_change"].astype(float),
            "task": points["target"],
            "variant": points["method"],
            "hollow": ~points["significant"].astype(bool),
        }
    )
    x = Axis(f"{LABELS[factor]}, change (%)", zero=True)
    y = Axis(CHANGE, zero=True)
    return charts.scatter(short(title), cloud, x, y, looks, shaded=True)


def auxiliary_sets(
    title: str,
    table: Frame,
    name: str,
    looks: Mapping[str, Look],
    score: tuple[str, Measure],
) -> Panel:
    """Draw what goes with the gradient similarity of auxiliary sets.

    Args:
      title: of the panel.
      table: rows of `analysis.paper.figures_5_6` of a target.
      name: column of the ordinates.
      looks: by number of auxiliary tasks.
      score: name and measure of the score.
    """
    means = table[table["seed"] == MEAN]
    spread = {
        "x": 2 * means["similarity_sd"].astype(float),
        "y": 2 * means[f"{name}_sd"].astype(float),
    }
    cloud = pd.DataFrame(
        {
            "x": means["similarity"].astype(float),
            "y": means[name].astype(float),
            "group": means["group"],
            "variant": means["auxiliaries"].astype(str),
        }
    )
    for axis, size in spread.items():
        cloud[f"{axis}_low"] = cloud[axis] - size
        cloud[f"{axis}_high"] = cloud[axis] + size
    y = f"test {label(*score)}" if name == "score" else LABELS[name]
    return charts.scatter(
        short(title), cloud, Axis("gradient similarity"), Axis(y), looks
    )


def temperatures(
    title: str, table: Frame, value: str, looks: Mapping[str, Look]
) -> Panel:
    """Draw scores, or transfer, against temperature.

    Args:
      title: of the panel.
      table: rows of `analysis.paper.temperature` of a target.
      value: ``mt`` or ``transfer``.
      looks: by variant.
    """
    unit = table["unit"].iloc[0]
    name = f"{table['split'].iloc[0]} {table['name'].iloc[0].replace('_', ' ')}"
    names = {
        "mt": f"{name} ({unit})" if unit else name,
        "transfer": "transfer, + is MT better",
    }
    made: list[rows.Rows | Frame] = []
    for variant, points in table.groupby("variant", sort=False):
        points = points[np.isfinite(points[value])]
        dots = pd.DataFrame({"x": points["temperature"], "y": points[value]})
        dots = dots.assign(variant=variant, seed=rows.MEAN, kind="dot", step=0)
        means = points.groupby("temperature")[value].mean()
        x, y = means.index.to_numpy(float), means.to_numpy(float)
        made += [dots, rows.line(str(variant), x, y)]
    y = Axis(names[value], zero=value == "transfer")
    x = Axis(TEMPERATURE, "log")
    return charts.curves(short(title), rows.joined(made), x, y, looks)
