"""Files of figures: SVG, PNG and PDF for a paper, rendered without a browser."""

import json
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import vl_convert

from mtl_jax.options import one_of
from mtl_jax.report.charts.look import Look
from mtl_jax.report.charts.panel import HIDDEN, Panel
from mtl_jax.report.charts.picture import Picture
from mtl_jax.report.charts.theme import theme
from mtl_jax.types import InputError

WIDTH = 245
"""Pixels of a panel."""
LETTER, SAMPLE = 6.2, 28
"""Pixels of a letter and of a sample of a look in the legend."""
NOTE = 44
"""Letters of a line under the title."""
SCALE = 2.0
"""Pixels of a PNG to those of the page."""
NUMBERED = re.compile(r"\b(?:clip|gradient_)\d+\b")
"""Names of parts of an SVG."""


def _svg(spec: str) -> bytes:
    """Render a figure, the same bytes for the same figure: Vega counts on and on."""
    text = vl_convert.vegalite_to_svg(spec)
    places = {name: n for n, name in enumerate(dict.fromkeys(NUMBERED.findall(text)))}
    return NUMBERED.sub(lambda name: f"part{places[name[0]]}", text).encode()


def _png(spec: str) -> bytes:
    return vl_convert.vegalite_to_png(spec, scale=SCALE)


FORMATS: dict[str, Callable[[str], bytes]] = {
    "svg": _svg,
    "png": _png,
    "pdf": vl_convert.vegalite_to_pdf,
}
"""Renderers of a specification, by the ending of the file."""


def check(kinds: Sequence[str]) -> None:
    """Raise where a format is unknown.

    Raises:
      InputError: the first such.
    """
    for kind in kinds:
        one_of("figures", kind, FORMATS)


def render(picture: Picture, kind: str) -> bytes:
    """Render a figure, all of its panels and a legend.

    Args:
      picture: the figure.
      kind: one of `FORMATS`.

    Raises:
      InputError: nothing in it can be drawn.
    """
    return FORMATS[kind](json.dumps(whole(picture)))


def whole(picture: Picture) -> dict[str, Any]:
    """Compose the specification of a figure, rows included.

    Raises:
      InputError: nothing in it can be drawn.
    """
    drawn = [panel for panel in picture.panels if panel.spec]
    if not drawn:
        raise InputError(f"figure {picture.id!r} has nothing to draw.")
    columns = min(picture.columns, len(drawn))
    grid: dict[str, Any] = {
        "concat": [_alone(panel) for panel in drawn],
        "columns": columns,
        "spacing": 22,
        "resolve": {"scale": {"color": "independent", "shape": "independent"}},
    }
    parts = [grid]
    if len(picture.looks) > 1:
        parts.insert(0, _legend(list(picture.looks.values()), columns * (WIDTH + 60)))
    config = theme()
    del config["autosize"]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "config": config,
        "params": HIDDEN,
        "vconcat": parts,
        "spacing": 10,
    }


def _alone(panel: Panel) -> dict[str, Any]:
    """A panel with its rows, for a sheet that has the parameters."""
    kept = {k: v for k, v in panel.spec.items() if k != "params"}
    layers = [
        {k: v for k, v in layer.items() if k != "params"} for layer in kept["layer"]
    ]
    title: dict[str, Any] = {"text": panel.title}
    if panel.note:
        title["subtitle"] = textwrap.wrap(panel.note, NOTE)
    if panel.color:
        title["color"] = panel.color
    rows = json.loads(panel.rows.to_json(orient="records", double_precision=12))
    return {
        **kept, "layer": layers, "title": title, "width": WIDTH,
        "data": {"values": rows},
    }  # fmt: skip


def _legend(looks: list[Look], width: float) -> dict[str, Any]:
    """Samples of all looks, in lines."""
    x, y, rows = 0.0, 8.0, []
    for look in looks:
        size = SAMPLE + 24 + LETTER * len(look.label)
        if x and x + size > width:
            x, y = 0.0, y + 17
        rows.append({"x": x, "end": x + SAMPLE, "y": y, "label": look.label,
                     "middle": x + SAMPLE / 2, "text": x + SAMPLE + 6})  # fmt: skip
        x += size

    def at(name: str) -> dict[str, Any]:
        return {"field": name, "type": "quantitative", "scale": None, "axis": None}

    def look_of(values: list) -> dict[str, Any]:
        scale = {"domain": [look.label for look in looks], "range": values}
        return {"field": "label", "type": "nominal", "legend": None, "scale": scale}

    color = look_of([look.color for look in looks])
    dash = look_of([list(look.dash) for look in looks])
    shape = look_of([look.marker for look in looks])
    point = {"type": "point", "filled": True, "size": 40}
    words = {"type": "text", "align": "left", "baseline": "middle"}
    return {
        "data": {"values": rows},
        "width": width,
        "height": math.ceil(y + 8),
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"x": at("x"), "x2": {"field": "end"}, "y": at("y"),
                             "color": color, "strokeDash": dash},
            },
            {
                "mark": point,
                "encoding": {"x": at("middle"), "y": at("y"), "color": color,
                             "shape": shape},
            },
            {
                "mark": words,
                "encoding": {"x": at("text"), "y": at("y"), "text": {"field": "label"}},
            },
        ],
    }  # fmt: skip
