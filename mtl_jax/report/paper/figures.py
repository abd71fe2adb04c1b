"""Drawings of the paper's figures, from the frames of `mtl_jax.analysis.paper`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.paper import MEAN
from mtl_jax.objectives.measure import Measure
from mtl_jax.report.paper.looks import LABELS
from mtl_jax.report.plots import axis
from mtl_jax.report.plots.bundle import line
from mtl_jax.report.plots.sheet import finish, note, sheet, short, variant_handles
from mtl_jax.report.plots.style import INK, MUTED, Look, styled

Panel = tuple[str, Frame]
"""Title and rows."""
SEED = Line2D([], [], color=MUTED, marker=".", markersize=4, linestyle="",
              label="a seed, an epoch")  # fmt: skip
MOST_BINS = 30
"""Bins of the training loss whose means make a line."""
SHADED = "#e3ecf4"
CHANGE = "change of the score (%), + better"


@styled()
def against_loss(
    columns: Sequence[tuple[str, Sequence[Panel]]],
    looks: Mapping[str, Look],
    *,
    value: str,
    most: int = 3,
    height: float = 2.0,
    narrow: bool = False,
) -> Figure:
    """Draw values against the training loss: a dot an epoch and seed, means as lines.

    Args:
      columns: title, and panels under each other with the label of their ordinate.
      looks: by variant.
      value: column of the ordinates.
      most: columns side by side.
      height: of a panel, in inches.
      narrow: for a phone.
    """
    made = sheet(
        len(columns),
        len(columns[0][1]),
        legend=[*variant_handles(list(looks.values())), SEED],
        narrow=narrow,
        columns=most,
        height=height,
    )
    for (title, panels), column in zip(columns, made.axes, strict=True):
        for (label, rows), ax in zip(panels, column, strict=True):
            ax.set_title(short(title))
            ax.set_ylabel(label)
            _curves(ax, rows, looks, value)
    return finish(made)


def _curves(ax: Axes, rows: Frame, looks: Mapping[str, Look], value: str) -> None:
    """Runs and means of a panel, from the loss on that the paper shows."""
    rows = rows[rows["loss"] > 0]
    if not len(rows):
        note(ax, "not recorded")
        return
    late = rows["loss"] <= 1
    shown = rows[late] if late.sum() * 2 > len(rows) else rows
    for variant, runs in rows[rows["seed"] != MEAN].groupby("variant", sort=False):
        look = looks[str(variant)]
        dots: dict[str, Any] = {"markersize": 2.5, "alpha": 0.35, "markeredgewidth": 0}
        ax.plot(runs["loss"], runs[value], ".", color=look.color, **dots)
        line(ax, *_means(runs, value), look)
    axis.training_loss(ax, shown["loss"].min(), shown["loss"].max())
    seen = shown[value].to_numpy()
    axis.fit(ax, seen, log=bool((seen > 0).all() and axis.spans(seen)))


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


@styled()
def quadrants(
    rows: Sequence[tuple[str, Mapping[str, Frame]]],
    looks: Mapping[str, Look],
    *,
    narrow: bool = False,
) -> Figure:
    """Draw changes of the score against changes of factors, SMTOs against the sum.

    Args:
      rows: name of a setting, and the points of each factor in it.
      looks: by method.
      narrow: for a phone.
    """
    factors = list(rows[0][1])
    handles: list[Any] = [
        Line2D([], [], linestyle="", label=look.label, **_face(look, True))
        for look in looks.values()
    ]
    grey = Look("not significant", MUTED, "-", "o")
    handles += [Line2D([], [], linestyle="", label=grey.label, **_face(grey, False))]
    handles += [Patch(color=SHADED, label="explained by the factor")]
    made = sheet(
        len(factors), len(rows), legend=handles, narrow=narrow, columns=4, height=1.75,
        stacked=False,
    )  # fmt: skip
    for factor, column in zip(factors, made.axes, strict=True):
        for (setting, points), ax in zip(rows, column, strict=True):
            ax.set_title(short(setting))
            ax.set_ylabel(CHANGE)
            ax.set_xlabel(f"{LABELS[factor]}, change (%)")
            _quadrants(ax, points[factor], looks)
    return finish(made)


def _quadrants(ax: Axes, points: Frame, looks: Mapping[str, Look]) -> None:
    points = points[np.isfinite(points[["score_change", "factor_change"]]).all(axis=1)]
    if not len(points):
        note(ax, "not recorded")
        return
    x, y = (points[f"{name}_change"].to_numpy() for name in ("factor", "score"))
    ends = [1.15 * float(np.abs(v).max()) or 1.0 for v in (x, y)]
    ax.set(xlim=(-ends[0], ends[0]), ylim=(-ends[1], ends[1]))
    for corner in ((-ends[0], 0), (0, -ends[1])):
        ax.add_patch(Rectangle(corner, *ends, color=SHADED, linewidth=0, zorder=0.4))
    axis.zero_line(ax)
    axis.zero_line(ax, vertical=True)
    for point in points.itertuples():
        look = looks[point.method]
        face = _face(look, point.significant)
        ax.plot(point.factor_change, point.score_change, linestyle="", **face)
    _plain(ax)


def _plain(ax: Axes) -> None:
    """Put few and plain numbers on both axes."""
    ax.locator_params(nbins=4)
    ax.xaxis.set_major_formatter(axis.PLAIN)
    ax.yaxis.set_major_formatter(axis.PLAIN)


@styled()
def auxiliary_sets(
    columns: Sequence[Panel],
    looks: Mapping[int, Look],
    measured: Sequence[str],
    score: tuple[str, Measure],
    *,
    narrow: bool = False,
) -> Figure:
    """Draw what goes with the gradient similarity of auxiliary sets.

    Args:
      columns: target and its rows of `analysis.paper.figures_5_6`.
      looks: by number of auxiliary tasks.
      measured: columns of the ordinates, from top to bottom.
      score: name and measure of the score.
      narrow: for a phone.
    """
    handles: list[Any] = [
        Line2D([], [], linestyle="", label=look.label, **_face(look, True))
        for look in looks.values()
    ]
    handles += [Line2D([], [], color=MUTED, linewidth=1.2, label="± 2 s.d. of seeds")]
    made = sheet(
        len(columns), len(measured), legend=handles, narrow=narrow, height=1.6
    )  # fmt: skip
    for (title, rows), column in zip(columns, made.axes, strict=True):
        for name, ax in zip(measured, column, strict=True):
            ax.set_title(short(title))
            ax.set_ylabel(f"test {axis.label(*score)}" if name == "score"
                          else LABELS[name])  # fmt: skip
            ax.set_xlabel("gradient similarity")
            _sets(ax, rows, looks, name)
    return finish(made)


def _sets(ax: Axes, rows: Frame, looks: Mapping[int, Look], name: str) -> None:
    rows = rows[np.isfinite(rows[["similarity", name]]).all(axis=1)]
    if not len(rows):
        note(ax, "not recorded")
        return
    for point in rows.to_dict("records"):
        look, x, y = looks[point["auxiliaries"]], point["similarity"], point[name]
        if point["seed"] != MEAN:
            ax.plot(x, y, ".", color=look.color, markersize=3, alpha=0.45)
            continue
        bars = {"xerr": 2 * point["similarity_sd"], "yerr": 2 * point[f"{name}_sd"]}
        bars = {side: size for side, size in bars.items() if np.isfinite(size)}
        ax.errorbar(x, y, ecolor=look.color, elinewidth=0.8, alpha=0.9, **bars)
        ax.plot(x, y, linestyle="", zorder=3, **_face(look, True))
    _plain(ax)


@styled()
def temperatures(
    columns: Sequence[Panel],
    looks: Mapping[str, Look],
    *,
    narrow: bool = False,
) -> Figure:
    """Draw scores and transfer against temperature.

    Args:
      columns: target and its rows of `analysis.paper.temperature`.
      looks: by variant.
      narrow: for a phone.
    """
    made = sheet(
        len(columns),
        2,
        legend=variant_handles(list(looks.values())),
        narrow=narrow,
        height=1.8,
    )
    for (title, rows), column in zip(columns, made.axes, strict=True):
        unit = rows["unit"].iloc[0]
        name = f"{rows['split'].iloc[0]} {rows['name'].iloc[0].replace('_', ' ')}"
        labels = (f"{name} ({unit})" if unit else name, "transfer, + is MT better")
        for value, label, ax in zip(("mt", "transfer"), labels, column, strict=True):
            ax.set_title(short(title))
            ax.set_ylabel(label)
            ax.set_xlabel("temperature (learning rate / batch size)")
            shown = [np.zeros(0 if value == "mt" else 1)]
            for variant, points in rows.groupby("variant", sort=False):
                points = points[np.isfinite(points[value])]
                look = looks[str(variant)]
                ax.plot(points["temperature"], points[value], linestyle="",
                        **_face(look, True))  # fmt: skip
                means = points.groupby("temperature")[value].mean()
                line(ax, means.index.to_numpy(), means.to_numpy(), look)
                shown.append(points[value].to_numpy())
            if value == "transfer":
                axis.zero_line(ax)
            ax.set_xscale("log")
            low, high = rows["temperature"].min(), rows["temperature"].max()
            axis.log_ticks(ax.xaxis, low, max(high, 1.01 * low))
            axis.fit(ax, np.concatenate(shown), log=False)
    return finish(made)


def _face(look: Look, full: bool) -> dict[str, Any]:
    """Marker of a look, hollow and pale where it does not count."""
    return {
        "color": look.color,
        "marker": look.marker,
        "markersize": 5.5 if full else 4,
        "markerfacecolor": look.color if full else "white",
        "markeredgecolor": INK if full else look.color,
        "markeredgewidth": 0.4 if full else 0.7,
        "alpha": 0.9 if full else 0.55,
    }
