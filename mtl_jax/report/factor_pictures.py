"""Pictures of factors: along training, and beside the gap."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.objectives.measure import Measure
from mtl_jax.report import charts
from mtl_jax.report.against_loss import LOSS_AXIS, against_loss, matched_means
from mtl_jax.report.captions import rho, selection
from mtl_jax.report.charts import Axis, Panel, Picture, rows
from mtl_jax.report.charts.labels import (
    factor_label,
    short,
    spans,
)
from mtl_jax.report.findings import (
    HEADLINE,
    MOST_FACTOR_TASKS,
    Findings,
)

Looks = Mapping[str, charts.Look]


def factors(findings: Findings, looks: Looks) -> Iterator[Picture]:
    """Yield the factors of tasks against their training loss."""
    shown = findings.shown(MOST_FACTOR_TASKS)
    matched = {v: c.contrasts for v, c in findings.versus.items() if len(c.contrasts)}
    first = [name for name in findings.factors if name in HEADLINE]
    others = [name for name in findings.factors if name not in HEADLINE]
    first, others = (first, others) if first else (others[:4], others[4:])
    thick = "; thick: means over seeds at the same training loss" * bool(matched)
    text = (
        f"Factors of a task (trunk and head, fixed probe) against its training loss. "
        f"Thin lines: every seed{thick}. {selection(findings, shown)}"
    )
    for number, names in enumerate((first, others)):
        if names:
            panels = [
                _factor(findings, looks, task, name, of_name)
                for name in names
                for of_name in [_of(matched, name)]
                for task in shown
            ]
            title = "Other factors" if number else "Factors along training"
            id = "factors-more" if number else "factors"
            columns = min(len(shown), 3)
            yield Picture(id, title, text, panels, looks, columns, bool(number))


def _factor(
    findings: Findings,
    looks: Looks,
    task: str,
    name: str,
    matched: Mapping[str, Frame],
) -> Panel:
    """A factor of a task against its training loss; ``matched`` is of the factor."""
    what = "probe", name, "task"
    made = [against_loss(findings, task, v, what, Measure(0, "")) for v in looks]
    made += matched_means(matched, task, 1.0)
    table = rows.joined(made)
    scale = "log" if spans(table["y"].to_numpy(float)) else "linear"
    y = Axis(factor_label(name), scale)
    return charts.curves(short(task), table, LOSS_AXIS, y, looks, task=task)


def _of(matched: Mapping[str, Frame], name: str) -> dict[str, Frame]:
    return {v: frame[frame["factor"] == name] for v, frame in matched.items()}


def contrasts(findings: Findings, looks: Looks, table: Frame) -> Iterator[Picture]:
    """Yield the gap against the contrast of every factor."""
    panels = []
    for variant, versus in findings.versus.items():
        names = (
            list(versus.contrasts["factor"].unique()) if len(versus.contrasts) else []
        )
        first = [name for name in HEADLINE if name in names] or names[:4]
        for name in first:
            contrasts = versus.contrasts[versus.contrasts["factor"] == name]
            kind = (
                "log MT/ST" if (contrasts["kind"] == "log ratio").all() else "MT − ST"
            )
            cloud = pd.DataFrame(
                {
                    "x": contrasts["contrast"].to_numpy(float),
                    "y": contrasts["gap"].to_numpy(float),
                    "training loss (nats)": np.exp(
                        contrasts["log_loss"].to_numpy(float)
                    ),
                    "task": contrasts["task"].to_numpy(object),
                    "variant": variant,
                }
            )
            title = factor_label(name).partition(" (")[0]
            title += f", {variant}" * (len(findings.versus) > 1)
            panels.append(
                charts.scatter(
                    title,
                    cloud,
                    Axis(f"contrast, {kind}", zero=True),
                    Axis("gap (nats), + MT worse", zero=True),
                    looks,
                    note=rho(table, findings.setting, variant, factor=name),
                    gradient="training loss (nats)",
                )
            )
    if panels:
        text = (
            "A point is a bin of training loss of a task and a pair of an ST and an MT "
            "run. To the right MT has more of the factor than ST at the same training "
            "loss; above 0 it generalizes worse. ρ: Spearman with its 95% interval, "
            "tasks and runs resampled (points of a pair of runs are not independent)."
        )
        title = "Gap against each factor's contrast"
        yield Picture("contrasts", title, text, panels, {})
