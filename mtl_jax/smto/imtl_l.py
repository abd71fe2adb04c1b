"""Impartial multi-task learning, its loss balance (Liu et al., 2021)."""

import jax.numpy as jnp

from mtl_jax.smto.contract import LossWeighting
from mtl_jax.smto.learned import learned
from mtl_jax.types import Array


def imtl_l(learning_rate: float = 0.025) -> LossWeighting:
    """Learn log-scales ``s`` of the losses: ``L = sum_i (exp(s_i) l_i - s_i)``.

    Weights ``exp(s_i)``; ``s`` starts at 0 and has an Adam of its own. Its optimum is
    ``s_i = -log l_i``. It is uncertainty weighting with ``s`` turned round, times 2.
    Source: Liu et al., ICLR 2021, section 3.2.

    Raises:
      InputError: the learning rate is not positive.
    """

    def weigh(s: Array) -> tuple[Array, Array]:
        return jnp.exp(s), -jnp.sum(s)

    return learned(weigh, learning_rate)
