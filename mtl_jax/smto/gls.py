"""Geometric loss strategy (Chennupati et al., 2019)."""

import jax.numpy as jnp

from mtl_jax.smto.contract import LossWeighting, positive, stateless
from mtl_jax.types import Array, PyTree


def gls() -> LossWeighting:
    """Minimise the geometric mean of the losses: weights ``L / (T l_i)``.

    ``L = (prod_i l_i)^(1/T)`` is the exponential of a mean of logarithms here, which
    neither over- nor underflows. Losses must be positive. Source: Chennupati et al.,
    CVPR Workshops 2019, Eq. 3.
    """

    def update(losses: Array, state: PyTree, key: Array) -> tuple[Array, PyTree]:
        del key
        logs = jnp.log(positive(losses))
        return jnp.exp(logs.mean() - logs) / losses.shape[0], state

    return LossWeighting(stateless, update)
