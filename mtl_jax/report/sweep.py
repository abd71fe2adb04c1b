"""Pictures of the sweep: validation over learning rates and batch sizes."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame
from mtl_jax.objectives.measure import Measure
from mtl_jax.report import charts
from mtl_jax.report.charts import Axis, Look, Panel, Picture
from mtl_jax.report.charts.labels import label, short
from mtl_jax.report.charts.look import other
from mtl_jax.report.findings import Findings
from mtl_jax.report.text import counted, fixed

MOST_CHOICES = 12
"""Choices up to which every one has a panel; of more, every variant has one."""
FLOOR = 1 / 3
"""Share of the candidates that are so much worse that they have one colour."""
MOST_RATES = 20
"""Learning rates up to which they are rows; more are those of a search."""
MOST_OPTIONS = 2
"""Named in a cell."""
ANY_UNIT = "way from the worst to the best (%)"


def sweep(findings: Findings, looks: Mapping[str, Look]) -> Iterator[Picture]:
    """Yield the heat maps of a setting, if there was something to choose."""
    if not findings.choice.several:
        return
    table = _shaded(findings)
    apart = table.groupby(["variant", "task"], sort=False)
    groups = [(v, t, rows) for (v, t), rows in apart]
    joined = len(groups) > MOST_CHOICES
    if joined:
        groups = [(v, "", rows) for v, rows in table.groupby("variant", sort=False)]
    names = table["by"].unique()
    measure = _measure(findings, names[0]) if len(names) == 1 else None
    shown = label(names[0], measure) if measure else ANY_UNIT
    less = measure is not None and measure.direction < 0
    domain = _domain(table["shade"].to_numpy(float), less)
    searched = table["learning_rate"].nunique() > MOST_RATES
    sizes = {
        size: other(number)._replace(label=f"batch {size}")
        for number, size in enumerate(sorted(table["batch_size"].unique()))
    }
    panels = []
    for variant, task, rows in groups:
        title = f"{short(variant)}, {short(task)}" if task else short(variant)
        if searched:
            panels.append(_cloud(title, rows, shown, sizes))
            continue
        panels.append(
            charts.heat(
                title,
                tiles(rows),
                ("batch size", "learning rate"),
                shown,
                scheme="yellowgreenblue",
                domain=domain,
                orders=(
                    sorted(table["batch_size"].unique()),
                    sorted(table["learning_rate"].unique(), reverse=True),
                ),
                reverse=less,
                color=looks[variant].color,
            )
        )
    tasks = len({task for _, task, _ in groups if task})
    columns = tasks if 2 <= tasks <= 4 else 4
    legend = _by_label(sizes) if searched else {}
    text = _caption(findings, joined, shown, searched)
    yield Picture("sweep", "The sweep", text, panels, legend, columns)


def _cloud(title: str, candidates: Frame, shown: str, sizes: dict[int, Look]) -> Panel:
    """Draw the candidates of a search as points, those of a batch size alike."""
    cells = candidates.groupby(["learning_rate", "batch_size"], as_index=False)
    rows = cells.agg(
        y=("shade", "mean"), chosen=("chosen", "any"), options=("options", "first")
    )
    points = pd.DataFrame(
        {
            "variant": [sizes[size].label for size in rows["batch_size"]],
            "x": rows["learning_rate"],
            "y": rows["y"],
            "options": rows["options"],
            "hollow": ~rows["chosen"],
        }
    ).astype({"variant": object, "options": object})
    x, y = Axis("learning rate", scale="log"), Axis(shown)
    return charts.scatter(title, points, x, y, _by_label(sizes))


def _by_label(sizes: dict[int, Look]) -> dict[str, Look]:
    return {look.label: look for look in sizes.values()}


def _caption(findings: Findings, joined: bool, shown: str, searched: bool) -> str:
    table = findings.choice.candidates
    mean = "seeds" + " and tasks" * (joined or bool((table["task"] == "").any()))
    if searched:
        return (
            f"Best validation value along a run, {shown}, mean over {mean}, of every "
            f"candidate that was drawn. Filled: chosen."
        )
    text = (
        f"Best validation value along a run, {shown}, mean over {mean}, of every "
        f"learning rate and batch size; the darker the better, with the same colours "
        f"in all panels (the worst third of the candidates has one). Framed: chosen"
    )
    if joined and (table["task"] != "").any():
        text += ", of variants that chose task by task with the number of tasks"
    text += ". ×: every run diverged" + ", of some task" * joined + "."
    if (table.groupby("variant")["options"].nunique() > 1).any():
        text += " Small print: the options of the optimizer that were tried there."
    return text


def _shaded(findings: Findings) -> Frame:
    """Add numbers in the unit of the page to the candidates, and shades."""
    table = findings.choice.candidates
    measures = [_measure(findings, name) for name in table["by"]]
    factors = np.array([measure.factor for measure in measures])
    table = table.assign(value=factors * table["validation"])
    table["digits"] = [measure.digits for measure in measures]
    table["lost"] = (table["diverged"] == table["runs"]) | table["value"].isna()
    table["shade"] = table["value"]
    if table["by"].nunique() > 1:
        table["sign"] = [measure.direction for measure in measures]
        signed = (table["sign"] * table["value"]).groupby(
            [table["variant"], table["task"]]
        )
        low, high = signed.transform("min"), signed.transform("max")
        span = (high - low).where(high > low, 1.0)
        table["shade"] = 100 * (table["sign"] * table["value"] - low) / span
    return table


def _measure(findings: Findings, by: str) -> Measure:
    """Look up what chose; nothing did where every run diverged before validation."""
    return findings.table.measure(by) if by else Measure(1, "")


def _domain(shades: np.ndarray, less_is_better: bool) -> tuple[float, float]:
    """Choose the ends of the colours: the worst third of the candidates has one."""
    known = shades[np.isfinite(shades)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if less_is_better:
        high = float(np.quantile(known, 1 - FLOOR))
    else:
        low = float(np.quantile(known, FLOOR))
    pad = 0.0 if high > low else abs(low) * 0.01 or 0.01
    return low - pad, high + pad


class Tile(NamedTuple):
    """A row of `charts.heat`: a candidate."""

    column: int
    row: float
    value: float
    text: str
    chosen: bool
    lost: bool


def tiles(candidates: Frame) -> Frame:
    """Make the cells of a variant, means over its tasks."""
    cells = candidates.groupby(["learning_rate", "batch_size"])
    several, one_unit = (
        candidates["task"].nunique() > 1,
        candidates["by"].nunique() == 1,
    )
    digits = int(candidates["digits"].iloc[0]) if one_unit else 0
    parts = [set(text.split(", ")) for text in candidates["options"].unique()]
    alike = set.intersection(*parts)
    made = [_tile(cell, rows, several, alike, digits, one_unit) for cell, rows in cells]
    return pd.DataFrame(made, columns=list(Tile._fields))


def _tile(
    cell: tuple[float, int],
    rows: Frame,
    several: bool,
    alike: set[str],
    digits: int,
    one_unit: bool,
) -> Tile:
    lost, count = bool(rows["lost"].any()), int(rows["chosen"].sum())
    shade = float(rows["shade"].mean())
    value = float(rows["value"].mean()) if one_unit else shade
    options = filter(None, rows["options"].iloc[0].split(", "))
    notes = [text for text in options if text not in alike][:MOST_OPTIONS]
    gone, runs = int(rows["diverged"].sum()), int(rows["runs"].sum())
    notes += [f"{gone}/{runs} ×"] * (0 < gone < runs and not lost)
    notes += [counted(count, "task")] * (several and count > 0)
    text = "\n".join(["×" if lost else fixed(value, digits), *notes])
    rate, size = cell
    return Tile(size, rate, np.nan if lost else shade, text, count > 0, lost)
