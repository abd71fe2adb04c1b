"""Many methods on a problem of two parameters and two losses: a panel each."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

LossesAt = Callable[[np.ndarray], np.ndarray]
"""``points [..., 2] -> losses [..., 2]``."""
LEAST_COLUMNS, MOST_COLUMNS = 5, 6
PANEL, GAP, TITLE, MARGIN, HEAD, FOOT = 1.5, 0.14, 0.24, 0.42, 0.5, 0.42
"""Inches."""
FRONT = "#66C5AB"
CONTOUR = "#c9c9c9"
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#e4e4e4"
RC: Any = {
    "font.size": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "mtl_jax",
}
TIME = LinearSegmentedColormap.from_list(
    "time", mpl.colormaps["plasma"](np.linspace(0.08, 0.84, 32))
)
COLORS = 25
"""Number of colours of time."""
EDGE = 11.0
"""Edge of the plane that is shown."""


class Paths(NamedTuple):
    """Trajectories of a method."""

    points: np.ndarray
    """``[S, P, 2]``: of every start, along the steps."""
    arrived: np.ndarray
    """Starts that got to the front ``[S]``."""


class Problem(NamedTuple):
    """Problem that all panels show."""

    losses: LossesAt
    front: np.ndarray
    """Points of the Pareto front ``[N, 2]``, in order."""
    steps: int


def plane(paths: Mapping[str, Paths], problem: Problem) -> Figure:
    """Draw trajectories in the plane of parameters, on contours of the mean loss.

    Args:
      paths: by method.
      problem: the losses, and their front.
    """
    line = np.linspace(-EDGE, EDGE, 221)
    mean = problem.losses(np.stack(np.meshgrid(line, line), axis=-1)).mean(axis=-1)
    levels = np.quantile(mean, np.linspace(0, 1, 20)[1:-1])  # evenly spread lines

    def draw(ax: Axes, path: np.ndarray) -> None:
        lines = {"colors": CONTOUR, "linewidths": 0.5, "linestyles": "solid"}
        ax.contour(line, line, mean, levels, **lines).set_rasterized(True)
        _front(ax, problem.front)
        _trajectories(ax, path)
        ax.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE))
        ax.set(xticks=(-10, 0, 10), yticks=(-10, 0, 10))

    return _sheet(paths, problem, draw, ("θ₁", "θ₂"), contours=True)


def objectives(paths: Mapping[str, Paths], problem: Problem) -> Figure:
    """Draw the same trajectories in the plane of the two losses.

    Args:
      paths: by method.
      problem: the losses, and their front.
    """
    front = problem.losses(problem.front)
    seen = {
        name: Paths(problem.losses(path.points), path.arrived)
        for name, path in paths.items()
    }
    shown = np.concatenate([front, *(path.points[:, 0] for path in seen.values())])
    low, high = shown.min(axis=0), shown.max(axis=0)
    margin = 0.06 * (high - low)

    def draw(ax: Axes, path: np.ndarray) -> None:
        _front(ax, front)
        _trajectories(ax, path)
        (left, bottom), (right, top) = low - margin, high + margin
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.locator_params(nbins=4)

    return _sheet(seen, problem, draw, ("loss 1", "loss 2"), contours=False)


def _front(ax: Axes, front: np.ndarray) -> None:
    ax.plot(*front.T, color=FRONT, linewidth=4, solid_joinstyle="round", zorder=2)


def _trajectories(ax: Axes, path: np.ndarray) -> None:
    """Lines coloured by time; a ring where they start, a dot where they end."""
    ends = np.linspace(0, path.shape[1] - 1, COLORS + 1).astype(int)
    for number, (first, last) in enumerate(pairwise(ends)):
        color = TIME((number + 0.5) / COLORS)
        for points in path[:, first : last + 1]:
            ax.plot(*points.T, color=color, linewidth=1.5, zorder=3)
    ring = {"facecolor": "white", "edgecolor": INK, "linewidth": 0.9}
    ax.scatter(*path[:, 0].T, s=16, zorder=4, **ring)
    ax.scatter(*path[:, -1].T, s=16, color=INK, linewidth=0, zorder=5)


def _sheet(
    paths: Mapping[str, Paths],
    problem: Problem,
    draw: Callable[[Axes, np.ndarray], None],
    labels: tuple[str, str],
    contours: bool,
) -> Figure:
    """Square panels, with axes written once and one legend above all."""
    columns = min(max(LEAST_COLUMNS, len(paths)), MOST_COLUMNS)  # room for the legend
    rows = math.ceil(len(paths) / columns)
    width = MARGIN + columns * (PANEL + GAP)
    height = HEAD + rows * (PANEL + TITLE) + FOOT
    figure = Figure(figsize=(width, height))
    for number, (name, path) in enumerate(paths.items()):
        row, column = divmod(number, columns)
        left = MARGIN + column * (PANEL + GAP)
        top = HEAD + row * (PANEL + TITLE) + TITLE
        box = left / width, 1 - (top + PANEL) / height, PANEL / width, PANEL / height
        ax = figure.add_axes(box)
        draw(ax, path.points)
        ax.grid(False)
        ax.spines[:].set(visible=True, color=FAINT)
        ax.tick_params(length=2, labelsize=7, pad=1.5)
        ax.set_title(name, pad=3, size=8.5)
        count = f"{path.arrived.sum()}/{len(path.arrived)}"
        ax.set_title(count, loc="right", pad=3, weight="normal", color=MUTED, size=8)
        last = number + columns >= len(paths)
        ax.tick_params(labelbottom=last, labelleft=column == 0)
        ax.set_xlabel(labels[0] if last else "", labelpad=1)
        ax.set_ylabel(labels[1] if column == 0 else "", labelpad=0)
    _legend(figure, problem.steps, contours)
    return figure


def _legend(figure: Figure, steps: int, contours: bool) -> None:
    """Explain lines and the colours of time, in the strip above the panels."""
    width, height = figure.get_size_inches()
    point = {"linestyle": "", "markersize": 4.5, "markeredgecolor": INK, "marker": "o"}
    handles: list[Artist] = [
        Line2D([], [], color=FRONT, linewidth=4, label="Pareto front (n/5: got there)"),
        Line2D([], [], markerfacecolor="white", label="start", **point),
        Line2D([], [], markerfacecolor=INK, label="end", **point),
    ]
    if contours:
        handles.append(
            Line2D([], [], color=CONTOUR, linewidth=0.8, label="mean loss (contours)")
        )
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(1, 1 - 0.02 / height),
        ncols=len(handles),
        columnspacing=1.2,
        handletextpad=0.5,
    )
    box = (MARGIN / width, 1 - 0.2 / height, 1.2 / width, 0.09 / height)
    bar = figure.add_axes(box)
    figure.colorbar(ScalarMappable(None, TIME), bar, orientation="horizontal")
    bar.set_xticks([0, 1], ["0", f"{steps:,} steps"])
    bar.tick_params(labelsize=8, pad=1.5, length=0)


def write(paths: Mapping[str, Paths], problem: Problem, folder: Path) -> None:
    """Write both figures as PNG and SVG.

    Args:
      paths: by method.
      problem: the losses, and their front.
      folder: that gets ``toy`` and ``toy_losses``.
    """
    with mpl.rc_context(RC):
        for name, draw in (("toy", plane), ("toy_losses", objectives)):
            figure = draw(paths, problem)
            figure.savefig(folder / f"{name}.png", dpi=150)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
