"""Weights that multi-task optimizers give to the tasks, over training."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtl_jax.report.plots import axis
from mtl_jax.report.plots.bundle import Trajectories, bundle
from mtl_jax.report.plots.sheet import finish, sheet, short
from mtl_jax.report.plots.style import OTHERS, Look, styled


def weighed(table: Trajectories, tasks: Sequence[str], variant: str) -> bool:
    """Tell whether a variant's weights were recorded and are not always alike."""
    recorded = [
        bundle(table, "train", "weight", task, variant).values for task in tasks
    ]
    values = [values for values in recorded if values.size]
    return len(values) > 1 and any(not np.allclose(v, values[0]) for v in values)


@styled()
def weights(
    table: Trajectories,
    tasks: Sequence[str],
    looks: Mapping[str, Look],
    *,
    narrow: bool = False,
) -> Figure:
    """Draw every task's share of the weights over steps, a panel per variant.

    A share is the weight, divided by the sum of the sizes of all weights: methods give
    directions of unlike lengths, and a weight may be negative.

    Args:
      table: of `bundle.indexed`.
      tasks: whose weights are shown.
      looks: of the variants with weights to show.
      narrow: for a phone.
    """
    styles = [OTHERS[i % len(OTHERS)]._replace(label=t) for i, t in enumerate(tasks)]
    handles = [
        Line2D(
            [], [], color=style.color, linestyle=style.dash, label=short(style.label)
        )
        for style in styles
    ]
    made = sheet(len(looks), legend=handles, narrow=narrow, height=1.3, columns=4)
    for (variant, look), (ax,) in zip(looks.items(), made.axes, strict=True):
        ax.set_title(short(look.label))
        ax.set_ylabel("share of weight")
        axis.zero_line(ax)
        bundles = [bundle(table, "train", "weight", task, variant) for task in tasks]
        total = np.sum([np.abs(of.values) for of in bundles], axis=0)
        shares = [of.values / np.where(total > 0, total, np.nan) for of in bundles]
        for of, share, style in zip(bundles, shares, styles, strict=True):
            ax.plot(of.steps, share, color=style.color, linewidth=0.5, alpha=0.4)
            if of.sound.any():
                mean = share[:, of.sound].mean(axis=1)
                ax.plot(of.steps, mean, color=style.color, linestyle=style.dash)
        axis.fit(ax, np.concatenate([np.ravel(s) for s in shares]), log=False)
        axis.steps(ax, table.step.max())
    return finish(made)
