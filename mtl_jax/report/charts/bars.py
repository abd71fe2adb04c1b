"""Numbers as bars, in rows."""

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.charts.panel import ROW, Panel, Spec, layer, stacked


def bars(title: str, rows: Frame, label: str) -> Panel:
    """Draw numbers as bars, a row for each ``name``, with its ``text``."""
    order = rows["name"].tolist()
    y: Spec = {"field": "name", "type": "nominal", "sort": order, "title": None}
    most = 1.4 * float(rows["value"].max()) or 1.0
    x: Spec = {"field": "value", "type": "quantitative", "title": label}
    x["scale"] = {"domain": [0, most], "nice": False}
    tips = [{"field": "name"}, {"field": "text", "title": label}]
    words = {"type": "text", "align": "left", "dx": 4}
    layers = [
        layer({"type": "bar", "color": "#6f8092"}, {"x": x, "y": y, "tooltip": tips}),
        layer(words, {"x": x, "y": y, "text": {"field": "text"}}),
    ]
    return Panel(title, rows, stacked(layers, ROW * len(rows)))
