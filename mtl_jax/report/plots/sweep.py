"""A sweep: what every learning rate did with every batch size, and what was chosen."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mtl_jax.report.plots import axis
from mtl_jax.report.plots.sheet import (
    BETWEEN,
    LEFT,
    NARROW,
    RIGHT,
    WIDE,
    color_bar,
    finish,
    sheet,
)
from mtl_jax.report.plots.style import FAINT, INK, MUTED, styled

COLORS = "YlGnBu"
FLOOR = 1 / 3
"""Share of the candidates that are so much worse that they have one colour."""
DARK = 1.6
"""Sum of red, green and blue below which letters are white."""
ROW, LINE = 0.2, 0.105
"""Inches of a row, and of a line of small print in it."""
LETTER = 0.052
"""Inches of a small letter."""


class Tile(NamedTuple):
    """A candidate."""

    shade: float
    """Number behind its colour; NaN where there is no value."""
    text: str
    notes: list[str]
    """Lines of small print."""
    lost: bool
    """All runs diverged."""
    chosen: bool


class Grid(NamedTuple):
    """The candidates of a choice, or of several."""

    title: str
    color: str
    """Colour of the title."""
    tiles: Mapping[tuple[float, int], Tile]
    """By learning rate and batch size."""


@styled()
def sweep(
    grids: Sequence[Grid],
    label: str,
    *,
    less_is_better: bool = False,
    columns: int = 4,
    narrow: bool = False,
) -> Figure:
    """Draw a heat map per choice, dark where it is good, all with the same colours.

    Args:
      grids: one per panel.
      label: of the colours.
      less_is_better: in the shades.
      columns: panels side by side, at most.
      narrow: for a phone.
    """
    tiles = [tile for grid in grids for tile in grid.tiles.values()]
    cells = {cell for grid in grids for cell in grid.tiles}
    rates, sizes = (sorted({cell[end] for cell in cells}) for end in (0, 1))
    columns = columns if len(sizes) <= 4 else min(columns, 3)
    full, share = (NARROW, 1) if narrow else (WIDE, columns)
    width = (full - LEFT - RIGHT - (share - 1) * BETWEEN) / share / len(sizes)
    lines = max(len(tile.notes) for tile in tiles)
    made = sheet(
        len(grids),
        narrow=narrow,
        height=(ROW + lines * LINE) * len(rates),
        columns=columns,
        head=0.36,
    )
    colors = mpl.colormaps[name := COLORS + "_r" * less_is_better]
    norm, extend = _scale(np.array([tile.shade for tile in tiles]), less_is_better)
    for grid, (ax,) in zip(grids, made.axes, strict=True):
        ax.set_title(grid.title, color=grid.color)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        ax.set(xlim=(-0.5, len(sizes) - 0.5), ylim=(-0.5, len(rates) - 0.5))
        ax.set_xticks(range(len(sizes)), [axis.plain(size) for size in sizes])
        ax.set_yticks(range(len(rates)), [axis.plain(rate) for rate in rates])
        ax.set_xlabel("batch size")
        ax.set_ylabel("learning rate")
        for (rate, size), tile in grid.tiles.items():
            color = colors(norm(tile.shade)) if np.isfinite(tile.shade) else FAINT
            place = sizes.index(size), rates.index(rate)
            _tile(ax, place, tile, color, int(width / LETTER))
    bar = color_bar(made, norm, name, label, extend)
    bar.locator_params(nbins=4)
    bar.xaxis.set_major_formatter(axis.PLAIN)
    if less_is_better:
        bar.invert_xaxis()
    return finish(made)


def _scale(shades: np.ndarray, less_is_better: bool) -> tuple[Normalize, str]:
    """Colours from the worse to the best, and at which end values lie beyond."""
    known = shades[np.isfinite(shades)]
    if not known.size:
        return Normalize(0, 1), "neither"
    low, high = known.min(), known.max()
    if less_is_better:
        high = np.quantile(known, 1 - FLOOR)
    else:
        low = np.quantile(known, FLOOR)
    below, above = known.min() < low, known.max() > high
    pad = 0.0 if high > low else abs(low) * 0.01 or 0.01
    return Normalize(low - pad, high + pad), (
        "min" if below else "max" if above else "neither"
    )


def _tile(
    ax: Axes, place: tuple[int, int], tile: Tile, color: Any, letters: int
) -> None:
    """A candidate: its colour, its value, and small print under it."""
    x, y = place
    box: dict[str, Any] = {"xy": (x - 0.5, y - 0.5), "width": 1, "height": 1}
    face: dict[str, Any] = {"facecolor": color, "edgecolor": "white"}
    if tile.lost:
        face = {"facecolor": "white", "edgecolor": FAINT, "hatch": "////"}
    ax.add_patch(Rectangle(**box, linewidth=1, **face))
    dark = not tile.lost and not isinstance(color, str) and sum(color[:3]) < DARK
    ink = MUTED if tile.lost else "white" if dark else INK
    middle: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    share = len(tile.notes) * LINE / (ROW + len(tile.notes) * LINE)
    text = "×" if tile.lost else tile.text
    ax.text(x, y + share / 2, text, fontsize=7.5, **middle)
    small = "\n".join(n if len(n) <= letters else n[: letters - 1] + "…"
                      for n in tile.notes)  # fmt: skip
    ax.text(x, y - (1 - share) / 2 + 0.05, small, fontsize=6.2, **middle)
    for edge, width in (("white", 4.2), (INK, 2.0)) if tile.chosen else ():
        frame = Rectangle(**box, fill=False, edgecolor=edge, linewidth=width, zorder=4)
        frame.set_clip_on(False)
        ax.add_patch(frame)
