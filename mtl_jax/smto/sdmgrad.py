"""Direction-oriented multi-objective learning (Xiao, Ban & Ji, 2023)."""

import jax.numpy as jnp
from jax import lax

from mtl_jax import tree
from mtl_jax.gradients.gramian import Gram, of
from mtl_jax.smto.contract import (
    CrossWeighting,
    check_count,
    check_range,
    check_reduction,
    exact,
    reduce,
)
from mtl_jax.smto.solvers import simplex
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array


def sdmgrad(
    penalty: float = 0.3,
    iterations: int = 20,
    learning_rate: float = 1.0,
    momentum: float = 0.5,
    reduction: str = "sum",
) -> CrossWeighting:
    """Find min-norm weights, drawn towards the mean gradient, by double sampling.

    ``w`` descends on ``|J'w|^2 / 2 + penalty <J'w, g0>`` over the simplex, by projected
    steps on ``A = J1 J2'`` of two independent batches, from where it was at the last
    update; the weights ``(w + penalty / T) / (1 + penalty)`` are applied to a third.
    Source: Xiao, Ban & Ji, NeurIPS 2023, Algorithm 1. Their code uses one batch for all
    three, and steps so long (10 times the inverse of a squared mean length) that the
    weights are thrown from corner to corner of the simplex; here a step is relative to
    the largest row of ``A``, and converges.

    Args:
      penalty: the authors' lambda: 0.3 in their scripts, 0.6 in their class.
      iterations: projected steps an update.
      learning_rate: of those steps, relative to the inverse of the norm of ``A``.
      momentum: of those steps.
      reduction: ``mean``: weights sum to 1; ``sum``: to ``T``.

    Raises:
      InputError: an option out of its range.
    """
    check_reduction(reduction)
    penalty = check_range("sdmgrad's penalty", penalty, 0, float("inf"))
    learning_rate = check_range(
        "learning_rate", learning_rate, 0, float("inf"), open_low=True
    )
    momentum = check_range("sdmgrad's momentum", momentum, 0, 1)
    iterations = check_count("sdmgrad's iterations", iterations, 1)

    def init(num_tasks: int) -> Array:
        return jnp.full(num_tasks, 1 / num_tasks, jnp.float32)

    def update(
        cross: Gram, losses: Array, state: Array, key: Array
    ) -> tuple[Solution, Array]:
        del losses, key
        num_tasks = cross.shape[0]
        cross = of(cross)
        shares = cross.scales / cross.scales.max()
        relative = cross.values * shares[:, None] * shares[None, :]
        size = jnp.max(jnp.sum(jnp.abs(relative), axis=1))
        scaled = relative / jnp.where(size > 0, size, 1)
        pull = penalty * scaled.mean(axis=1)

        def step(_: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            w, velocity = carry
            slope = jnp.matmul(scaled, w, precision=tree.HIGHEST) + pull
            velocity = momentum * velocity + slope
            return simplex.project(w - learning_rate * velocity), velocity

        start = (state, jnp.zeros_like(state))
        weights, _ = lax.fori_loop(0, iterations, step, start)
        total = (weights + penalty / num_tasks) / (1 + penalty)
        return exact(reduce(total, reduction)), weights

    return CrossWeighting(init, update, combined=(2,))
