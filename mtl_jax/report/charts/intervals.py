"""Numbers with their intervals, in rows."""

from collections.abc import Mapping

import numpy as np

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.charts.axis import Axis
from mtl_jax.report.charts.look import Look, scales
from mtl_jax.report.charts.panel import (
    GREY,
    ROW,
    Panel,
    Spec,
    constant,
    layer,
    look_of,
    stacked,
    zero_line,
)


def intervals(
    title: str,
    rows: Frame,
    label: str,
    looks: Mapping[str, Look],
    *,
    margin: float = 0.0,
) -> Panel:
    """Draw numbers with their intervals, a row for each name.

    Args:
      title: of the panel.
      rows: ``name`` in order, ``variant``, ``value``, ``low``, ``high``, ``reason``
        where there is no number, and ``hollow``.
      label: of the abscissa.
      looks: by variant.
      margin: negligible size, on either side of 0.
    """
    look = scales(dict(looks))
    names = list(dict.fromkeys(rows["name"]))
    variants = [name for name in looks if name in set(rows["variant"])]
    x = Axis(label)
    place = {
        "y": {
            "field": "name", "type": "nominal", "sort": names, "title": None,
            "axis": {"labelLimit": 150, "grid": False},
        }
    }  # fmt: skip
    if len(variants) > 1:
        place["yOffset"] = {"field": "variant", "sort": variants}
    shown = {**place, "color": look_of("variant", "color", look)}
    tips = [{"field": name, "type": "nominal"} for name in ("name", "variant")]
    tips += [{"field": end, "format": ".4~g"} for end in ("value", "low", "high")]
    full = {
        "condition": {"test": "datum.hollow", "value": "white"},
        **{k: v for k, v in shown["color"].items() if k != "legend"},
        "legend": None,
    }
    there = "isValid(datum.value)"
    layers: list[Spec] = []
    if margin:
        band = {"x": {"datum": -margin}, "x2": {"datum": margin}}
        mark = {"type": "rect", "color": GREY, "opacity": 0.16}
        layers.append(constant(mark, band))
    layers += [
        zero_line("x"),
        layer(
            {"type": "rule", "strokeWidth": 1.8, "opacity": 0.75},
            {**shown, "x": x.encoding("low"), "x2": {"field": "high"}},
            f"{there} && isValid(datum.low)",
        ),
        layer(
            {"type": "point", "size": 46, "opacity": 1, "strokeWidth": 1.3},
            {**shown, "x": x.encoding("value"), "fill": full, "tooltip": tips}
            | {"shape": look_of("variant", "shape", look)},
            there,
        ),
        layer(
            {"type": "text", "align": "left", "dx": 4, "text": "not comparable"},
            {**shown, "x": {"datum": 0}, "tooltip": {"field": "reason"}},
            f"!{there}",
        ),
    ]
    if not np.isfinite(rows["value"].astype(float)).any():
        layers = [layers[-1] | {"encoding": {**shown, "tooltip": {"field": "reason"}}}]
    height = len(names) * (ROW - 5 + 9 * max(len(variants), 1))
    return Panel(title, rows, stacked(layers, max(height, 2 * ROW)))
