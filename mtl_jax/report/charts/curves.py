"""Curves: runs as thin lines, their mean as a thick one, intervals as bands."""

from collections.abc import Mapping

import numpy as np

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.charts.axis import Axis, log_ticks
from mtl_jax.report.charts.look import Look, scales
from mtl_jax.report.charts.panel import (
    HEIGHT,
    Panel,
    Spec,
    empty,
    layer,
    look_of,
    stacked,
    zero_line,
)

WIDEST = 0.15
"""Share of the bands that may leave the panel."""


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
    kinds = rows["kind"].unique()
    look = scales(dict(looks))
    has_band = "low" in rows and bool(rows["low"].notna().any())
    x, y = (_fitted(axis, rows[k].to_numpy(float)) for axis, k in ((x, "x"), (y, "y")))
    if has_band:
        y = y._replace(domain=_of_bands(rows))
    shown = {
        "x": x.encoding("x"),
        "y": y.encoding("y"),
        "color": look_of(by, "color", look),
        "tooltip": _tooltip(rows, by, x, y),
    }
    line = {**shown, "detail": {"field": "seed"}, "order": {"field": "step"}}
    dashed = {**line, "strokeDash": look_of(by, "strokeDash", look)}
    layers: list[Spec] = [zero_line("y")] if y.zero else []
    if has_band:
        ends = {"y": y.encoding("low"), "y2": {"field": "high"}}
        encoding = {k: v for k, v in shown.items() if k != "tooltip"} | ends
        mark = {"type": "area", "opacity": 0.18, "tooltip": None, "clip": True}
        layers.append(layer(mark, encoding, "isValid(datum.low)"))
    if "seed" in kinds:
        thin = {"type": "line", "strokeWidth": 0.9, "opacity": 0.5}
        layers.append(layer(thin, line, "datum.kind == 'seed'"))
    if "dot" in kinds:
        dot = {"type": "point", "filled": True, "size": 9, "opacity": 0.4}
        layers.append(layer(dot, shown, "datum.kind == 'dot'"))
    if "lost" in kinds:
        dotted = {"type": "line", "strokeWidth": 1, "strokeDash": [2, 2]}
        layers.append(layer(dotted, line, "datum.kind == 'lost'"))
        cross = {"type": "text", "text": "×", "fontSize": 15}
        layers.append(layer(cross, shown, "datum.kind == 'lost' && datum.last"))
    if "mean" in kinds:
        thick = {"type": "line", "strokeWidth": 2.2}
        layers.append(layer(thick, dashed, "datum.kind == 'mean'"))
    near = {"type": "point", "filled": True, "size": 70, "opacity": 0}
    kind = "mean" if "mean" in kinds else kinds[0]
    layers.append(layer(near, shown, f"datum.kind == '{kind}'"))
    return Panel(title, rows, stacked(layers, HEIGHT), note, task)


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


def _tooltip(rows: Frame, by: str, x: Axis, y: Axis) -> list[Spec]:
    tips: list[Spec] = [{"field": by, "type": "nominal"}]
    tips += [{"field": "seed", "type": "nominal"}] * ("seed" in rows)
    titles = {"x": x.title.partition(", ")[0], "y": y.title}
    titles |= {name: name for name in ("low", "high", "step", "epoch")}
    for name, title in titles.items():
        if name in rows and rows[name].notna().any():
            tips.append({"field": name, "title": title, "format": ".4~g"})
    return tips
