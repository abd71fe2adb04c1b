"""Conflict between the gradients of tasks, over training and pair by pair."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mtl_jax.report.plots import axis
from mtl_jax.report.plots.bundle import Trajectories, bundle, draw
from mtl_jax.report.plots.sheet import (
    NARROW,
    WIDE,
    color_bar,
    finish,
    sheet,
    short,
    variant_handles,
)
from mtl_jax.report.plots.style import FAINT, INK, Look, styled

OF_RUN = {
    "mean_cosine": ("mean cosine of pairs", "cosine", 1),
    "negative_pairs": ("negative pairs", "pairs (%)", 100),
    "unit_mean": ("norm of the mean unit gradient", "norm (0 to 1)", 1),
}
COLORS = "RdBu"
"""Red is conflict; told apart by colour-blind readers."""
MOST_NUMBERS = 10
"""Tasks up to which a matrix has its numbers written in."""


@styled()
def conflict(
    table: Trajectories,
    tasks: Sequence[str],
    looks: Mapping[str, Look],
    *,
    narrow: bool = False,
) -> Figure:
    """Draw conflict of whole runs and tasks' cosines with the update over steps.

    Args:
      table: of `bundle.indexed`.
      tasks: of which the cosine with the update is shown.
      looks: of the variants that have conflict recorded.
      narrow: for a phone.
    """
    of_task = [task for task in tasks if _recorded(table, "cosine_update", task, looks)]
    of_run = [name for name in OF_RUN if _recorded(table, name, "", looks)]
    handles = variant_handles(list(looks.values()))
    count = len(of_run) + len(of_task)
    made = sheet(count, legend=handles, narrow=narrow, height=1.75)
    panels = [ax for (ax,) in made.axes]
    last = table.step.max()
    for name, ax in zip(of_run, panels, strict=False):
        title, label, factor = OF_RUN[name]
        ax.set_title(title)
        ax.set_ylabel(label)
        _over_steps(ax, table, name, "", looks, factor, last)
    for task, ax in zip(of_task, panels[len(of_run) :], strict=True):
        ax.set_title(short(task))
        ax.set_ylabel("cosine with update")
        _over_steps(ax, table, "cosine_update", task, looks, 1, last)
    return finish(made)


def _recorded(
    table: Trajectories, name: str, task: str, looks: Mapping[str, Look]
) -> bool:
    keys = (("probe", "shared", name, task, variant) for variant in looks)
    return any(key in table.places for key in keys)


def _over_steps(
    ax: Axes,
    table: Trajectories,
    name: str,
    task: str,
    looks: Mapping[str, Look],
    factor: float,
    last: float,
) -> None:
    shown = [np.zeros(1)]
    axis.zero_line(ax)
    for variant, look in looks.items():
        of = bundle(table, "probe", name, task, variant, "shared")
        if len(of.steps):
            shown.append(draw(ax, of.steps, of, look, factor=factor))
    axis.fit(ax, np.concatenate(shown), log=False)
    axis.steps(ax, last)


def moments(steps: Sequence[int]) -> list[int]:
    """Choose the first, middle and last of the steps that were looked at.

    >>> moments([0, 1, 10, 100, 1000])
    [0, 10, 1000]
    """
    ordered = sorted(steps)
    return sorted({ordered[0], ordered[len(ordered) // 2], ordered[-1]})


def matrices(
    table: Trajectories, variant: str, tasks: Sequence[str]
) -> dict[int, np.ndarray]:
    """Average cosines ``[T, T]`` of task gradients over seeds, at three moments.

    The diagonal is NaN, and so is a pair that was not recorded.
    """
    place = {task: number for number, task in enumerate(tasks)}
    cosines = {}
    for split, scope, name, task, holder in table.places:
        other = name.removeprefix("cosine/")
        if holder == variant and other != name and {task, other} <= place.keys():
            of = bundle(table, split, name, task, holder, scope)
            cosines[place[task], place[other]] = of
    recorded = [set(of.steps) for of in cosines.values()]
    steps = (
        sorted(set.intersection(*recorded) or set.union(*recorded)) if recorded else []
    )
    made = {}
    for step in moments(steps) if steps else ():
        made[int(step)] = np.full((len(tasks), len(tasks)), np.nan)
        for pair, of in cosines.items():
            values = of.values[of.steps == step]
            values = values[np.isfinite(values)]
            if values.size:
                made[int(step)][pair] = values.mean()
    return made


@styled()
def cosines(
    matrices: Mapping[str, Mapping[int, np.ndarray]],
    tasks: Sequence[str],
    looks: Mapping[str, Look],
    *,
    narrow: bool = False,
) -> Figure:
    """Draw matrices of cosines: a row per variant, a column per moment.

    Args:
      found: `matrices` by variant.
      tasks: names of the rows and columns.
      looks: of the variants.
      narrow: for a phone.
    """
    count, longest = len(tasks), max(map(len, tasks))
    panels = [
        (v, step, m) for v, by_step in matrices.items() for step, m in by_step.items()
    ]
    few = count <= MOST_NUMBERS
    upright = few and longest * count > 36
    left = 0.3 + few * min(1.2, 0.075 * longest)
    size = NARROW - left - 0.2 if narrow else (WIDE - 3 * left - 0.4) / 3
    size = min(size, 0.55 * count + 0.5) if few else size
    made = sheet(
        len(panels),
        narrow=narrow,
        height=size,
        left=left,
        head=0.34,
        foot=0.15 + 0.075 * min(longest, 14) if upright else 0.4,
        columns=len(next(iter(matrices.values()))),
    )
    limit = _limit([m for _, _, m in panels])
    for (variant, step, matrix), (ax,) in zip(panels, made.axes, strict=True):
        ax.set_title(f"{variant}, step {step:,}", color=looks[variant].color)
        _matrix(ax, matrix, tasks, limit, upright)
    bar = color_bar(made, Normalize(-limit, limit), COLORS, "cosine of gradients")
    bar.xaxis.set_major_formatter(axis.PLAIN)
    return finish(made)


def _limit(all_of: Sequence[np.ndarray]) -> float:
    """Choose where the colours end: the next of .1, .2, .5 and 1."""
    sizes = np.abs(np.concatenate([matrix.ravel() for matrix in all_of]))
    largest = np.nanmax(sizes, initial=0)
    return next((end for end in (0.1, 0.2, 0.5) if largest <= end), 1.0)


def _matrix(
    ax: Axes, matrix: np.ndarray, tasks: Sequence[str], limit: float, upright: bool
) -> None:
    count = len(tasks)
    ax.grid(visible=False)
    ax.set_facecolor(FAINT)
    ax.set_aspect("equal", anchor="NW")
    ax.pcolormesh(
        np.ma.masked_invalid(matrix),
        cmap=COLORS,
        norm=Normalize(-limit, limit),
        edgecolor="white",
        linewidth=0.5 if count <= 20 else 0,
        rasterized=count > 20,
    )
    ax.set_ylim(count, 0)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    few = count <= MOST_NUMBERS
    at = np.arange(count) + 0.5
    names = [task if len(task) <= 14 else task[:13] + "…" for task in tasks]
    ax.set_yticks(at if few else [], names if few else [])
    ax.set_xticks(at if few else [], names if few else [])
    if upright:
        ax.tick_params(axis="x", labelrotation=90)
    for i, j in np.ndindex(count, count) if few else ():
        value = matrix[i, j]
        if np.isfinite(value):
            dark = abs(value) > 0.6 * limit
            text = f"{value:.2f}".replace("-", "−")
            text, size = (text, 8.5) if count <= 5 else (text.replace("0.", "."), 6.5)
            ax.text(
                j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=size,
                color="white" if dark else INK,
            )  # fmt: skip
