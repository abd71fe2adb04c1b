"""A limit to the length of a direction, from the Gramian."""

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.solvers import simplex
from mtl_jax.types import Array


def at_most(max_norm: float | Array, gram: Gram, weights: Array) -> Array:
    """Scale weights ``[T]`` down where their direction is longer; 0 is no limit."""
    norm = simplex.norm(gram, weights)
    longer = (max_norm > 0) & (norm > max_norm)
    return weights * jnp.where(longer, max_norm / jnp.where(longer, norm, 1), 1)
