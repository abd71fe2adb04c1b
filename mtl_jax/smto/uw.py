"""Uncertainty weighting (Kendall et al., 2018)."""

import jax.numpy as jnp

from mtl_jax.smto.contract import LossWeighting
from mtl_jax.smto.learned import learned
from mtl_jax.types import Array


def uw(learning_rate: float = 0.025) -> LossWeighting:
    """Learn log-variances ``s`` of tasks: ``L = sum_i (exp(-s_i) l_i + s_i) / 2``.

    Weights ``exp(-s_i) / 2``; ``s`` starts at 0 and has an Adam of its own, without
    weight decay. Its optimum is ``s_i = log l_i``. Source: Kendall, Gal & Cipolla, CVPR
    2018, Eq. 7 with ``s = log sigma^2``; the learning rate is that of Navon et al.

    Raises:
      InputError: the learning rate is not positive.
    """

    def weigh(s: Array) -> tuple[Array, Array]:
        return jnp.exp(-s) / 2, jnp.sum(s) / 2

    return learned(weigh, learning_rate)
