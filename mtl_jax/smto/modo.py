"""Multi-objective gradient with double sampling (Chen et al., 2023)."""

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram, of
from mtl_jax.smto.contract import (
    CrossWeighting,
    check_range,
    check_reduction,
    exact,
    reduce,
)
from mtl_jax.smto.solvers import simplex
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array


def modo(
    gamma: float = 0.1, rho: float = 0.1, reduction: str = "sum"
) -> CrossWeighting:
    """Step towards the min-norm weights, by the gradients of two independent batches.

    ``w <- P(w - gamma (J1 J2' w + rho w))`` with the projection ``P`` on the simplex,
    once an update, from equal weights: unbiased, where the Gramian of one batch is not.
    The direction is that of both batches together. The step is proportional to the
    gradients' squared lengths. Source: Chen et al., NeurIPS 2023 ("Three-way trade-off
    in multi-objective learning"), Eq. 4.

    Args:
      gamma: step of the weights (LibMTL: 1e-3).
      rho: an l2 penalty on the weights.
      reduction: ``mean``: weights sum to 1; ``sum``: to ``T``.

    Raises:
      InputError: an option out of its range.
    """
    check_reduction(reduction)
    gamma = check_range("modo's gamma", gamma, 0, float("inf"), open_low=True)
    rho = check_range("modo's rho", rho, 0, float("inf"))

    def init(num_tasks: int) -> Array:
        return jnp.full(num_tasks, 1 / num_tasks, jnp.float32)

    def update(
        cross: Gram, losses: Array, state: Array, key: Array
    ) -> tuple[Solution, Array]:
        del losses, key
        slope = of(cross).products(state) + rho * state
        weights = simplex.project(state - gamma * slope)
        return exact(reduce(weights, reduction)), weights

    return CrossWeighting(init, update, combined=(0, 1))
