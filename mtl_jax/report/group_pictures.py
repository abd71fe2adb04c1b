"""Pictures of groups: who helps whom, as pairs of tasks were measured."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mtl_jax.analysis.grouping import members
from mtl_jax.report import charts
from mtl_jax.report.charts import Picture
from mtl_jax.report.cosines import MOST_NUMBERS, SCHEME
from mtl_jax.report.findings import Findings
from mtl_jax.report.text import fixed


def pairs(findings: Findings) -> Iterator[Picture]:
    """Draw the transfer of all pairs that were trained, auxiliary by target."""
    table = findings.transfers
    if not len(table):
        return
    means = table.groupby(["target", "group"])["value"].mean().reset_index()
    few = len(findings.tasks) <= MOST_NUMBERS
    cells = [
        (target, other, value, fixed(value, 1, sign=True) if few else "")
        for target, group, value in means.itertuples(index=False)
        for other in members(group)
        if other != target and len(members(group)) == 2
    ]
    if not cells:
        return
    rows = pd.DataFrame(cells, columns=["column", "row", "value", "text"])
    limit = float(np.abs(rows["value"]).max()) or 1.0
    panel = charts.heat(
        "",
        rows,
        ("target", "auxiliary"),
        "transfer (% of alone)",
        scheme=SCHEME,
        domain=(-limit, limit),
        orders=(findings.tasks, findings.tasks),
    )
    text = (
        "Transfer of every pair that was trained, mean over seeds: by how many percent "
        "of its score alone the target (column) changes with the auxiliary task (row); "
        "blue is better, red is worse. Not symmetric. Without an interval: noise alone "
        "colours cells, too."
    )
    yield Picture("pairs", "Who helps whom", text, [panel], {}, 1)
