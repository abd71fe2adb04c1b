"""Matrices of cosines between the gradients of tasks, at moments of training."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from mtl_jax.report import charts
from mtl_jax.report.charts import Look, Picture, Trajectories, bundle
from mtl_jax.report.findings import Findings
from mtl_jax.report.text import fixed

SCHEME = "redblue"
"""Red is conflict; told apart by colour-blind readers."""
MOST_NUMBERS = 10
"""Tasks up to which a matrix has its numbers written in."""


def pictures(findings: Findings, looks: Mapping[str, Look]) -> Iterator[Picture]:
    """Yield the matrices of all variants of which cosines were recorded."""
    recorded = {v: matrices(findings.table, v, findings.tasks) for v in looks}
    recorded = {v: by_step for v, by_step in recorded.items() if by_step}
    if not recorded:
        return
    limit = _limit([m for by_step in recorded.values() for m in by_step.values()])
    panels = [
        _panel(f"{v}, step {step:,}", matrix, findings.tasks, limit, looks[v].color)
        for v, by_step in recorded.items()
        for step, matrix in by_step.items()
    ]
    text = (
        "Cosine of every pair of task gradients at the first, the middle and the "
        "last point of the trajectory, mean over seeds; red is conflict."
    )
    if any(len(findings.cells[variant]) > 1 for variant in recorded):
        text += " The row of a task is of the runs chosen for it."
    yield Picture("cosines", "Cosines between tasks", text, panels, {})


def moments(steps: Sequence[int]) -> list[int]:
    """Choose the first, middle and last of the steps that were looked at.

    >>> moments([0, 1, 10, 100, 1000])
    [0, 10, 1000]
    """
    ordered = sorted(steps)
    return sorted({ordered[0], ordered[len(ordered) // 2], ordered[-1]})


def matrices(
    table: Trajectories, variant: str, tasks: Sequence[str]
) -> dict[int, np.ndarray]:
    """Average cosines ``[T, T]`` of task gradients over seeds, at three moments.

    The diagonal is NaN, and so is a pair that was not recorded.
    """
    place = {task: number for number, task in enumerate(tasks)}
    cosines = {}
    for split, scope, name, task, holder in table.places:
        other = name.removeprefix("cosine/")
        if holder == variant and other != name and {task, other} <= place.keys():
            of = bundle(table, split, name, task, holder, scope)
            cosines[place[task], place[other]] = of
    recorded = [set(of.steps) for of in cosines.values()]
    steps = (
        sorted(set.intersection(*recorded) or set.union(*recorded)) if recorded else []
    )
    made = {}
    for step in moments(steps) if steps else ():
        made[int(step)] = np.full((len(tasks), len(tasks)), np.nan)
        for pair, of in cosines.items():
            values = of.values[of.steps == step]
            values = values[np.isfinite(values)]
            if values.size:
                made[int(step)][pair] = values.mean()
    return made


def _limit(all_of: Sequence[np.ndarray]) -> float:
    """Choose where the colours end: the next of .1, .2, .5 and 1."""
    sizes = np.abs(np.concatenate([matrix.ravel() for matrix in all_of]))
    largest = np.nanmax(sizes, initial=0)
    return next((end for end in (0.1, 0.2, 0.5) if largest <= end), 1.0)


def _panel(
    title: str, matrix: np.ndarray, tasks: Sequence[str], limit: float, color: str
) -> charts.Panel:
    few = len(tasks) <= MOST_NUMBERS
    cells = pd.DataFrame(
        [
            (tasks[j], tasks[i], value, fixed(value, 2) if few else "")
            for (i, j), value in np.ndenumerate(matrix)
            if np.isfinite(value)
        ],
        columns=["column", "row", "value", "text"],
    )
    return charts.heat(
        title,
        cells,
        ("", ""),
        "cosine of gradients",
        scheme=SCHEME,
        domain=(-limit, limit),
        orders=(tasks, tasks),
        color=color,
    )
