"""Weights that are learned along with the network, by gradient descent on one loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.smto.contract import LossWeighting, check_range, positive
from mtl_jax.types import Array, PyTree


class LearnedState(NamedTuple):
    """Parameters of the weights, and their optimizer's state."""

    s: Array
    """``[T]``."""
    opt: PyTree


def learned(
    weigh: Callable[[Array], tuple[Array, Array]], learning_rate: float
) -> LossWeighting:
    """Learn parameters ``s [T]`` of weights and a regulariser, from 0, by Adam.

    Losses are floored at rounding of their mean: of a loss that stays 0 the optimum of
    ``s`` is infinite, and with it the weight.

    Args:
      weigh: ``s [T] -> (weights [T], regulariser [])``; ``s`` descends
        along the gradient of ``weights @ losses + regulariser``.
      learning_rate: of Adam on ``s``.

    Raises:
      InputError: the learning rate is not positive.
    """
    learning_rate = check_range(
        "learning_rate", learning_rate, 0, float("inf"), open_low=True
    )
    adam: Any = optax.adam(learning_rate)

    def init(num_tasks: int) -> LearnedState:
        s = jnp.zeros(num_tasks)
        return LearnedState(s, adam.init(s))

    def update(
        losses: Array, state: LearnedState, key: Array
    ) -> tuple[Array, LearnedState]:
        del key

        def objective(s: Array) -> tuple[Array, Array]:
            weights, regulariser = weigh(s)
            return jnp.dot(weights, positive(losses)) + regulariser, weights

        grad, weights = jax.grad(objective, has_aux=True)(state.s)
        step, opt = adam.update(grad, state.opt)
        return weights, LearnedState(state.s + step, opt)

    return LossWeighting(init, update)
