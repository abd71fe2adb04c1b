"""Gradient normalisation (Chen et al., 2018)."""

from typing import NamedTuple

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram, of
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_losses,
    check_range,
    check_reduction,
    exact,
    positive,
    reduce,
)
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array


class GradNormState(NamedTuple):
    """Learned weights and the losses at the start."""

    weights: Array
    """``[T]``, of sum ``T``."""
    first: Array
    """Losses of the first update ``[T]``; zeros before it."""


LOWEST = 1e-3
"""Least value of a weight: at 0 it would stay there."""


def gradnorm(
    alpha: float = 1.5, learning_rate: float = 0.025, reduction: str = "sum"
) -> GramianWeighting:
    """Learn weights that make slow tasks' gradients longer.

    With ``N_i = w_i |g_i|`` and ``r_i`` the loss relative to the first one, divided by
    its mean over tasks, the weights descend on ``sum_i |N_i - mean(N) r_i^alpha|`` (the
    target held fixed) and are scaled to sum to ``T``. The step is proportional to the
    gradients' lengths, as in the source: Chen et al., ICML 2018, Algorithm 1. Here the
    lengths are those on the whole trunk.

    Args:
      alpha: strength of the pull towards equal training rates.
      learning_rate: of the weights, by plain gradient descent.
      reduction: ``sum``: weights sum to ``T``; ``mean``: to 1.

    Raises:
      InputError: an option out of its range; at the first update, losses are missing.
    """
    check_reduction(reduction)
    alpha = check_range("gradnorm's alpha", alpha, 0, float("inf"))
    learning_rate = check_range(
        "learning_rate", learning_rate, 0, float("inf"), open_low=True
    )

    def init(num_tasks: int) -> GradNormState:
        return GradNormState(jnp.ones(num_tasks), jnp.zeros(num_tasks))

    def update(
        gram: Gram, losses: Array, state: GradNormState, key: Array
    ) -> tuple[Solution, GradNormState]:
        del key
        check_losses(losses)
        present = ~jnp.isnan(losses)
        norms = of(gram).lengths
        bounded = jnp.where(present, positive(losses), 0)
        first = jnp.where(state.first > 0, state.first, bounded)
        # No loss is less than 0 here: a rate has no power then.
        relative = jnp.maximum(losses, 0) / jnp.where(first > 0, first, 1)
        relative = jnp.where(present, relative, 0)
        mean = jnp.mean(relative, where=present)
        rate = jnp.where(mean > 0, relative / jnp.where(mean > 0, mean, 1), 1)
        lengths = state.weights * norms
        target = jnp.mean(lengths, where=present) * rate**alpha
        slope = jnp.where(present, jnp.sign(lengths - target) * norms, 0)
        moved = jnp.maximum(state.weights - learning_rate * slope, LOWEST)
        after = GradNormState(moved * (len(moved) / moved.sum()), first)
        weights = reduce(state.weights / len(moved), reduction)
        return exact(weights), after

    return GramianWeighting(init, update)
