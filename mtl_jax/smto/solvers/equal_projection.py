"""The combination of unit gradients that projects equally on all of them.

``C y = 1`` with the cosines ``C = U U'``: then ``<u_i, U' y> = 1`` for every unit
gradient ``u_i``. Both ways agree where ``C`` has full rank.
"""

import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gramian import Gram
from mtl_jax.smto.solvers.solution import Solution, unit
from mtl_jax.types import Array


def dropped(gram: Gram) -> Solution:
    """``C^+ 1 [T]``: what lies outside the range of ``C`` is dropped.

    The residual is the largest error of a projection within that range.
    """
    values, vectors, ones, threshold = _decompose(gram)
    kept = values > threshold
    parts = vectors.T @ ones
    y = vectors @ jnp.where(kept, parts / jnp.where(kept, values, 1), 0)
    return _refined(gram, y, vectors @ jnp.where(kept, parts, 0), vectors, values, kept)


def clamped(gram: Gram) -> Solution:
    """``y [T]``, where directions that ``C`` annihilates dominate: ``U' y = 0`` there.

    The limit of ``(C + e I)^-1 1`` but for its length. The residual is the largest
    error of a projection, relative to the largest part of it.
    """
    values, vectors, ones, threshold = _decompose(gram)
    parts = vectors.T @ ones
    # A part of rounding, blown up, would be noise.
    parts = jnp.where(jnp.abs(parts) > threshold, parts, 0)
    kept = values > threshold
    y = vectors @ (parts / jnp.maximum(values, threshold))
    singular = jnp.any(~kept & (parts != 0))
    within = _refined(gram, y, ones, vectors, values, kept)
    annihilated = vectors @ jnp.where(kept, 0, parts / threshold)
    return Solution(
        jnp.where(singular, annihilated, within.weights),
        jnp.where(singular, 0, within.residual),
    )


def _decompose(gram: Gram) -> tuple[Array, Array, Array, Array]:
    """Eigenvalues and vectors of the cosines, ones ``[T]``, and what counts as 0."""
    cosines, _, _, active = unit(gram)
    values, vectors = jnp.linalg.eigh(cosines)
    threshold = len(values) * jnp.finfo(gram.dtype).eps * values[-1]
    return values, vectors, active.astype(gram.dtype), threshold


def _refined(
    gram: Gram,
    y: Array,
    aim: Array,
    vectors: Array,
    values: Array,
    kept: Array,
) -> Solution:
    """Two steps of iterative refinement of ``C y = aim``, and the residual."""
    cosines = unit(gram).cosines
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)

    def error(y: Array) -> Array:
        return aim - jnp.matmul(cosines, y, precision=tree.HIGHEST)

    for _ in range(2):
        y = y + vectors @ (inverse * (vectors.T @ error(y)))
    rounding = jnp.maximum(1, jnp.max(jnp.abs(cosines) @ jnp.abs(y)))
    return Solution(y, jnp.max(jnp.abs(error(y))) / rounding)
