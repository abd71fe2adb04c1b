"""Figures of an experiment, from its records and from the tables of `analysis`.

A function makes one figure (``matplotlib.figure.Figure``, no pyplot, no display), for
a desk or, ``narrow``, for a phone. Variants look the same in all of them: `looks`.

>>> looks(["single", "multi"])["single"].color
'#000000'
"""

from mtl_jax.report.plots.bundle import Trajectories, indexed
from mtl_jax.report.plots.conflict import conflict, cosines, matrices
from mtl_jax.report.plots.correlation import Cloud, conflict_effects, contrasts
from mtl_jax.report.plots.costs import costs
from mtl_jax.report.plots.effects import MEAN, Effects, Interval, effects, task_effects
from mtl_jax.report.plots.factors import UNITS, factors
from mtl_jax.report.plots.gap import GapTables, gap
from mtl_jax.report.plots.learning import learning
from mtl_jax.report.plots.ranking import ranking
from mtl_jax.report.plots.style import PIXELS_PER_INCH, Look, looks, png, svg
from mtl_jax.report.plots.sweep import Grid, Tile, sweep
from mtl_jax.report.plots.verdict import Mark, Panel, Points, correlations, intervals
from mtl_jax.report.plots.weights import weighed, weights

__all__ = [
    "MEAN",
    "PIXELS_PER_INCH",
    "UNITS",
    "Cloud",
    "GapTables",
    "Effects",
    "Grid",
    "Interval",
    "Look",
    "Mark",
    "Panel",
    "Points",
    "Tile",
    "Trajectories",
    "conflict",
    "conflict_effects",
    "contrasts",
    "correlations",
    "cosines",
    "costs",
    "effects",
    "factors",
    "gap",
    "indexed",
    "learning",
    "intervals",
    "looks",
    "matrices",
    "png",
    "ranking",
    "svg",
    "sweep",
    "task_effects",
    "weighed",
    "weights",
]
