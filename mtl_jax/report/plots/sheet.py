"""Sheets: panels of one size, laid out in inches, for a desk or for a phone.

A sheet has groups (mostly tasks) of panels that belong together. On a desk groups are
columns, and panels of a group lie under each other; ``narrow``, all lie under each
other, so that letters stay legible on a phone. What a panel shares with its
neighbours is written once. Legends have a strip of their own and cover nothing.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtl_jax.report.plots.style import MUTED, Look

LEFT, RIGHT, BETWEEN = 0.78, 0.12, 0.88
TITLE, INNER, FOOT = 0.28, 0.16, 0.5
LEGEND_ROW = 0.21
WIDE, NARROW = 10.3, 3.6
"""Inches."""


class Sheet(NamedTuple):
    """A figure and its panels."""

    figure: Figure
    axes: list[list[Axes]]
    """``[group][panel]``."""
    narrow: bool
    columns: int
    stacked: bool


def sheet(
    groups: int,
    panels: int = 1,
    *,
    legend: Sequence[Any] = (),
    narrow: bool = False,
    columns: int = 3,
    height: float = 2.0,
    stacked: bool = True,
    left: float = LEFT,
    title: float = TITLE,
    foot: float = FOOT,
    head: float = 0.02,
) -> Sheet:
    """Make an empty sheet with its legend.

    Args:
      groups: side by side.
      panels: of each group, under each other.
      legend: handles with labels.
      narrow: for a phone.
      columns: groups side by side, at most; they are spread evenly over the rows.
      height: of a panel, in inches.
      stacked: panels of a group share their title and abscissa.
      left: inches for what stands left of a panel.
      title: inches for what stands above one.
      foot: inches for what stands below one.
      head: inches of the strip above all, where there is no legend.
    """
    most, between = columns, BETWEEN + left - LEFT
    columns = 1 if narrow else math.ceil(groups / math.ceil(groups / columns))
    full = NARROW if narrow else WIDE
    share = 1 if narrow else most
    width = (full - left - RIGHT - (share - 1) * between) / share
    whole = left + columns * width + (columns - 1) * between + RIGHT
    rows = _legend_rows(legend, whole)
    head = 0.1 + rows * LEGEND_ROW if legend else head
    inner = INNER if stacked and not narrow else title + foot
    block = title + panels * height + (panels - 1) * inner + foot
    total = head + math.ceil(groups / columns) * block
    figure = Figure(figsize=(whole, total))
    if legend:
        figure.legend(
            handles=list(legend),
            loc="upper left",
            bbox_to_anchor=(0.06 / whole, 1 - 0.02 / total),
            ncols=math.ceil(len(legend) / rows),
            handlelength=2.6,
            columnspacing=1.6,
            borderaxespad=0,
            borderpad=0.2,
            labelspacing=0.35,
        )
    axes = []
    for group in range(groups):
        row, column = divmod(group, columns)
        x = left + column * (width + between)
        stack = []
        for panel in range(panels):
            top = head + row * block + title + panel * (height + inner)
            box = x / whole, 1 - (top + height) / total, width / whole, height / total
            ax = figure.add_axes(box)
            ax.yaxis.set_label_coords(-(left - 0.17) / width, 0.5)
            stack.append(ax)
        axes.append(stack)
    return Sheet(figure, axes, narrow, columns, stacked)


def finish(made: Sheet) -> Figure:
    """Take away what neighbours say as well, and return the figure."""
    if made.narrow:
        return made.figure
    for column in made.axes if made.stacked else ():
        for ax in column[1:]:
            ax.set_title("")
        for ax in column[:-1]:
            ax.set_xlabel("")
            ax.tick_params(labelbottom=False)
    for group, column in reversed(list(enumerate(made.axes))):
        if group % made.columns:
            for ax, left in zip(column, made.axes[group - 1], strict=True):
                if ax.get_ylabel() == left.get_ylabel():
                    ax.set_ylabel("")
    return made.figure


def variant_handles(looks: Sequence[Look]) -> list[Line2D]:
    """Make a handle of every variant, as its mean lines are."""
    return [
        Line2D([], [], color=look.color, linestyle=look.dash, label=look.label)
        for look in looks
    ]


def short(name: str) -> str:
    """Shorten a name to fit above a panel.

    >>> short("a"), short("x" * 40)
    ('a', 'xxxxxxxxxxxxxxxxxxxxxxx…')
    """
    return name if len(name) <= 24 else name[:23] + "…"


def note(ax: Axes, text: str, *, low: bool = False) -> None:
    """Write into a panel why it, or a part of it, is empty."""
    lines = textwrap.wrap(text, 38, max_lines=5, placeholder=" …")
    ax.text(
        0.03 if low else 0.5,
        0.04 if low else 0.5,
        "\n".join(lines),
        transform=ax.transAxes,
        ha="left" if low else "center",
        va="bottom" if low else "center",
        fontsize=8,
        color=MUTED,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )


def color_bar(
    made: Sheet, norm: Normalize, colors: str, label: str, extend: Any = "neither"
) -> Axes:
    """Add a scale of colours in the strip above panels (``head`` of 0.34 inches)."""
    width, height = made.figure.get_size_inches()
    left = 0.2 + 0.07 * len(label)
    bar = made.figure.add_axes(
        (left / width, 1 - 0.17 / height, 1.6 / width, 0.1 / height)
    )
    mapped = ScalarMappable(norm, colors)
    made.figure.colorbar(mapped, cax=bar, orientation="horizontal", extend=extend)
    bar.tick_params(labelsize=8, pad=1.5, length=2)
    made.figure.text(0.1 / width, 1 - 0.165 / height, label, size=8.5)
    return bar


def _legend_rows(legend: Sequence[Any], width: float) -> int:
    """Rows that the legend needs at this width."""
    if not legend:
        return 1
    widest = max(0.62 + 0.078 * len(str(handle.get_label())) for handle in legend)
    return math.ceil(len(legend) / max(1, int(width / widest)))
