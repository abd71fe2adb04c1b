"""A limit to the length of a direction, from the Gramian."""

import jax.numpy as jnp

from mtl_jax.gramian import Gram
from mtl_jax.smto.solvers import simplex
from mtl_jax.types import Array


def at_most(max_norm: float, gram: Gram, weights: Array) -> Array:
    """Weights ``[T]``, shrunk where their direction is longer; 0 is no limit."""
    if max_norm == 0:
        return weights
    norm = simplex.norm(gram, weights)
    return weights * jnp.minimum(1, max_norm / jnp.where(norm > 0, norm, max_norm))
