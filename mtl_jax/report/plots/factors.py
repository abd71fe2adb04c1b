"""Factors along trajectories: what is measured at a training loss, ST against MT."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtl_jax.analysis.curves import Frame
from mtl_jax.report.plots import axis
from mtl_jax.report.plots.bundle import Trajectories, bundle, draw, line
from mtl_jax.report.plots.sheet import finish, sheet, short, variant_handles
from mtl_jax.report.plots.style import MUTED, Look, styled

UNITS = {
    "sharpness_l2": "sharpness l2 (nats)",
    "sharpness_linf": "sharpness l∞ (nats)",
    "adaptive_sharpness_l2": "adaptive sharpness l2 (nats)",
    "adaptive_sharpness_linf": "adaptive sharpness l∞ (nats)",
    "average_sharpness": "average sharpness (nats)",
    "fisher_trace": "Fisher trace (nats²)",
    "empirical_fisher_trace": "empirical Fisher trace (nats²)",
    "coherence": "coherence α (0 to 1)",
    "noise_scale": "noise scale (examples)",
}
"""Labels with units; of other factors the name, for they have none in common."""


@styled()
def factors(
    table: Trajectories,
    names: Sequence[str],
    tasks: Sequence[str],
    looks: Mapping[str, Look],
    matched: Mapping[str, Frame],
    *,
    baseline: str = "single",
    narrow: bool = False,
) -> Figure:
    """Draw the factors of a task (trunk and head) against its training loss.

    Args:
      table: of `bundle.indexed`.
      names: of factors, a row each.
      tasks: that are shown, a column each.
      looks: of the variants.
      matched: `analysis.contrasts` by variant; means over seeds are drawn from them.
      baseline: ST.
      narrow: for a phone.
    """
    handles = [
        *variant_handles(list(looks.values())),
        Line2D([], [], color=MUTED, linewidth=0.7, label="every seed"),
    ]
    made = sheet(len(tasks), len(names), legend=handles, narrow=narrow, height=1.55)
    for row, name in enumerate(names):
        axes, shown = [group[row] for group in made.axes], []
        for task, ax in zip(tasks, axes, strict=True):
            ax.set_title(short(task))
            ax.set_ylabel(UNITS.get(name, name.replace("_", " ")))
            shown.append(_panel(ax, table, name, task, looks, matched, baseline))
        log = axis.spans(np.concatenate(shown))  # one kind of axis for all tasks
        for ax, values in zip(axes, shown, strict=True):
            axis.fit(ax, values, log=log)
    return finish(made)


def _panel(
    ax: Axes,
    table: Trajectories,
    name: str,
    task: str,
    looks: Mapping[str, Look],
    matched: Mapping[str, Frame],
    baseline: str,
) -> np.ndarray:
    """Draw a factor of a task, and return all values that are shown."""
    shown, losses = [np.zeros(0)], [np.zeros(0)]
    for variant, look in looks.items():
        of = bundle(table, "probe", name, task, variant, "task")
        probe = bundle(table, "probe", "loss", task, variant)
        if of.values.shape != probe.values.shape or not of.values.size:
            continue
        x = np.where(probe.values > 0, probe.values, np.nan)
        shown.append(draw(ax, x, of, look, bold=not matched))
        losses.append(x[np.isfinite(x)])
    drawn = set()
    for variant, frame in matched.items():
        rows = frame[(frame["factor"] == name) & (frame["task"] == task)]
        rows = rows[rows["comparable"]]
        bins = rows.groupby("bin")[["log_loss", "st", "mt"]].mean()
        for side, who in (("mt", variant), ("st", baseline)):
            if who not in drawn and len(bins):
                drawn.add(who)
                x = np.exp(bins["log_loss"].to_numpy())
                line(ax, x, bins[side].to_numpy(), looks[who])
    both = np.concatenate(losses)
    if both.size:
        axis.training_loss(ax, both.min(), both.max())
    return np.concatenate(shown)
