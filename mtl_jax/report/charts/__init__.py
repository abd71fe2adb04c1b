"""Charts of an experiment, from its records and from the tables of `analysis`.

A `Picture` is a row of panels, a `Panel` a specification of Vega-Lite with the table
that it draws. Variants look the same in all of them: `looks`.

>>> looks(["single", "multi"])["single"].color
'#000000'
"""

from mtl_jax.report.charts.axis import Axis, steps
from mtl_jax.report.charts.bars import bars
from mtl_jax.report.charts.curves import curves
from mtl_jax.report.charts.heat import heat
from mtl_jax.report.charts.intervals import intervals
from mtl_jax.report.charts.look import Look, looks
from mtl_jax.report.charts.panel import Panel, empty
from mtl_jax.report.charts.picture import Picture
from mtl_jax.report.charts.scatter import scatter
from mtl_jax.report.charts.trajectories import Trajectories, bundle, indexed, mean_over

__all__ = [
    "Axis",
    "Look",
    "Panel",
    "Picture",
    "Trajectories",
    "bars",
    "bundle",
    "curves",
    "empty",
    "heat",
    "indexed",
    "intervals",
    "looks",
    "mean_over",
    "scatter",
    "steps",
]
