"""Does one change explain another? Contrasts and conflict against gap and effects."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtl_jax.report.plots import axis
from mtl_jax.report.plots.sheet import color_bar, finish, note, sheet
from mtl_jax.report.plots.style import INK, Look, styled

COLORS = "viridis_r"
RASTER = 300
"""Points of a panel above which they are pixels also in vector graphics."""


class Cloud(NamedTuple):
    """Observations of two changes, and what their correlation is."""

    title: str
    label: str
    """Label of the abscissa."""
    x: np.ndarray
    y: np.ndarray
    log_loss: np.ndarray
    """At which they were observed (log nats)."""
    text: str
    """Correlation in words, or why there is none."""


@styled()
def contrasts(
    clouds: Mapping[str, Sequence[Cloud]],
    looks: Mapping[str, Look],
    *,
    narrow: bool = False,
) -> Figure:
    """Draw the gap against the contrast of each factor, at the same training loss.

    Args:
      clouds: of every variant, one per factor.
      looks: of the variants.
      narrow: for a phone.
    """
    panels = [(variant, cloud) for variant, row in clouds.items() for cloud in row]
    most = max(map(len, clouds.values()))
    made = sheet(
        len(panels),
        head=0.34,
        narrow=narrow,
        columns=most if most <= 4 else 3,
        height=1.9,
        title=0.46 + 0.17 * (len(clouds) > 1),
    )
    losses = np.concatenate([cloud.log_loss for _, cloud in panels])
    losses = np.exp(losses[np.isfinite(losses)])
    norm = LogNorm(losses.min(initial=1), losses.max(initial=1e-3))
    for (variant, cloud), (ax,) in zip(panels, made.axes, strict=True):
        which = variant if len(clouds) > 1 else ""
        _titles(ax, cloud.title, cloud.text, which, looks[variant].color)
        ax.set_xlabel(cloud.label)
        ax.set_ylabel("gap (nats), + MT worse")
        _points(ax, cloud, {"c": np.exp(cloud.log_loss), "cmap": COLORS, "norm": norm})
    bar = color_bar(made, norm, COLORS, "training loss (nats)")
    axis.log_ticks(bar.xaxis, norm.vmin or 0.1, norm.vmax or 1)
    bar.invert_xaxis()
    return finish(made)


@styled()
def conflict_effects(
    panels: Sequence[tuple[str, str, str, Mapping[str, Cloud]]],
    looks: Mapping[str, Look],
    *,
    narrow: bool = False,
) -> Figure:
    """Draw a task's conflict against what MT does to its optimization and its transfer.

    Args:
      panels: title, labels of abscissa and ordinate, and a cloud by variant.
      looks: of the variants.
      narrow: for a phone.
    """
    variants = dict.fromkeys(v for *_, by_variant in panels for v in by_variant)
    lines = max(len(by_variant) for *_, by_variant in panels)
    made = sheet(
        len(panels),
        legend=[_dot(looks[variant]) for variant in variants],
        narrow=narrow,
        height=2.1,
        title=0.28 + 0.17 * lines,
    )
    for (title, label, ordinate, by_variant), (ax,) in zip(
        panels, made.axes, strict=True
    ):
        texts = [
            cloud.text if len(by_variant) == 1 else f"{v}: {cloud.text}"
            for v, cloud in by_variant.items()
        ]
        _titles(ax, title, "\n".join(texts))
        ax.set_xlabel(label)
        ax.set_ylabel(ordinate)
        for variant, cloud in by_variant.items():
            look = looks[variant]
            _points(ax, cloud, {"color": look.color, "marker": look.marker}, last=False)
        _limits(ax, list(by_variant.values()))
    return finish(made)


def _dot(look: Look) -> Line2D:
    return Line2D(
        [], [], color=look.color, marker=look.marker, linestyle="", label=look.label
    )


def _titles(
    ax: Axes, title: str, text: str, variant: str = "", color: str = INK
) -> None:
    """Write what is shown, and under it of which variant, and the correlation."""
    lines = text.count("\n") + 1
    where: Any = {"xycoords": "axes fraction", "textcoords": "offset points"}
    where |= {"va": "bottom", "fontsize": 8.5}
    ax.annotate(text, (0, 1), (0, 4), **where)
    if variant:
        ax.annotate(variant, (0, 1), (0, 5 + 11.5 * lines), color=color, **where)
        lines += 1
    ax.set_title(title, pad=6 + 11.5 * lines)


def _points(ax: Axes, cloud: Cloud, options: dict, *, last: bool = True) -> None:
    there = np.isfinite(cloud.x) & np.isfinite(cloud.y)
    if not there.any():
        note(ax, cloud.text or "nothing to compare")
        return
    if "c" in options:
        options = options | {"c": options["c"][there]}
    ax.scatter(
        cloud.x[there],
        cloud.y[there],
        s=9 if there.sum() > 100 else 18,
        alpha=0.7 if there.sum() < 1_500 else 0.35,
        linewidth=0,
        rasterized=bool(there.sum() > RASTER),
        **options,
    )
    if last:
        _limits(ax, [cloud])


def _limits(ax: Axes, clouds: Sequence[Cloud]) -> None:
    axis.zero_line(ax)
    axis.zero_line(ax, vertical=True)
    axis.fit(ax, np.concatenate([cloud.y for cloud in clouds]), log=False)
    x = np.concatenate([cloud.x for cloud in clouds])
    x = x[np.isfinite(x)]
    if x.size:
        pad = 0.06 * np.ptp(x) or 0.05 * abs(x[0]) or 0.05
        ax.set_xlim(x.min() - pad, x.max() + pad)
    ax.locator_params(axis="x", nbins=4)
    ax.xaxis.set_major_formatter(axis.PLAIN)
