"""Rotations, from matrices without constraint."""

from jax.scipy.linalg import expm

from mtl_jax.types import Array

GENERATOR = "rotation"
"""Name of the generator among the parameters of a head."""


def rotation(generator: Array) -> Array:
    """Make a rotation ``[D, D]`` of any matrix ``A [D, D]``: ``exp(A - A')``.

    >>> import jax.numpy as jnp, numpy as np
    >>> quarter = rotation(jnp.array([[0.0, -np.pi / 2], [0.0, 0.0]]))
    >>> print(np.asarray(quarter @ jnp.array([1.0, 0.0])).round(4) + 0.0)
    [0. 1.]
    """
    return expm(generator - generator.T)
