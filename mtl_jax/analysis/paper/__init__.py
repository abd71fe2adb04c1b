"""The paper's figures and tables, as frames, from records alone.

Of Mueller et al. (2024): `figure_1` to `figure_4`, `figures_5_6` and `table_1`, and
transfer against `temperature` (Mueller et al., 2022). Numbers that the paper prints are
in `PRINTED`. Scores are in the unit that their rows name, of ``%`` in percent. Of a
variant with a target, only the target has rows.

With fashion_2 the target gains two points, with noisy labels it loses two:

>>> import pandas as pd
>>> gain = {"single": 0, "multi:a/b": 0.02, "multi:a/c": -0.02}
>>> rows = [
...     ("fashion", v, v[6:], v[6:7], seed, seed, 0.1, 32, step, step, split, "a",
...      "accuracy", 1, "%", 0.8 + gain[v] + 0.001 * seed)
...     for v in gain for seed in (0, 1, 2) for step in (1, 2)
...     for split in ("validation", "test")
... ]
>>> names = "setting variant group target run seed learning_rate batch_size step epoch"
>>> names += " split task name direction unit value"
>>> table = table_1(pd.DataFrame(rows, columns=names.split()))
>>> table[["group", "transfer", "significant"]].round(6).to_numpy().tolist()
[['a/b', 2.0, True], ['a/c', -2.0, True]]
"""

from mtl_jax.analysis.paper.auxiliary import figures_5_6, similarity_correlations
from mtl_jax.analysis.paper.printed import PRINTED, SCORES, SIGNS, Printed, printed
from mtl_jax.analysis.paper.remedies import figure_4
from mtl_jax.analysis.paper.table import TABLE, shades, table_1
from mtl_jax.analysis.paper.temperature import best_temperatures, temperature
from mtl_jax.analysis.paper.trajectories import MEAN, figure_1, figure_2, figure_3, gaps

__all__ = [
    "MEAN",
    "PRINTED",
    "SCORES",
    "SIGNS",
    "TABLE",
    "Printed",
    "best_temperatures",
    "figure_1",
    "figure_2",
    "figure_3",
    "figure_4",
    "figures_5_6",
    "gaps",
    "printed",
    "shades",
    "similarity_correlations",
    "table_1",
    "temperature",
]
