"""Batch statistics of models that no training has led to, recomputed on its data."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax.training.setting import Setting
from mtl_jax.training.step import Data, inputs
from mtl_jax.types import Array, PyTree

STATISTICS = "batch_stats"
"""Collection of a trunk's state, as flax names it."""
BATCHES = 50
"""From which they are made: of running means with a momentum of 0.9, the first counts
for half a percent."""


def has_statistics(state: PyTree) -> bool:
    """Tell whether a trunk has batch statistics, which no sum of models keeps."""
    return STATISTICS in state


def refreshed(
    setting: Setting, trunk: PyTree, state: PyTree, data: Data, rows: Array
) -> PyTree:
    """Return the state of a trunk after passes over training data in training mode.

    Only statistics change; a trunk without any is left as it is.

    Args:
      setting: of the trunk.
      trunk: its parameters.
      state: of one task, or of all where they see one input.
      data: the pool.
      rows: of it ``[N, B]``.
    """
    if not has_statistics(state):
        return state

    def step(state: PyTree, rows: Array) -> tuple[PyTree, None]:
        _, new = setting.represent(trunk, state, inputs(setting, data, rows))
        return {**state, STATISTICS: new[STATISTICS]}, None

    return lax.scan(step, state, rows)[0]


def averaged(states: PyTree) -> PyTree:
    """Average the states ``[T, ...]`` of trunks; of what is no statistic, the first."""

    def first(leaf: Array) -> Array:
        return leaf[0]

    made: Any = jax.tree.map(first, states)
    if has_statistics(states):
        mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), states[STATISTICS])
        made = {**made, STATISTICS: mean}
    return made
