"""The central picture: what a training loss is worth on test data, ST against MT."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.plots import axis
from mtl_jax.report.plots.bundle import Trajectories, band, bundle, draw, line
from mtl_jax.report.plots.sheet import finish, note, sheet, short, variant_handles
from mtl_jax.report.plots.style import MUTED, Look, styled


class GapTables(NamedTuple):
    """Gaps of a variant against the baseline, all tasks."""

    loss: Frame
    """`analysis.gap` of the test loss."""
    score: Frame
    """The same of each task's score; may be empty."""
    curve: Frame
    """`analysis.gap_curve` of the test loss."""


@styled()
def gap(
    table: Trajectories,
    tasks: Sequence[str],
    looks: Mapping[str, Look],
    scores: Mapping[str, str],
    compared: Mapping[str, GapTables],
    *,
    baseline: str = "single",
    narrow: bool = False,
) -> Figure:
    """Draw test loss and score against training loss, the gap shaded; below, its curve.

    Args:
      table: of `bundle.indexed`.
      tasks: that are shown, a column each.
      looks: of the variants.
      scores: the score of every task that has one.
      compared: by variant; empty if there is nothing to compare.
      baseline: ST.
      narrow: for a phone.
    """
    rows = ["loss"] + ["score"] * bool(scores) + ["gap"] * bool(compared)
    handles = [
        *variant_handles(list(looks.values())),
        Line2D([], [], color=MUTED, linewidth=0.7, label="every seed"),
    ]
    if compared:
        handles += [
            Patch(color=MUTED, alpha=0.25, linewidth=0, label="gap; its 95% band"),
            Line2D([], [], color=MUTED, linewidth=4, label="common range", alpha=0.6),
        ]
    made = sheet(len(tasks), len(rows), legend=handles, narrow=narrow, height=1.95)
    for task, column in zip(tasks, made.axes, strict=True):
        low, high = _range(table, task, looks)
        for kind, ax in zip(rows, column, strict=True):
            ax.set_title(short(task))
            if kind == "gap":
                _gap_panel(ax, task, looks, compared)
            else:
                name = "loss" if kind == "loss" else scores.get(task, "")
                frames = {
                    v: _of(c.loss if kind == "loss" else c.score, task)
                    for v, c in compared.items()
                }
                _value_panel(ax, table, task, name, looks, frames, baseline)
            axis.training_loss(ax, low, high)
    return finish(made)


def _range(
    table: Trajectories, task: str, looks: Mapping[str, Look]
) -> tuple[float, float]:
    """Training losses of a task in all variants."""
    values = [bundle(table, "probe", "loss", task, v).values.ravel() for v in looks]
    losses = np.concatenate(values)
    losses = losses[np.isfinite(losses) & (losses > 0)]
    return (losses.min(), losses.max()) if losses.size else (0.1, 1.0)


def _of(frame: Frame, task: str) -> Frame:
    """Comparable rows of a task."""
    if not len(frame):
        return frame
    return frame[(frame["task"] == task) & frame["comparable"]]


def _value_panel(
    ax: Axes,
    table: Trajectories,
    task: str,
    name: str,
    looks: Mapping[str, Look],
    frames: Mapping[str, Frame],
    baseline: str,
) -> None:
    """Test values against training loss, in thin lines and in matched means."""
    if not name:
        ax.set_ylabel("test score")
        note(ax, "no score")
        return
    measure, shown, drawn = table.measure(name), [np.zeros(0)], set()
    matched = {v for v, frame in frames.items() if len(frame)}
    matched |= {baseline} if matched else set()
    ax.set_ylabel(f"test {axis.label(name, measure)}")
    for variant, look in looks.items():
        of = bundle(table, "test", name, task, variant)
        probe = bundle(table, "probe", "loss", task, variant)
        if of.values.shape != probe.values.shape or not of.values.size:
            continue
        x = np.where(probe.values > 0, probe.values, np.nan)
        bold = variant not in matched
        shown.append(draw(ax, x, of, look, factor=measure.factor, bold=bold))
    shade = 0.22 if len(frames) == 1 else 0.1
    for number, (variant, frame) in enumerate(frames.items()):
        if not len(frame):
            continue
        bins = frame.groupby("bin")[["log_loss", "st", "mt"]].mean()
        x = np.exp(bins["log_loss"].to_numpy())
        st, mt = (measure.factor * bins[side].to_numpy() for side in ("st", "mt"))
        look = looks[variant]
        ax.fill_between(x, st, mt, color=look.color, alpha=shade, linewidth=0)
        line(ax, x, mt, look)
        if baseline not in drawn:
            line(ax, x, st, looks[baseline])
            drawn.add(baseline)
        _common_range(ax, x, look, number)
    axis.fit(ax, np.concatenate(shown), log=name == "loss")


def _common_range(ax: Axes, x: np.ndarray, look: Look, number: int) -> None:
    """A bar along the foot of a panel."""
    ax.plot(
        [x.max(), x.min()],
        [0.015 + 0.03 * number] * 2,
        transform=ax.get_xaxis_transform(),
        color=look.color,
        linewidth=4,
        alpha=0.6,
        solid_capstyle="butt",
        zorder=1.8,
    )


def _gap_panel(
    ax: Axes, task: str, looks: Mapping[str, Look], compared: Mapping[str, GapTables]
) -> None:
    """G at every training loss, with its interval."""
    axis.zero_line(ax)
    ax.set_ylabel("gap (nats), + is MT worse")
    shown, reasons = [np.zeros(1)], []
    for variant, tables in compared.items():
        rows = tables.curve[tables.curve["task"] == task]
        if not rows["comparable"].any():
            reasons += [f"{variant}: {reason}" for reason in rows["reason"].unique()]
            continue
        x, look = np.exp(rows["log_loss"].to_numpy()), looks[variant]
        low, middle, high = (rows[end].to_numpy() for end in ("low", "gap", "high"))
        band(ax, x, low, high, look)
        line(ax, x, middle, look)
        shown += [low, middle, high]
    axis.fit(ax, np.concatenate(shown), log=False)
    if reasons:
        text = f"not comparable: {'; '.join(reasons)}"
        note(ax, text, low=len(reasons) < len(compared))
