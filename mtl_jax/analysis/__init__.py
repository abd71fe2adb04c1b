"""Analysis of records by the claims: gap, transfer, factors, conflict.

Every function takes the records (`mtl_jax.storage.records.read`; those of several
workdirs may be concatenated) and returns a tidy table. ST is the ``baseline``, MT the
``variant``. Effects come with intervals, and what cannot be compared stays in the table
with the reason. Of several learning rates keep one first: `select`.

MT is at every training loss 0.1 nats worse than ST, in two seeds:

>>> import pandas as pd
>>> rows = [
...     ("digits", variant, seed, seed, 1e-3, 32, step, split, "", "ones", "loss", loss)
...     for variant, gap in (("single", 0.0), ("multi", 0.1))
...     for seed in (0, 1)
...     for step in range(5)
...     for split, loss in (("probe", 2.0**-step), ("test", 2 - 0.1 * step + gap))
... ]
>>> columns = ["setting", "variant", "run", "seed", "learning_rate", "batch_size"]
>>> columns += ["step", "split", "scope", "task", "name", "value"]
>>> df = pd.DataFrame(rows, columns=columns)
>>> found = gap_summary(df).query("task == 'ones' and statistic == 'mean'")
>>> found[["value", "low", "high"]].round(3).to_numpy().tolist()
[[0.1, 0.1, 0.1]]
>>> gap_curve(df.query("step == 0")).reason[0]  # one point makes no curve
"no sound curve of 'single': ..."
"""

from mtl_jax.analysis.claims import claims
from mtl_jax.analysis.conflict import conflict_effects
from mtl_jax.analysis.contrast import contrasts
from mtl_jax.analysis.correlation import correlate
from mtl_jax.analysis.curves import align, compared, curves
from mtl_jax.analysis.front import ends, fronts, hypervolume, undominated
from mtl_jax.analysis.gap import gap, gap_curve, gap_summary
from mtl_jax.analysis.optimization import optimization_effect
from mtl_jax.analysis.selection import (
    OVER,
    RULE,
    best_points,
    best_values,
    candidates,
    keep,
    select,
)
from mtl_jax.analysis.transfer import delta_m, transfer

__all__ = [
    "OVER",
    "RULE",
    "align",
    "claims",
    "best_points",
    "best_values",
    "candidates",
    "compared",
    "conflict_effects",
    "contrasts",
    "correlate",
    "curves",
    "delta_m",
    "ends",
    "fronts",
    "gap",
    "gap_curve",
    "gap_summary",
    "hypervolume",
    "keep",
    "optimization_effect",
    "select",
    "transfer",
    "undominated",
]
