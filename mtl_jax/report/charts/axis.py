"""Axes: what they show, and on which scale."""

from typing import Any, NamedTuple

import numpy as np


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

    def encoding(self, field: str, **more: Any) -> dict[str, Any]:
        """Encode a column on this axis."""
        scale: dict[str, Any] = {"type": self.scale, "nice": False, "padding": 6}
        if self.scale == "linear":
            scale["zero"] = False
        if self.reverse:
            scale["reverse"] = True
        if self.domain:
            scale["domain"] = list(self.domain)
        axis: dict[str, Any] = {
            "title": self.title,
            "tickCount": 5,
            "labelOverlap": True,
        }
        if self.ticks:
            axis["values"] = list(self.ticks)
        if self.scale != "linear" or self.ticks:
            axis["format"] = "~g"
        made = {"field": field, "type": "quantitative", "scale": scale, "axis": axis}
        return made | more


def steps(last: float) -> Axis:
    """Scale an axis for steps: linear from 0 to 1, logarithmic beyond."""
    decades = 10.0 ** np.arange(np.floor(np.log10(max(last, 1))) + 1)
    return Axis("step (symlog)", "symlog", ticks=(0.0, *decades))


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
