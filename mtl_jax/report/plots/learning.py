"""Learning curves: losses and scores over steps, variants side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtl_jax.report.plots import axis
from mtl_jax.report.plots.bundle import Bundle, Trajectories, bundle, draw, mean_over
from mtl_jax.report.plots.sheet import finish, note, sheet, short, variant_handles
from mtl_jax.report.plots.style import Look, styled


@styled()
def learning(
    table: Trajectories,
    tasks: Sequence[str],
    looks: Mapping[str, Look],
    scores: Mapping[str, str],
    *,
    mean_of: Sequence[str] = (),
    narrow: bool = False,
) -> Figure:
    """Draw training loss, test loss and test score over steps, a column per task.

    Args:
      table: of `bundle.indexed`.
      tasks: that are shown.
      looks: of the variants.
      scores: the score of every task that has one.
      mean_of: all tasks, to show their mean in a column before the others.
      narrow: for a phone.
    """
    columns = ([""] if mean_of else []) + list(tasks)
    rows = [("probe", "loss"), ("test", "loss")] + [("test", "score")] * bool(scores)
    handles = variant_handles(list(looks.values()))
    made = sheet(len(columns), len(rows), legend=handles, narrow=narrow, height=1.75)
    last = table.step.max()
    for task, column in zip(columns, made.axes, strict=True):
        for (split, kind), ax in zip(rows, column, strict=True):
            ax.set_title(short(task) or f"mean over {len(mean_of)} tasks")
            _panel(ax, table, [task] if task else mean_of, looks, split, kind, scores)
            axis.steps(ax, last)
    return finish(made)


def _panel(
    ax: Axes,
    table: Trajectories,
    tasks: Sequence[str],
    looks: Mapping[str, Look],
    split: str,
    kind: str,
    scores: Mapping[str, str],
) -> None:
    names = {scores.get(task, "") for task in tasks} if kind == "score" else {"loss"}
    if len(names) > 1 or not all(names):
        ax.set_ylabel("test score")
        note(ax, "tasks with different scores" if len(names) > 1 else "no score")
        return
    (name,) = names
    measure = table.measure(name)
    part = "training" if split == "probe" else split
    ax.set_ylabel(f"{part} {axis.label(name, measure)}")
    shown = [np.zeros(0)]
    for variant, look in looks.items():
        bundles = [bundle(table, split, name, task, variant) for task in tasks]
        of: Bundle = mean_over(bundles) if len(bundles) > 1 else bundles[0]
        if len(of.steps):
            shown.append(draw(ax, of.steps, of, look, factor=measure.factor))
    axis.fit(ax, np.concatenate(shown), log=kind == "loss")
