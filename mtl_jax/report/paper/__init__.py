"""Reports of the paper's experiments: its figures and tables, made from records.

`write` leaves ``tables/*.csv`` and ``report/index.html`` in a folder. The page begins
with the experiments, as the paper shows them, and the general report follows.
"""

from mtl_jax.report.paper.experiments import EXPERIMENTS
from mtl_jax.report.paper.folder import TABLES, write

__all__ = ["EXPERIMENTS", "TABLES", "write"]
