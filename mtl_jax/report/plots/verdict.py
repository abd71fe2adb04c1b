"""Figures of verdicts: intervals beside what is negligible, and clouds of tasks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtl_jax.report.plots import axis
from mtl_jax.report.plots.effects import ROW, Interval, name_rows
from mtl_jax.report.plots.sheet import TITLE, finish, note, sheet, short
from mtl_jax.report.plots.style import FAINT, INK, MUTED, Look, styled


class Mark(NamedTuple):
    """A number with its interval."""

    look: str
    """Name of its look."""
    interval: Interval
    hollow: bool = False


class Panel(NamedTuple):
    """Rows of marks."""

    title: str
    label: str
    """Label of the abscissa."""
    margin: float
    """Negligible size, on either side of 0."""
    rows: Mapping[str, Sequence[Mark]]
    """By name, from top to bottom."""


class Points(NamedTuple):
    """Two numbers of every task, and what their correlation is."""

    title: str
    label: str
    """Label of the ordinate."""
    x: Mapping[str, np.ndarray]
    """By name of a look."""
    y: Mapping[str, np.ndarray]
    text: str


@styled()
def intervals(
    panels: Sequence[Panel],
    looks: Mapping[str, Look],
    legend: Mapping[str, bool],
    *,
    columns: int = 3,
    narrow: bool = False,
) -> Figure:
    """Draw intervals in rows, on the band of what is negligible.

    Args:
      panels: side by side.
      looks: by name.
      legend: names of looks that are explained, and whether their marks are hollow.
      columns: panels side by side, at most.
      narrow: for a phone.
    """
    most = max(len(panel.rows) for panel in panels)
    marks = max(len(row) for panel in panels for row in panel.rows.values())
    pitch = ROW + 0.1 + 0.12 * (marks - 1)
    names = {short(name) for panel in panels for name in panel.rows}
    left = min(2.0, 0.3 + 0.075 * max(map(len, names)))
    made = sheet(
        len(panels),
        legend=[_handle(looks[name], hollow) for name, hollow in legend.items()],
        narrow=narrow,
        height=max(0.7, pitch * most),
        left=left,
        title=TITLE if any(panel.title for panel in panels) else 0.08,
        columns=columns if left < 1.4 else min(columns, 2),
    )
    for panel, (ax,) in zip(panels, made.axes, strict=True):
        ax.set_title(short(panel.title))
        ax.set_xlabel(panel.label)
        ax.grid(visible=False, axis="y")
        ax.axvspan(-panel.margin, panel.margin, color=FAINT, linewidth=0, zorder=0.5)
        axis.zero_line(ax, vertical=True)
        for place, row in enumerate(panel.rows.values()):
            for number, mark in enumerate(row):
                shift = (number - (len(row) - 1) / 2) * 0.14 / pitch
                _mark(ax, place + shift, mark, looks[mark.look])
        ax.set_ylim(most - 0.4, -0.6)
        name_rows(ax, list(panel.rows))
    return finish(made)


@styled()
def correlations(
    panels: Sequence[Points],
    looks: Mapping[str, Look],
    label: str,
    *,
    narrow: bool = False,
) -> Figure:
    """Draw a point per task, coloured by what it belongs to.

    Args:
      panels: side by side.
      looks: by name.
      label: of all abscissas.
      narrow: for a phone.
    """
    several = len(looks) > 1
    made = sheet(
        len(panels),
        legend=[_handle(look, False, line="") for look in looks.values()] * several,
        narrow=narrow,
        height=2.1,
        title=0.46,
    )
    for panel, (ax,) in zip(panels, made.axes, strict=True):
        ax.set_title(panel.title, pad=17.5)
        where: Any = {"xycoords": "axes fraction", "textcoords": "offset points"}
        ax.annotate(panel.text, (0, 1), (0, 4), va="bottom", fontsize=8.5, **where)
        ax.set_xlabel(label)
        ax.set_ylabel(panel.label)
        axis.zero_line(ax)
        for name, look in looks.items():
            ax.plot(
                panel.x[name], panel.y[name], linestyle="", alpha=0.85, **_face(look)
            )
        ordinates = np.concatenate([*panel.y.values()])
        if np.isfinite(ordinates).any():
            axis.fit(ax, np.append(ordinates, 0.0), log=False)
        else:
            note(ax, "not defined")
        ax.margins(x=0.06)
        ax.locator_params(axis="x", nbins=4)
        ax.xaxis.set_major_formatter(axis.PLAIN)
    return finish(made)


def _mark(ax: Any, y: float, mark: Mark, look: Look) -> None:
    """An interval at a height, or why there is none."""
    interval = mark.interval
    if interval.reason:
        place: Any = {"textcoords": "offset points", "va": "center", "fontsize": 8}
        ax.annotate("not comparable", (0, y), (5, 0), color=MUTED, **place)
        return
    ax.plot(
        [interval.low, interval.high],
        [y, y],
        color=look.color,
        linewidth=1.5,
        alpha=0.75,
    )
    ax.plot(interval.value, y, **_face(look, mark.hollow))


def _face(look: Look, hollow: bool = False) -> dict[str, Any]:
    face = "white" if hollow else look.color
    edge = look.color if hollow else INK
    return {
        "color": look.color,
        "marker": look.marker,
        "markersize": 5,
        "markerfacecolor": face,
        "markeredgecolor": edge,
        "markeredgewidth": 1.2 if hollow else 0.4,
    }


def _handle(look: Look, hollow: bool, line: Any = "-") -> Line2D:
    return Line2D([], [], linestyle=line, label=look.label, **_face(look, hollow))
