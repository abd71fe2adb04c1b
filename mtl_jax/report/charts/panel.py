"""Panels: a chart of one pair of axes, its rows and what it makes of them.

A panel is a specification of Vega-Lite and the table that it draws: nothing is in the
one that is not in the other. The page draws it in the browser, `export` into files.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.charts.look import INK, MUTED, Look, scales

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
WIDEST = 0.15
"""Share of the bands that may leave the panel."""
ROW = 17
"""Pixels of a row of marks."""


class Axis(NamedTuple):
    """An axis: what it shows, and on which scale."""

    title: str
    scale: str = "linear"
    """``linear``, ``log`` or ``symlog``, which is linear between -1 and 1."""
    reverse: bool = False
    ticks: tuple[float, ...] = ()
    """Chosen by Vega if empty."""
    zero: bool = False
    """There is a line at 0."""
    domain: tuple[float, ...] = ()
    """Ends, if they are not those of the rows."""

    def encoding(self, field: str, **more: Any) -> Spec:
        """Encode a column on this axis."""
        scale: Spec = {"type": self.scale, "nice": False, "padding": 6}
        if self.scale == "linear":
            scale["zero"] = False
        if self.reverse:
            scale["reverse"] = True
        if self.domain:
            scale["domain"] = list(self.domain)
        axis: Spec = {"title": self.title, "tickCount": 5, "labelOverlap": True}
        if self.ticks:
            axis["values"] = list(self.ticks)
        if self.scale != "linear" or self.ticks:
            axis["format"] = "~g"
        made = {"field": field, "type": "quantitative", "scale": scale, "axis": axis}
        return made | more


def log_ticks(values: np.ndarray) -> tuple[float, ...]:
    """Choose ticks of a log axis: decades, and 2, 3 and 5 where there are few.

    >>> log_ticks(np.array([0.02, 2.0]))
    (0.03, 0.1, 0.3, 1.0)
    >>> log_ticks(np.array([1.0, 1.5]))
    ()
    """
    low, high = float(values.min()), float(values.max())
    decades = np.log10(high / low)
    if decades < 0.5:
        return ()
    parts = (1,) if decades > 2.5 else (1, 3) if decades > 1.2 else (1, 2, 5)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [float(f"{part}e{power}") for power in powers for part in parts]
    shown = [tick for tick in ticks if low <= tick <= high]
    return tuple(shown[:: 1 + len(shown) // 8])


def _fitted(axis: Axis, values: np.ndarray) -> Axis:
    """Give a log axis its ticks."""
    return axis._replace(ticks=log_ticks(values)) if axis.scale == "log" else axis


def _of_bands(rows: Frame) -> tuple[float, ...]:
    """Choose the ends of an ordinate: all means, and what most bands cover.

    Where few seeds are matched a band is so wide that nothing else could be seen.
    """
    ends = [rows["y"].min(), rows["low"].quantile(WIDEST)]
    tops = [rows["y"].max(), rows["high"].quantile(1 - WIDEST)]
    low, high = float(np.nanmin([*ends, 0])), float(np.nanmax([*tops, 0]))
    pad = 0.06 * (high - low) or 1.0
    return low - pad, high + pad


def steps(last: float) -> Axis:
    """Scale an axis for steps: linear from 0 to 1, logarithmic beyond."""
    decades = 10.0 ** np.arange(np.floor(np.log10(max(last, 1))) + 1)
    return Axis("step (symlog)", "symlog", ticks=(0.0, *decades))


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


def empty(title: str, note: str, task: str = "") -> Panel:
    """Make a panel that says why there is nothing to be seen."""
    return Panel(title, pd.DataFrame(), {}, note, task)


def curves(
    title: str,
    rows: Frame,
    x: Axis,
    y: Axis,
    looks: Mapping[str, Look],
    *,
    note: str = "",
    task: str = "",
    by: str = "variant",
) -> Panel:
    """Draw runs as thin lines, their mean as a thick one, intervals as bands.

    Args:
      title: of the panel.
      rows: ``x``, ``y``, the column ``by``, ``seed`` (empty for means), ``step``,
        ``kind``: ``seed``, ``lost`` (a run that diverged; a cross where it ends),
        ``mean`` or ``dot``; ``low`` and ``high`` of means that have a band.
      x: the abscissa.
      y: the ordinate.
      looks: by the values of ``by``.
      note: as of `Panel`.
      task: as of `Panel`.
      by: the column that has a look.
    """
    rows = rows[np.isfinite(rows[["x", "y"]].astype(float)).all(axis=1)]
    for axis, name in ((x, "x"), (y, "y")):
        if axis.scale == "log":
            rows = rows[rows[name] > 0]
    if not len(rows):
        return empty(title, note or "not recorded", task)
    kinds = set(rows["kind"])
    look = scales(dict(looks))
    has_band = "low" in rows and bool(rows["low"].notna().any())
    x, y = (_fitted(axis, rows[k].to_numpy(float)) for axis, k in ((x, "x"), (y, "y")))
    if has_band:
        y = y._replace(domain=_of_bands(rows))
    shown = {
        "x": x.encoding("x"),
        "y": y.encoding("y"),
        "color": _look(by, "color", look),
        "tooltip": _tooltip(rows, by, x, y),
    }
    line = {**shown, "detail": {"field": "seed"}, "order": {"field": "step"}}
    dashed = {**line, "strokeDash": _look(by, "strokeDash", look)}
    layers: list[Spec] = [_rule("y")] if y.zero else []
    if has_band:
        ends = {"y": y.encoding("low"), "y2": {"field": "high"}}
        encoding = {k: v for k, v in shown.items() if k != "tooltip"} | ends
        mark = {"type": "area", "opacity": 0.18, "tooltip": None, "clip": True}
        layers.append(_layer(mark, encoding, "isValid(datum.low)"))
    if "seed" in kinds:
        thin = {"type": "line", "strokeWidth": 0.9, "opacity": 0.5}
        layers.append(_layer(thin, line, "datum.kind == 'seed'"))
    if "dot" in kinds:
        dot = {"type": "point", "filled": True, "size": 9, "opacity": 0.4}
        layers.append(_layer(dot, shown, "datum.kind == 'dot'"))
    if "lost" in kinds:
        dotted = {"type": "line", "strokeWidth": 1, "strokeDash": [2, 2]}
        layers.append(_layer(dotted, line, "datum.kind == 'lost'"))
        cross = {"type": "text", "text": "×", "fontSize": 15}
        layers.append(_layer(cross, shown, "datum.kind == 'lost' && datum.last"))
    if "mean" in kinds:
        thick = {"type": "line", "strokeWidth": 2.2}
        layers.append(_layer(thick, dashed, "datum.kind == 'mean'"))
    near = {"type": "point", "filled": True, "size": 70, "opacity": 0}
    kind = "mean" if "mean" in kinds else next(iter(kinds))
    layers.append(_layer(near, shown, f"datum.kind == '{kind}'"))
    return Panel(title, rows, _spec(layers, HEIGHT), note, task)


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
    shown = {**place, "color": _look("variant", "color", look)}
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
        layers.append({"data": {"values": [{}]}, "mark": mark, "encoding": band})
    layers += [
        _rule("x"),
        _layer(
            {"type": "rule", "strokeWidth": 1.8, "opacity": 0.75},
            {**shown, "x": x.encoding("low"), "x2": {"field": "high"}},
            f"{there} && isValid(datum.low)",
        ),
        _layer(
            {"type": "point", "size": 46, "opacity": 1, "strokeWidth": 1.3},
            {**shown, "x": x.encoding("value"), "fill": full, "tooltip": tips}
            | {"shape": _look("variant", "shape", look)},
            there,
        ),
        _layer(
            {"type": "text", "align": "left", "dx": 4, "text": "not comparable"},
            {**shown, "x": {"datum": 0}, "tooltip": {"field": "reason"}},
            f"!{there}",
        ),
    ]
    if not np.isfinite(rows["value"].astype(float)).any():
        layers = [layers[-1] | {"encoding": {**shown, "tooltip": {"field": "reason"}}}]
    height = len(names) * (ROW - 5 + 9 * max(len(variants), 1))
    return Panel(title, rows, _spec(layers, max(height, 2 * ROW)))


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
    color = _look(by, "color", look)
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
    marks = {**shown, "tooltip": tips, "shape": _look(by, "shape", look)}
    layers: list[Spec] = []
    if shaded:
        ends = [1.1 * float(np.abs(rows[name]).max()) or 1.0 for name in "xy"]
        for sign in (1, -1):
            corner = {"x": {"datum": 0}, "x2": {"datum": -sign * ends[0]}}
            corner |= {"y": {"datum": 0}, "y2": {"datum": sign * ends[1]}}
            mark = {"type": "rect", "color": "#7fa8cc", "opacity": 0.16}
            layers.append({"data": {"values": [{}]}, "mark": mark, "encoding": corner})
    layers += [_rule(name) for name, axis in (("x", x), ("y", y)) if axis.zero]
    for name, axis, other in (("x", x, "y"), ("y", y, "x")):
        if f"{name}_low" in rows and rows[f"{name}_low"].notna().any():
            low, high = f"{name}_low", f"{name}_high"
            ends = {name: axis.encoding(low), f"{name}2": {"field": high}}
            bar = {"type": "rule", "strokeWidth": 1, "opacity": 0.6}
            encoding = {other: shown[other], "color": color, **ends}
            layers.append(_layer(bar, encoding, f"isValid(datum.{name}_low)"))
    hollow = "hollow" in rows and bool(rows["hollow"].any())
    size, opacity = (40, 0.8) if len(rows) < 200 else (16, 0.5)
    mark = {"type": "point", "filled": True, "size": size, "opacity": opacity}
    layers.append(_layer(mark, marks, "!datum.hollow"))
    if hollow:
        pale = {"type": "point", "filled": False, "size": 24, "opacity": 0.55}
        layers.append(_layer(pale, marks, "datum.hollow"))
    return Panel(title, rows, _spec(layers, HEIGHT), note)


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
            "title": label or None, "axis": {"labelAngle": 0, "labelLimit": 110},
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
        _layer({"type": "rect", "stroke": "white"}, cells, "isValid(datum.value)"),
        _layer({"type": "text", "fontSize": 9, "lineBreak": "\n"}, letters, "true"),
    ]
    if "chosen" in rows and rows["chosen"].any():
        frame = {"type": "rect", "fillOpacity": 0, "stroke": INK, "strokeWidth": 2.5}
        layers.insert(1, _layer(frame, where, "datum.chosen"))
    height = max(2 * ROW, min(HEIGHT + 60, 30 * len(orders[1])))
    spec = _spec(layers, height)
    return Panel(title, rows, spec | ({"title_color": color} if color else {}))


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
        _layer({"type": "bar", "color": "#6f8092"}, {"x": x, "y": y, "tooltip": tips}),
        _layer(words, {"x": x, "y": y, "text": {"field": "text"}}),
    ]
    return Panel(title, rows, _spec(layers, ROW * len(rows)))


def _spec(layers: list[Spec], height: int) -> Spec:
    """Stack layers; what a reader hides is in none, and the last one is zoomed."""
    *others, last = layers
    zoomed = {**last, "params": [ZOOM]} if _is_continuous(last) else last
    shown = {"params": HIDDEN, "transform": [{"filter": SHOWN}]}
    return {**shown, "height": height, "layer": [*others, zoomed]}


def _is_continuous(layer: Spec) -> bool:
    """Tell whether both axes have scales that can be moved."""
    types = [layer["encoding"].get(axis, {}).get("type") for axis in "xy"]
    return types == ["quantitative"] * 2


def _layer(mark: Spec, encoding: Spec, where: str = "") -> Spec:
    made: Spec = {"mark": {**mark, "clip": True}, "encoding": encoding}
    return made | ({"transform": [{"filter": where}]} if where else {})


def _rule(axis: str) -> Spec:
    """Line of no difference."""
    mark = {"type": "rule", "color": MUTED, "strokeWidth": 1}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": {axis: {"datum": 0}}}


def _look(field: str, channel: str, look: Mapping[str, Spec]) -> Spec:
    return {"field": field, "type": "nominal", "scale": look[channel], "legend": None}


def _tooltip(rows: Frame, by: str, x: Axis, y: Axis) -> list[Spec]:
    tips: list[Spec] = [{"field": by, "type": "nominal"}]
    tips += [{"field": "seed", "type": "nominal"}] * ("seed" in rows)
    titles = {"x": x.title.partition(", ")[0], "y": y.title}
    titles |= {name: name for name in ("low", "high", "step", "epoch")}
    for name, title in titles.items():
        if name in rows and rows[name].notna().any():
            tips.append({"field": name, "title": title, "format": ".4~g"})
    return tips
