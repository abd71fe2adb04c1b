"""Panels: a chart of one pair of axes, its rows and what it makes of them.

A panel is a specification of Vega-Lite and the table that it draws: nothing is in the
one that is not in the other. The page draws it in the browser, `export` into files.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.charts.look import MUTED

Spec = dict[str, Any]
HIDDEN = [{"name": "hidden", "value": []}, {"name": "hidden_seeds", "value": []}]
"""Parameters: names that a reader does not want to see in the page."""
SHOWN = (
    "indexof(hidden, datum.variant) < 0 && indexof(hidden_seeds, '' + datum.seed) < 0"
)
ZOOM = {
    "name": "zoom",
    "bind": "scales",
    "select": {"type": "interval", "zoom": "wheel![event.shiftKey]"},
}
"""Drag to move, shift and wheel to zoom, double-click for all."""
GREY = "#8a8a8a"
HEIGHT = 170
"""Pixels."""
ROW = 17
"""Pixels of a row of marks."""


class Panel(NamedTuple):
    """A chart."""

    title: str
    rows: Frame
    """Rows that it draws."""
    spec: Spec
    """Specification without the rows."""
    note: str = ""
    """Under the title: a correlation, or why there is nothing to be seen."""
    task: str = ""
    """The task that it is of, if it is of one."""
    color: str = ""
    """Colour of the title, if it has one."""


def empty(title: str, note: str, task: str = "") -> Panel:
    """Make a panel that says why there is nothing to be seen."""
    return Panel(title, pd.DataFrame(), {}, note, task)


def stacked(layers: list[Spec], height: int) -> Spec:
    """Stack layers; what a reader hides is in none, and the last one is zoomed."""
    *others, last = layers
    zoomed = {**last, "params": [ZOOM]} if _is_continuous(last) else last
    shown = {"params": HIDDEN, "transform": [{"filter": SHOWN}]}
    return {**shown, "height": height, "layer": [*others, zoomed]}


def _is_continuous(layer: Spec) -> bool:
    """Tell whether both axes have scales that can be moved."""
    types = [layer["encoding"].get(axis, {}).get("type") for axis in "xy"]
    return types == ["quantitative"] * 2


def layer(mark: Spec, encoding: Spec, where: str = "") -> Spec:
    """Make a layer of the rows for which an expression holds, or of all."""
    made: Spec = {"mark": {**mark, "clip": True}, "encoding": encoding}
    return made | ({"transform": [{"filter": where}]} if where else {})


def constant(mark: Spec, encoding: Spec) -> Spec:
    """Make a layer that is drawn once, whatever the rows are."""
    return {"data": {"values": [{}]}, "mark": mark, "encoding": encoding}


def zero_line(axis: str) -> Spec:
    """Make a layer with the line of no difference on an axis."""
    mark = {"type": "rule", "color": MUTED, "strokeWidth": 1}
    return constant(mark, {axis: {"datum": 0}})


def look_of(field: str, channel: str, look: Mapping[str, Spec]) -> Spec:
    """Encode the look of a column on a channel, of `look.scales`."""
    return {"field": field, "type": "nominal", "scale": look[channel], "legend": None}
