"""Heat maps."""

from collections.abc import Sequence
from typing import Any

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.charts.look import INK
from mtl_jax.report.charts.panel import HEIGHT, ROW, Panel, Spec, layer, stacked


def heat(
    title: str,
    rows: Frame,
    labels: tuple[str, str],
    value: str,
    *,
    scheme: str,
    domain: tuple[float, float],
    orders: tuple[Sequence[Any], Sequence[Any]],
    reverse: bool = False,
    color: str = "",
) -> Panel:
    """Draw a heat map.

    Args:
      title: of the panel.
      rows: ``column``, ``row``, ``value`` behind the colour, ``text`` in a cell, and
        ``chosen``, ``lost`` of cells that are framed or crossed.
      labels: of the abscissa and the ordinate.
      value: label of the colours.
      scheme: of the colours.
      domain: their ends; what lies beyond has the colour of the end.
      orders: columns from left to right, rows from top to bottom.
      reverse: whether less is darker.
      color: of the title.
    """
    where = {
        channel: {
            "field": name, "type": "nominal", "sort": list(order),
            "title": label or None,
            "axis": {"labelAngle": 0, "labelLimit": 110, "labelFlush": False},
        }
        for channel, name, order, label in zip(
            "xy", ("column", "row"), orders, labels, strict=True)
    }  # fmt: skip
    scale: Spec = {"scheme": scheme, "domain": list(domain), "clamp": True}
    scale["reverse"] = reverse
    legend: Spec = {"title": value, "orient": "bottom", "gradientLength": 120}
    legend["tickCount"] = 3
    cells = {
        **where,
        "color": {
            "field": "value", "type": "quantitative", "scale": scale, "legend": legend,
        },
        "tooltip": [{"field": n, "type": "nominal"} for n in rows.columns],
    }  # fmt: skip
    middle = sum(domain) / 2
    dark = "datum.value < " if reverse else "datum.value > "
    if domain[0] == -domain[1]:
        dark, middle = "abs(datum.value) > ", 0.6 * domain[1]
    letters = {
        **where,
        "text": {"field": "text", "type": "nominal"},
        "color": {
            "condition": {"test": f"{dark}{middle}", "value": "white"}, "value": INK,
        },
    }  # fmt: skip
    layers = [
        layer({"type": "rect", "stroke": "white"}, cells, "isValid(datum.value)"),
        layer({"type": "text", "fontSize": 9, "lineBreak": "\n"}, letters, "true"),
    ]
    if "chosen" in rows and rows["chosen"].any():
        frame = {"type": "rect", "fillOpacity": 0, "stroke": INK, "strokeWidth": 2.5}
        layers.insert(1, layer(frame, where, "datum.chosen"))
    height = max(2 * ROW, min(HEIGHT + 60, 30 * len(orders[1])))
    spec = stacked(layers, height)
    return Panel(title, rows, spec, color=color)
