"""Pictures of conflict between tasks, and of the weights that answer it."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.report import charts, cosines
from mtl_jax.report.captions import lines, rho, selection, whole_runs
from mtl_jax.report.charts import Axis, Picture, bundle, rows
from mtl_jax.report.charts.labels import (
    difference,
    short,
)
from mtl_jax.report.charts.look import other
from mtl_jax.report.findings import (
    MOST_TASKS,
    Findings,
)

Looks = Mapping[str, charts.Look]
OF_RUN = {
    "mean_cosine": ("mean cosine of pairs", "cosine", 1),
    "negative_pairs": ("negative pairs", "pairs (%)", 100),
    "unit_mean": ("norm of the mean unit gradient", "norm (0 to 1)", 1),
}
"""Conflict of whole runs: title, label and factor."""


def conflict(findings: Findings, looks: Looks) -> Iterator[Picture]:
    """Yield conflict over training, and the cosines of pairs of tasks."""
    recorded = {variant for *_, name, _, variant in findings.table.places
                if name == "mean_cosine"}  # fmt: skip
    measured = {variant: look for variant, look in looks.items() if variant in recorded}
    if not measured:
        return
    shown = findings.shown(MOST_TASKS)
    text = (
        f"Gradients of the tasks on the trunk, whole probe: mean cosine of pairs, "
        f"share of pairs with a negative one, norm of the mean of unit gradients "
        f"(larger is less conflict); then the cosine of each task's gradient with "
        f"the next update. {whole_runs(findings, list(measured))}{lines(findings)} "
        f"{selection(findings, shown)}"
    )
    wanted = [(name, "", *told) for name, told in OF_RUN.items()]
    wanted += [
        ("cosine_update", task, short(task), "cosine with update", 1) for task in shown
    ]
    panels = []
    for name, task, title, axis_label, factor in wanted:
        made = []
        for variant in measured:
            of = bundle(findings.table, "probe", name, task, variant, "shared")
            if len(of.steps):
                made.append(rows.of_runs(of, variant, of.steps, factor=factor))
                made.append(rows.of_mean(of, variant, factor=factor))
        if made:
            x = charts.steps(findings.table.step.max())
            y = Axis(axis_label, zero=True)
            table = rows.joined(made)
            panels.append(charts.curves(title, table, x, y, measured, task=task))
    yield Picture("conflict", "Conflict over training", text, panels, measured)
    yield from cosines.pictures(findings, measured)


def conflict_effects(
    findings: Findings, looks: Looks, tables: tuple[Frame, ...]
) -> Iterator[Picture]:
    """Yield conflict against what MT does to optimization and to transfer."""
    used = {v: versus for v, versus in findings.versus.items() if len(versus.conflict)}
    if not used:
        return
    wanted = (
        ("optimization, mean of steps", "effect", "D (nats), + MT worse", tables[0]),
        ("transfer", "transfer", "", tables[1]),
        ("optimization, every step", "effect", "D (nats), + MT worse", tables[2]),
    )
    panels = []
    for title, y, axis_label, table in wanted:
        clouds, factor = [], 1.0
        by_step = "every" in title
        for variant, versus in used.items():
            effects = versus.conflict_steps if by_step else versus.conflict
            if not axis_label:
                names = effects["transfer_name"].unique()
                measures = [findings.table.measure(name) for name in names]
                units = {difference(measure) for measure in measures}
                alike = len(units) == 1
                factor = measures[0].factor if alike else 1
                unit = units.pop() * alike or "own units"
                axis_label = f"test score, MT − ST ({unit})"
            clouds.append(
                pd.DataFrame(
                    {
                        "x": effects["conflict"].to_numpy(float),
                        "y": factor * effects[y].to_numpy(float),
                        "task": effects["task"].to_numpy(object),
                        "variant": variant,
                    }
                )
            )
        told = [
            f"{v}: " * (len(used) > 1) + rho(table, findings.setting, v) for v in used
        ]
        x = Axis("conflict (− mean cosine)", zero=True)
        cloud = pd.concat(clouds, ignore_index=True)
        note = "; ".join(told)
        ordinate = Axis(axis_label, zero=True)
        panels.append(charts.scatter(title, cloud, x, ordinate, looks, note=note))
    text = (
        "A point is a task and a pair of an ST and an MT run (on the right, also a "
        "step). Conflict: minus the mean cosine of the task's gradient with those of "
        "the others. D: training loss, MT − ST at equal step. Transfer: at the "
        "best-validation point, + is MT better."
    )
    title = "Conflict against optimization and transfer"
    yield Picture("conflict-effects", title, text, panels, {v: looks[v] for v in used})


def weights(findings: Findings, looks: Looks) -> Iterator[Picture]:
    """Yield the share of every task in the weights over training."""
    # Shares need the weights of all tasks in one run.
    whole = [v for v in findings.variants if len(findings.cells[v]) == 1]
    tasks = findings.tasks
    weighed = [v for v in whole if _is_weighed(findings, v)]
    if not weighed:
        return
    styles = {task: other(i)._replace(label=task) for i, task in enumerate(tasks)}
    panels = []
    for variant in weighed:
        bundles = [bundle(findings.table, "train", "weight", t, variant) for t in tasks]
        bundles = [of for of in bundles if of.values.size]
        total = np.sum([np.abs(of.values) for of in bundles], axis=0)
        made = []
        for task, of in zip(tasks, bundles, strict=False):
            share = of._replace(values=of.values / np.where(total > 0, total, np.nan))
            made.append(rows.of_runs(share, task, of.steps))
            made.append(rows.of_mean(share, task))
        table = rows.joined(made).rename(columns={"variant": "of task"})
        axis = charts.steps(findings.table.step.max())
        y = Axis("share of weight", zero=True)
        title = short(looks[variant].label)
        panels.append(charts.curves(title, table, axis, y, styles, by="of task"))
    apart = ", and those of which tasks have runs of their own" * (
        len(whole) < len(findings.variants)
    )
    text = (
        f"Share of each task in the weights of the latest update, by its size; thick: "
        f"mean over seeds. Equal shares are {1 / len(tasks):.2g}. Methods "
        f"whose weights never differ are left out{apart}."
    )
    yield Picture("weights", "Weights over training", text, panels, styles)


def _is_weighed(findings: Findings, variant: str) -> bool:
    """Tell whether a variant's weights were recorded and are not always alike."""
    recorded = [
        bundle(findings.table, "train", "weight", task, variant).values
        for task in findings.tasks
    ]
    values = [values for values in recorded if values.size]
    return len(values) > 1 and any(not np.allclose(v, values[0]) for v in values)
