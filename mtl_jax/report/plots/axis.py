"""Axes with units: steps, training losses, factors, scores."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from mtl_jax.objectives.measure import Measure
from mtl_jax.report.plots.style import MUTED

TRAINING_LOSS = "training loss (nats), falling →"


def label(name: str, measure: Measure) -> str:
    """Name a recorded value with its unit.

    >>> label("accuracy", Measure(1, "%")), label("relative_error", Measure(-1, ""))
    ('accuracy (%)', 'relative error')
    """
    words = name.replace("_", " ")
    return f"{words} ({measure.unit})" if measure.unit else words


def difference(measure: Measure) -> str:
    """Name the unit of a difference of two values.

    >>> difference(Measure(1, "%")), difference(Measure(-1, "nats"))
    ('points', 'nats')
    """
    return "points" if measure.unit == "%" else measure.unit


def plain(value: float, _: object = None) -> str:
    """Write a number on an axis: ``0.001``, ``20,000``, ``1e-06``.

    >>> plain(-0.5), plain(20000), plain(1e-6)
    ('−0.5', '20,000', '1e−06')
    """
    text = f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:g}"
    return text.replace("-", "−")


PLAIN = FuncFormatter(plain)


def steps(ax: Axes, last: float) -> None:
    """Scale the abscissa for steps: linear from 0 to 1, logarithmic beyond."""
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    top = max(last, 1)
    decades = 10 ** np.arange(np.floor(np.log10(top)) + 1)
    _ticks(ax.xaxis, [0, *decades])
    ax.set_xlim(-0.06, top * 1.08)
    ax.set_xlabel("step (symlog)")


def training_loss(ax: Axes, low: float, high: float) -> None:
    """Scale the abscissa for training losses: a log that falls to the right."""
    ax.set_xscale("log")
    pad = max((high / low) ** 0.03, 1.05)
    ax.set_xlim(high * pad, low / pad)
    log_ticks(ax.xaxis, low, high)
    ax.set_xlabel(TRAINING_LOSS)


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Place the ticks of a log axis: decades, and 2 and 5 where there are few."""
    decades = np.log10(high / low)
    axis.set_major_formatter(PLAIN)
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())
    if decades < 0.5:
        axis.set_major_locator(MaxNLocator(4))
        return
    subs = (1.0,) if decades > 2.2 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=7))


def spans(values: np.ndarray) -> bool:
    """Tell whether values are far enough apart for a log axis.

    >>> spans(np.array([1.0, 100.0])), spans(np.array([1.0, 2.0]))
    (True, False)
    """
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    negative = bool((values < 0).any())
    low = np.quantile(size, 0.25) if negative else size.min(initial=np.inf)
    return bool(size.max(initial=0) > (300 if negative else 20) * low)


def fit(ax: Axes, values: np.ndarray, *, log: bool) -> None:
    """Scale the ordinate to values.

    Args:
      ax: a panel.
      values: all that is shown.
      log: whether the axis is logarithmic; symmetric, where some are not positive.
    """
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = values.min(), values.max()
    size = np.abs(values[values != 0])
    if log and low > 0:
        ax.set_yscale("log")
        pad = max((high / low) ** 0.06, 1.02)
        ax.set_ylim(low / pad, high * pad)
        log_ticks(ax.yaxis, low, high)
        return
    if log and size.size:
        symlog(ax, float(np.quantile(size, 0.25)), low, high)
        return
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    ax.set_ylim(low - pad, high + pad)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_formatter(PLAIN)


def symlog(ax: Axes, threshold: float, low: float, high: float) -> None:
    """Scale the ordinate by a symmetric log, linear within the threshold."""
    threshold = 10 ** np.floor(np.log10(threshold))
    ax.set_yscale("symlog", linthresh=threshold, linscale=0.5)
    top = max(abs(low), abs(high)) / threshold
    stride = max(1, int(np.ceil(np.log10(top) / 3)))
    ticks = threshold * 10.0 ** np.arange(0, np.log10(top) + 1, stride)
    shown = [t for t in [*-ticks[::-1], 0, *ticks] if low * 2 <= t <= high * 2]
    _ticks(ax.yaxis, shown)
    ax.set_ylim(min(low * 1.5, 0) - threshold * 0.2, high * 1.5 + threshold * 0.2)


def zero_line(ax: Axes, *, vertical: bool = False) -> None:
    """Draw the line of no difference."""
    draw: Callable = ax.axvline if vertical else ax.axhline
    draw(0, color=MUTED, linewidth=0.9, zorder=1.5)


def _ticks(axis: Axis, values: list[float]) -> None:
    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
