"""Correlation-reduced multi-objective gradient manipulation (Zhou et al., 2022)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import GramianWeighting, check_range
from mtl_jax.smto.gramian import as_gramian
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array, PyTree


class CrMogmState(NamedTuple):
    """The smoothed weights."""

    started: Array
    """bool ``[]``."""
    weights: Array
    inner: PyTree


def cr_mogm(inner: Any = "mgda", alpha: float = 0.9) -> GramianWeighting:
    """Smooth another method's weights over time: ``w <- alpha w + (1 - alpha) w^``.

    The first weights are taken as they are. Less correlated with the latest batch, they
    make the direction less biased. Source: Zhou et al., NeurIPS 2022, Algorithm 1.

    Args:
      inner: a Gramian or loss weighting, or its name.
      alpha: weight of the past.

    Raises:
      InputError: alpha is outside [0, 1], or inner no weighting.
    """
    alpha = check_range("cr_mogm's alpha", alpha, 0, 1)
    method = as_gramian(inner, "cr_mogm")

    def init(num_tasks: int) -> CrMogmState:
        started = jnp.zeros((), bool)
        return CrMogmState(started, jnp.zeros(num_tasks), method.init(num_tasks))

    def update(
        gram: Gram, losses: Array, state: CrMogmState, key: Array
    ) -> tuple[Solution, CrMogmState]:
        latest, inner_state = method.update(gram, losses, state.inner, key)
        smooth = alpha * state.weights + (1 - alpha) * latest.weights
        weights = jnp.where(state.started, smooth, latest.weights)
        after = CrMogmState(jnp.ones((), bool), weights, inner_state)
        return latest._replace(weights=weights), after

    return GramianWeighting(init, update)
