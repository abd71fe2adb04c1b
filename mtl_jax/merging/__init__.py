"""Merging: one model of what was trained apart, as pure functions of stacked trees.

Solutions ``[T, ...]`` that were trained from one start are averaged, or the ways to
them, the task vectors, are added up: with one scale, with signs that agree, or with
coefficients that are learned. Branches of one training are merged as far as they help a
target. All works under ``jit``, and under ``vmap`` over seeds.
"""

from mtl_jax.merging.adamerging import adamerging
from mtl_jax.merging.atlas import atlas, mean_norm
from mtl_jax.merging.average import average, fisher_average
from mtl_jax.merging.composition import (
    arithmetic,
    compose,
    partition,
    per_layer,
    per_task,
)
from mtl_jax.merging.greedy import Greedy, greedy_merge
from mtl_jax.merging.learning import Corners, Learned, Variables, learn, unit_interval
from mtl_jax.merging.task_losses import (
    entropy,
    of_all,
    of_each,
    of_heads,
    pseudo_label_loss,
    supervised,
    taught,
    unsupervised,
)
from mtl_jax.merging.ties import consistent, elect, ties, trim
from mtl_jax.merging.tint import by_row, tint, visits
from mtl_jax.merging.vectors import cosines, cosines_to, lengths, task_vectors

__all__ = [
    "Corners",
    "Greedy",
    "Learned",
    "Variables",
    "adamerging",
    "arithmetic",
    "atlas",
    "average",
    "by_row",
    "compose",
    "consistent",
    "cosines",
    "cosines_to",
    "elect",
    "entropy",
    "fisher_average",
    "greedy_merge",
    "learn",
    "lengths",
    "mean_norm",
    "of_all",
    "of_each",
    "of_heads",
    "partition",
    "per_layer",
    "per_task",
    "pseudo_label_loss",
    "supervised",
    "task_vectors",
    "taught",
    "ties",
    "tint",
    "trim",
    "unit_interval",
    "unsupervised",
    "visits",
]
