"""Points of two numbers."""

from collections.abc import Mapping

import numpy as np

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.charts.axis import Axis
from mtl_jax.report.charts.look import Look, scales
from mtl_jax.report.charts.panel import (
    HEIGHT,
    Panel,
    Spec,
    constant,
    empty,
    layer,
    look_of,
    stacked,
    zero_line,
)


def scatter(
    title: str,
    rows: Frame,
    x: Axis,
    y: Axis,
    looks: Mapping[str, Look],
    *,
    note: str = "",
    gradient: str = "",
    by: str = "variant",
    shaded: bool = False,
) -> Panel:
    """Draw points of two numbers, with lines at 0 where the axes have them.

    Args:
      title: of the panel.
      rows: ``x``, ``y``, the column ``by``; ``hollow`` of points that do not count;
        ``x_low`` to ``y_high``, bars of points that have some; other columns are told.
      x: the abscissa.
      y: the ordinate.
      looks: by the values of ``by``.
      note: as of `Panel`.
      gradient: a column that colours the points instead, on a log scale.
      by: the column that has a look.
      shaded: whether the quadrants are shaded in which both signs differ.
    """
    rows = rows[np.isfinite(rows["x"]) & np.isfinite(rows["y"])]
    if not len(rows):
        return empty(title, note or "nothing to compare")
    look = scales(dict(looks))
    color = look_of(by, "color", look)
    if gradient:
        scale = {"type": "log", "scheme": "viridis", "reverse": False}
        axis = {"title": gradient.replace("_", " "), "orient": "bottom"}
        axis |= {"gradientLength": 120, "tickCount": 3, "format": "~g"}
        color = {"field": gradient, "type": "quantitative", "scale": scale}
        color["legend"] = axis
    told = [name for name in rows.columns if not name.endswith(("_low", "_high"))]
    tips = [
        {"field": name, "type": "nominal"}
        if rows[name].dtype == object or rows[name].dtype == bool
        else {"field": name, "format": ".4~g"}
        for name in told
        if name != "hollow"
    ]
    shown = {"x": x.encoding("x"), "y": y.encoding("y"), "color": color}
    marks = {**shown, "tooltip": tips, "shape": look_of(by, "shape", look)}
    layers: list[Spec] = []
    if shaded:
        ends = [1.1 * float(np.abs(rows[name]).max()) or 1.0 for name in "xy"]
        for sign in (1, -1):
            corner = {"x": {"datum": 0}, "x2": {"datum": -sign * ends[0]}}
            corner |= {"y": {"datum": 0}, "y2": {"datum": sign * ends[1]}}
            mark = {"type": "rect", "color": "#7fa8cc", "opacity": 0.16}
            layers.append(constant(mark, corner))
    layers += [zero_line(name) for name, axis in (("x", x), ("y", y)) if axis.zero]
    for name, axis, other in (("x", x, "y"), ("y", y, "x")):
        if f"{name}_low" in rows and rows[f"{name}_low"].notna().any():
            low, high = f"{name}_low", f"{name}_high"
            ends = {name: axis.encoding(low), f"{name}2": {"field": high}}
            bar = {"type": "rule", "strokeWidth": 1, "opacity": 0.6}
            encoding = {other: shown[other], "color": color, **ends}
            layers.append(layer(bar, encoding, f"isValid(datum.{name}_low)"))
    hollow = "hollow" in rows and bool(rows["hollow"].any())
    size, opacity = (40, 0.8) if len(rows) < 200 else (16, 0.5)
    mark = {"type": "point", "filled": True, "size": size, "opacity": opacity}
    layers.append(layer(mark, marks, "!datum.hollow"))
    if hollow:
        pale = {"type": "point", "filled": False, "size": 24, "opacity": 0.55}
        layers.append(layer(pale, marks, "datum.hollow"))
    return Panel(title, rows, stacked(layers, HEIGHT), note)
