"""Principal components of gradients whose lengths differ by orders of magnitude."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from mtl_jax.types import Array


def components(cosines: Array, norms: Array) -> tuple[Array, Array]:
    """Compute eigenvalues ``[T]`` and -vectors ``[T, T]`` of ``|g_i| C_ij |g_j|``.

    By Jacobi's rotations: they find small eigenvalues, and small entries of the
    vectors, to as many digits as large ones, as far as the cosines allow. Methods that
    start from a tridiagonal matrix find both to parts of the largest. Source: Demmel &
    Veselic, SIAM J. Matrix Anal. Appl. 13, 1992.

    >>> values, _ = components(jnp.eye(2), jnp.array([1e-4, 1e4]))
    >>> [f"{value:.6g}" for value in values.tolist()]
    ['1e-08', '1e+08']
    """
    count = len(norms)
    partners = jnp.asarray(_rounds(count))
    here = jnp.arange(count)

    def rotate(number: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        """Annihilate the entries of disjoint pairs of tasks."""
        gram, vectors = state
        other = partners[number % len(partners)]
        diagonal = jnp.diagonal(gram)
        entry = jnp.where(other == here, 0, gram[here, other])
        lead = (diagonal[other] - diagonal) / 2
        side = jnp.where(lead == 0, jnp.where(here < other, 1, -1), jnp.sign(lead))
        span = jnp.abs(lead) + jnp.hypot(lead, entry)
        tangent = side * entry / jnp.where(span > 0, span, 1)
        cosine = 1 / jnp.sqrt(1 + tangent**2)
        gram = gram - tangent[:, None] * gram[other]
        gram = gram - tangent[None, :] * gram[:, other]
        gram = cosine[:, None] * cosine[None, :] * gram
        gram = jnp.where(here[:, None] == other[None, :], 0, gram)
        diagonal = diagonal - tangent * entry
        gram = jnp.where(here[:, None] == here[None, :], diagonal[:, None], gram)
        vectors = cosine[None, :] * (vectors - tangent[None, :] * vectors[:, other])
        return gram, vectors

    start = norms[:, None] * cosines * norms[None, :], jnp.eye(count, dtype=norms.dtype)
    # Convergence is quadratic, once there: the last sweep or two find all digits.
    sweeps = 1 + count.bit_length()
    gram, vectors = lax.fori_loop(0, sweeps * len(partners), rotate, start)
    return jnp.diagonal(gram), vectors


def _rounds(count: int) -> np.ndarray:
    """Rounds of a tournament: everybody's partner ``[R, T]``; oneself is a rest."""
    ring = list(range(count + count % 2))
    rounds = []
    for _ in range(max(1, len(ring) - 1)):
        partner = np.empty(len(ring), np.int32)
        partner[ring] = ring[::-1]
        partner = partner[:count]
        rounds.append(np.where(partner < count, partner, np.arange(count)))
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return np.array(rounds, np.int32)
