"""Random loss weighting (Lin et al., 2022)."""

import jax

from mtl_jax.smto.contract import (
    LossWeighting,
    check_key,
    check_reduction,
    reduce,
    stateless,
)
from mtl_jax.types import Array, PyTree


def rlw(reduction: str = "sum") -> LossWeighting:
    """Weights ``softmax(xi)``, ``xi ~ N(0, I)``, drawn anew at every step.

    Source: Lin, Ye, Zhang & Tsang, TMLR 2022, Algorithm 1. With ``mean`` the weights
    sum to 1, with ``sum`` to ``T``.
    """
    check_reduction(reduction)

    def update(losses: Array, state: PyTree, key: Array) -> tuple[Array, PyTree]:
        check_key(key)
        draws = jax.random.normal(key, losses.shape, losses.dtype)
        return reduce(jax.nn.softmax(draws), reduction), state

    return LossWeighting(stateless, update)
