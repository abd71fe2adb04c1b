"""Task weights that help a primary task on other data (Liu et al., 2022)."""

from typing import Any

import jax.numpy as jnp
import optax

from mtl_jax.gradients.gramian import Gram, of
from mtl_jax.smto.contract import (
    CrossWeighting,
    check_count,
    check_range,
    check_task,
    exact,
)
from mtl_jax.smto.learned import LearnedState
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.tree import HIGHEST
from mtl_jax.types import Array


def auto_lambda(
    learning_rate: float = 1e-4, initial: float = 0.1, primary: int = 0
) -> CrossWeighting:
    """Learn weights by what a step on each task does to a primary one on other data.

    The loss of the primary task after a step, on data that the step has not seen,
    ``l_p(theta - alpha sum_i w_i g_i; B')``, has the slope ``-alpha <g_p(B'), g_i(B)>``
    in ``w_i``: exact for small ``alpha``, and free of the second derivatives that the
    authors take by finite differences. ``w`` follows it by Adam, whose step does not
    depend on ``alpha``, and stays at least 0. ``B`` and ``B'`` are two halves of the
    batch, where the authors take validation data. The direction is that of both halves.
    Source: Liu, James, Davison & Johns, TMLR 2022 (arXiv:2202.03091), Eq. 4 and 5.

    Args:
      learning_rate: of Adam on the weights.
      initial: weight of all tasks at first.
      primary: number of the primary task; of a group with a target, that is 0.

    Raises:
      InputError: an option out of its range; no such task (said when the run is set
        up).
    """
    learning_rate = check_range(
        "auto_lambda's learning_rate", learning_rate, 0, float("inf"), open_low=True
    )
    initial = check_range(
        "auto_lambda's initial", initial, 0, float("inf"), open_low=True
    )
    primary = check_count("auto_lambda's primary", primary, 0)
    adam: Any = optax.adam(learning_rate)

    def init(num_tasks: int) -> LearnedState:
        check_task("auto_lambda's primary", primary, num_tasks)
        weights = jnp.full(num_tasks, initial, jnp.float32)
        return LearnedState(weights, adam.init(weights))

    def update(
        cross: Gram, losses: Array, state: LearnedState, key: Array
    ) -> tuple[Solution, LearnedState]:
        del losses, key
        number = jnp.arange(state.s.shape[0])
        gram = of(cross)
        chosen = (number == primary).astype(gram.dtype)
        helps = jnp.matmul(gram.values, chosen, precision=HIGHEST) * gram.scales
        largest = jnp.abs(helps).max()  # so that Adam's eps is small beside it
        helps = helps / jnp.where(largest > 0, largest, 1)
        step, opt = adam.update(-helps, state.opt)
        weights = jnp.maximum(state.s + step, 0)
        return exact(state.s), LearnedState(weights, opt)

    return CrossWeighting(init, update, combined=(0, 1))
