"""Effects of MT: over training as a mean of tasks, and task by task."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtl_jax.analysis.curves import Frame
from mtl_jax.objectives.measure import LOSS, Measure
from mtl_jax.report.plots import axis
from mtl_jax.report.plots.bundle import band, line
from mtl_jax.report.plots.sheet import finish, note, sheet, short, variant_handles
from mtl_jax.report.plots.style import INK, MUTED, Look, styled

MEAN = "mean over tasks"
ROW = 0.19
"""Inches of a task and variant."""


class Effects(NamedTuple):
    """Effects of a variant against the baseline."""

    loss: Frame
    """`analysis.gap_curve` of the test loss."""
    score: Frame
    """The same of the score that all tasks have; may be empty."""
    optimization: Frame
    """`analysis.optimization_effect`."""


class Interval(NamedTuple):
    """A number with its interval, or why there is none."""

    value: float
    low: float
    high: float
    reason: str


@styled()
def effects(
    by_variant: Mapping[str, Effects],
    looks: Mapping[str, Look],
    score: tuple[str, Measure] | None,
    *,
    narrow: bool = False,
) -> Figure:
    """Draw means over tasks of the gap (loss, score) and of the optimization effect.

    Tasks have ranges of training loss of their own, so the abscissa of the gaps is the
    position within the common range, in log loss.

    Args:
      found: by variant.
      looks: of the variants.
      score: that all tasks have, with its direction and unit; None if there is none.
      narrow: for a phone.
    """
    handles = variant_handles([looks[variant] for variant in by_variant])
    made = sheet(2 + bool(score), legend=handles, narrow=narrow, height=2.1)
    (first,), *middle, (last,) = made.axes
    _gap_panel(
        first, "loss", LOSS, {v: effect.loss for v, effect in by_variant.items()}, looks
    )
    first.set_title("generalization gap")
    for (ax,) in middle:
        assert score is not None
        _gap_panel(
            ax, *score, {v: effect.score for v, effect in by_variant.items()}, looks
        )
        ax.set_title("gap of the score")
    shown, reasons = [np.zeros(1)], []
    for variant, effect in by_variant.items():
        rows = effect.optimization[effect.optimization["task"] == ""]
        _curve(last, rows, rows["step"], "effect", 1, looks[variant], shown, reasons)
    last.set_title("optimization effect D")
    last.set_ylabel("training loss, MT − ST (nats)")
    axis.zero_line(last)
    axis.fit(last, np.concatenate(shown), log=False)
    steps = [effect.optimization["step"].max() for effect in by_variant.values()]
    axis.steps(last, float(max(steps)))
    if reasons:
        note(
            last, "; ".join(dict.fromkeys(reasons)), low=len(reasons) < len(by_variant)
        )
    return finish(made)


def _gap_panel(
    ax: Axes,
    name: str,
    measure: Measure,
    curves: Mapping[str, Frame],
    looks: Mapping[str, Look],
) -> None:
    shown, reasons = [np.zeros(1)], []
    side = "worse" if name == "loss" else "better"
    size = measure._replace(unit=axis.difference(measure))
    ax.set_ylabel(f"{axis.label(f'{name} gap', size)}, + MT {side}")
    axis.zero_line(ax)
    for variant, frame in curves.items():
        rows = frame[frame["task"] == ""]
        position = 100 * rows["bin"] / max(rows["bin"].max(), 1)
        look = looks[variant]
        _curve(ax, rows, position, "gap", measure.factor, look, shown, reasons)
    axis.fit(ax, np.concatenate(shown), log=False)
    ax.set_xlim(-2, 102)
    ax.set_xlabel("way through common range (%)")
    if reasons:
        text = f"not comparable: {'; '.join(dict.fromkeys(reasons))}"
        note(ax, text, low=len(reasons) < len(curves))


def _curve(
    ax: Axes,
    rows: Frame,
    x: Frame,
    name: str,
    factor: float,
    look: Look,
    shown: list[np.ndarray],
    reasons: list[str],
) -> None:
    """A mean over tasks with its interval; adds to what is shown, or to reasons."""
    if not rows["comparable"].any():
        reasons += rows["reason"].unique().tolist()
        return
    low, middle, high = (factor * rows[end].to_numpy() for end in ("low", name, "high"))
    band(ax, x.to_numpy(), low, high, look)
    line(ax, x.to_numpy(), middle, look)
    shown += [low, middle, high]


@styled()
def task_effects(
    panels: Sequence[tuple[str, str, Mapping[str, Mapping[str, Interval]]]],
    tasks: Sequence[str],
    looks: Mapping[str, Look],
    *,
    narrow: bool = False,
) -> Figure:
    """Draw every task's effects with their intervals, side by side.

    Args:
      panels: title, label of the abscissa, and variant to task to effect; the task
        `MEAN` is set apart.
      tasks: in order.
      looks: of the variants.
      narrow: for a phone.
    """
    variants = list(dict.fromkeys(v for _, _, by_variant in panels for v in by_variant))
    rows = [*tasks, *([MEAN] if any(MEAN in f for p in panels for f in p[2].values())
                      else [])]  # fmt: skip
    handles = variant_handles([looks[variant] for variant in variants])
    pitch = ROW * len(variants) + 0.1
    left = min(2.0, 0.25 + 0.075 * max(map(len, rows)))
    made = sheet(
        len(panels),
        legend=handles,
        narrow=narrow,
        height=max(0.9, pitch * len(rows)),
        left=left,
        columns=2 if left > 1.3 else 3,
    )
    for (title, label, by_variant), (ax,) in zip(panels, made.axes, strict=True):
        named = {task for effects in by_variant.values() for task in effects}
        ax.set_title(title)
        ax.set_xlabel(label)
        ax.grid(visible=False, axis="y")
        axis.zero_line(ax, vertical=True)
        for number, variant in enumerate(variants):
            shift = (number - (len(variants) - 1) / 2) * ROW / pitch
            for place, task in enumerate(rows):
                mark = by_variant.get(variant, {}).get(task)
                if mark is not None:
                    interval(ax, place + shift, mark, looks[variant])
        labels = [row if row in named else "" for row in rows]
        if labels[-1] == MEAN:
            ax.axhline(len(rows) - 1.5, color=MUTED, linewidth=0.6, dashes=(2, 2))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        name_rows(ax, labels)
    return finish(made)


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Write names beside the rows of intervals, and plain numbers below them."""
    ax.set_yticks(range(len(names)), [short(name) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.08)
    ax.xaxis.set_major_formatter(axis.PLAIN)
    ax.locator_params(axis="x", nbins=5)


def interval(ax: Axes, y: float, mark: Interval, look: Look) -> None:
    """Draw a number with its interval at a height, or say that there is none."""
    if mark.reason:
        ax.annotate(
            "not comparable",
            (0, y),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=look.color,
        )
        return
    ax.plot([mark.low, mark.high], [y, y], color=look.color, linewidth=1.6, alpha=0.75)
    ax.plot(
        mark.value,
        y,
        color=look.color,
        marker=look.marker,
        markersize=5,
        markeredgecolor=INK,
        markeredgewidth=0.4,
    )
