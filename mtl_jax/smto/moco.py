"""Multi-objective gradient correction (Fernando et al., 2023)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients.gramian import gramian
from mtl_jax.smto.contract import (
    Aggregate,
    Aggregator,
    check_range,
    check_reduction,
    reduce,
    zero_rows,
)
from mtl_jax.smto.solvers import simplex
from mtl_jax.types import Array, PyTree


class MocoState(NamedTuple):
    """Tracked gradients and the weights."""

    count: Array
    """Updates seen, int32 ``[]``."""
    tracked: PyTree
    """``[T, ...]``."""
    weights: Array
    """On the simplex ``[T]``."""


def moco(
    beta: float = 0.5,
    beta_sigma: float = 0.5,
    gamma: float = 0.1,
    gamma_sigma: float = 0.5,
    rho: float = 0.0,
    reduction: str = "sum",
) -> Aggregator:
    """Track the gradients over time, and step towards their min-norm weights.

    ``Y <- Y - beta_k (Y - J)`` from 0, ``w <- P(w - gamma_k (Y Y' + rho I) w)`` with
    the projection ``P`` on the simplex, ``beta_k = beta / k^beta_sigma`` and
    ``gamma_k`` likewise at update ``k``; direction ``Y' w``. The step of the weights is
    proportional to the gradients' squared lengths. Source: Fernando et al., ICLR 2023,
    Algorithm 1. LibMTL puts a softmax in place of the projection, which keeps the
    weights close to equal.

    Args:
      beta: step of the tracking.
      beta_sigma: how fast it falls.
      gamma: step of the weights.
      gamma_sigma: how fast it falls.
      rho: an l2 penalty on the weights.
      reduction: ``mean``: weights sum to 1; ``sum``: to ``T``.

    Raises:
      InputError: an option out of its range.
    """
    check_reduction(reduction)
    beta = check_range("moco's beta", beta, 0, 1, open_low=True)
    gamma = check_range("moco's gamma", gamma, 0, float("inf"), open_low=True)
    beta_sigma = check_range("moco's beta_sigma", beta_sigma, 0, float("inf"))
    gamma_sigma = check_range("moco's gamma_sigma", gamma_sigma, 0, float("inf"))
    rho = check_range("moco's rho", rho, 0, float("inf"))

    def init(params: PyTree, num_tasks: int) -> MocoState:
        return MocoState(
            jnp.zeros((), jnp.int32),
            zero_rows(params, num_tasks),
            jnp.full(num_tasks, 1 / num_tasks, jnp.float32),
        )

    def update(
        grads: PyTree, losses: Array, state: MocoState, key: Array
    ) -> tuple[Aggregate, MocoState]:
        del losses, key
        count = state.count + 1
        k = count.astype(jnp.float32)
        step, pace = beta / k**beta_sigma, gamma / k**gamma_sigma
        tracked = jax.tree.map(
            lambda y, g: y - step.astype(y.dtype) * (y - g), state.tracked, grads
        )
        slope = gramian(tracked).products(state.weights)
        weights = simplex.project(state.weights - pace * (slope + rho * state.weights))
        used = reduce(weights, reduction)
        aggregate = Aggregate(tree.combine(used, tracked), used, jnp.zeros(()))
        return aggregate, MocoState(count, tracked, weights)

    return Aggregator(init, update)
