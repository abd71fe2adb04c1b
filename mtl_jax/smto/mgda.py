"""Multiple-gradient descent (Desideri, 2012; Sener & Koltun, 2018)."""

import jax.numpy as jnp

from mtl_jax.smto import simplex
from mtl_jax.smto.contract import GramianWeighting, check_reduction, reduce, stateless
from mtl_jax.types import Array, PyTree


def mgda(reduction: str = "sum") -> GramianWeighting:
    """The point of least norm in the convex hull of the gradients.

    ``w = argmin over the simplex of w' G w``. A zero gradient is that point: the
    direction is 0 and training stalls. Source: Sener & Koltun, NeurIPS 2018, Eq. 3.
    """
    check_reduction(reduction)

    def update(
        gram: Array, losses: Array, state: PyTree, key: Array
    ) -> tuple[Array, PyTree]:
        del losses, key
        scaled = simplex.normalise(gram)
        weights = simplex.minimise_quadratic(scaled, jnp.zeros_like(scaled[0]))
        return reduce(weights, reduction), state

    return GramianWeighting(stateless, update)
