"""Payload of a figure in the page: specifications, and rows column by column.

Numbers are most of a page, and a fifth of their size when compressed.
"""

import base64
import gzip
import json
import math
from typing import Any

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.charts.look import Look
from mtl_jax.report.charts.panel import Panel
from mtl_jax.report.charts.picture import Picture

DIGITS = 5
"""Significant digits of a number in the page."""


def of_picture(picture: Picture) -> dict[str, Any]:
    """Return what the page needs to draw a figure, as JSON."""
    return {
        "id": picture.id,
        "columns": picture.columns,
        "looks": [_look(name, look) for name, look in picture.looks.items()],
        "panels": [_panel(panel) for panel in picture.panels],
        "rows": packed([columns(panel.rows) for panel in picture.panels]),
    }


def packed(content: Any) -> str:
    """Return content as JSON, compressed by gzip, in letters (base64).

    >>> json.loads(gzip.decompress(base64.b64decode(packed({"x": [1, 2]}))))
    {'x': [1, 2]}
    """
    return base64.b64encode(gzip.compress(as_json(content).encode(), mtime=0)).decode()


def as_json(content: Any) -> str:
    """Write JSON in few letters."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)


def _look(name: str, look: Look) -> dict[str, Any]:
    return {"name": name, **look._asdict(), "dash": list(look.dash)}


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "note": panel.note,
        "task": panel.task,
        "color": panel.color,
        "spec": panel.spec,
    }


def columns(rows: Frame) -> dict[str, Any]:
    """Write a table column by column: names by number, numbers to five digits.

    >>> columns(pd.DataFrame({"x": [1.0, 0.1234567, math.nan], "y": ["a", "b", "a"]}))
    {'x': [1, 0.12346, None], 'y': {'names': ['a', 'b'], 'codes': [0, 1, 0]}}
    """
    return {str(name): _column(rows[name]) for name in rows}


def _column(values: pd.Series) -> Any:
    if pd.api.types.is_bool_dtype(values):
        return values.astype(int).tolist()
    if pd.api.types.is_numeric_dtype(values):
        return [_number(value) for value in values.to_numpy(np.float64)]
    codes, names = pd.factorize(values.astype(str))
    return {"names": names.tolist(), "codes": codes.tolist()}


def _number(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    if value == int(value) and abs(value) < 1e15:
        return int(value)
    return float(f"{value:.{DIGITS}g}")
