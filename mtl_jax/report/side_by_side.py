"""Tables of several workdirs side by side: what differs, and what came of it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mtl_jax.objectives.measure import Measure
from mtl_jax.report.charts import Look
from mtl_jax.report.charts.labels import label
from mtl_jax.report.findings import Findings
from mtl_jax.report.tables import Table
from mtl_jax.report.text import DASH, Cell, fixed

MOST_FIELDS = 60


def tables(settings: Sequence[Findings], looks: Mapping[str, Look]) -> list[Table]:
    """Tabulate several workdirs side by side; of one there is nothing to compare."""
    if len(settings) < 2:
        return []
    made = [differences(settings), scores(settings, looks)]
    return [table for table in made if table.rows]


def differences(settings: Sequence[Findings]) -> Table:
    """Tabulate the fields of the configurations that are not the same in all."""
    fields = dict.fromkeys(name for each in settings for name in each.config)
    rows = []
    for name in fields:
        values = [_spelt(each.config.get(name, DASH)) for each in settings]
        if len(set(values)) > 1:
            rows.append([Cell(name), *map(Cell, values)])
    left = len(rows) - MOST_FIELDS
    note = f"{left} more fields differ." if left > 0 else ""
    head = ["field", *(each.setting for each in settings)]
    return Table("differences", "What differs", head, rows[:MOST_FIELDS], note)


def scores(settings: Sequence[Findings], looks: Mapping[str, Look]) -> Table:
    """Tabulate test values of the tasks and variants that several workdirs have."""
    known: dict[tuple, dict[int, Cell]] = {}
    names: dict[tuple, str] = {}
    for number, each in enumerate(settings):
        if not len(each.at_best):
            continue
        for key, rows in each.at_best.groupby(["task", "name", "variant"], sort=False):
            measure = each.table.measure(key[1])
            names[key] = label(key[1], measure)
            known.setdefault(key, {})[number] = _mean(rows["value"], measure)
    places, order = range(len(settings)), list(looks)
    rows = [
        [
            Cell(task),
            Cell(names[task, name, variant]),
            Cell(looks[variant].label, color=looks[variant].color),
            *(cells.get(number, Cell(DASH)) for number in places),
        ]
        for (task, name, variant), cells in sorted(
            known.items(), key=lambda item: (*item[0][:2], order.index(item[0][2]))
        )
        if len(cells) > 1
    ]
    note = (
        "Each value at its best validation point, mean over seeds ± s.d. Workdirs are "
        "not tested against each other: they may differ in more than one field."
    )
    head = ["task", "test value", "variant", *(each.setting for each in settings)]
    return Table("scores", "Test values side by side", head, rows, note)


def _mean(values: pd.Series, measure: Measure) -> Cell:
    text = fixed(measure.factor * values.mean(), measure.digits)
    count = f"n = {len(values)}"
    if len(values) < 2:
        return Cell(text, count)
    spread = fixed(measure.factor * float(np.std(values, ddof=1)), measure.digits)
    return Cell(text, f"± {spread}, {count}")


def _spelt(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
