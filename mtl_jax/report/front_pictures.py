"""Pictures of fronts: losses of two tasks at the end, for every preference."""

import itertools
from collections.abc import Iterator

from mtl_jax import analysis
from mtl_jax.analysis.front import FEWEST
from mtl_jax.analysis.variant import ray_of
from mtl_jax.report import charts
from mtl_jax.report.charts import Axis, Picture
from mtl_jax.report.charts.labels import short, spans
from mtl_jax.report.findings import Findings
from mtl_jax.report.text import counted

MOST_TASKS = 3
"""Number of tasks whose pairs are drawn."""


def fronts(findings: Findings) -> Iterator[Picture]:
    """Draw pairs of tasks, where variants differ in their preferences."""
    runs = analysis.ends(findings.records) if len(findings.fronts) else None
    if runs is None:
        return
    tasks = findings.tasks[:MOST_TASKS]
    looks = charts.looks(runs["family"].unique())
    panels = []
    for first, second in itertools.combinations(tasks, 2):
        pair = runs[runs["task"].isin([first, second])]
        keys = ["family", "variant", "seed"]
        table = pair.pivot(index=keys, columns="task", values="value").dropna()
        table = table.reset_index().rename(columns={first: "x", second: "y"})
        table["preference"] = table["variant"].map(ray_of)
        table["variant"] = table["family"]  # is what the legend hides
        rows = table[["variant", "preference", "seed", "x", "y"]]
        x, y = (
            Axis(
                f"test loss of {short(task)} (nats)",
                "log" if spans(rows[name].to_numpy(float)) else "linear",
            )
            for name, task in (("x", first), ("y", second))
        )
        title = f"{short(second)} against {short(first)}"
        panels.append(charts.scatter(title, rows, x, y, looks))
    text = (
        f"Test losses of two tasks at the end of every run, for variants with at least "
        f"{FEWEST} preferences and all others; less is better for both. A point is a "
        f"seed. {counted(len(findings.tasks), 'task')}; all pairs of the first "
        f"{MOST_TASKS} are drawn."
    )
    yield Picture("fronts", "Losses by preference", text, panels, looks)
