"""Independent component alignment (Senushkin et al., 2023)."""

from collections.abc import Callable

import jax.numpy as jnp

from mtl_jax.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_choice,
    check_reduction,
    exact,
    reduce,
)
from mtl_jax.smto.solvers.solution import Solution, unit
from mtl_jax.types import Array

SCALES: dict[str, Callable[[Array, Array], Array]] = {
    "min": lambda values, kept: jnp.min(values, where=kept, initial=jnp.inf),
    "rmse": lambda values, kept: jnp.mean(values, where=kept),
    "median": lambda values, kept: jnp.nanmedian(jnp.where(kept, values, jnp.nan)),
}


def aligned_mtl(scale: str = "min", reduction: str = "sum") -> GramianWeighting:
    """Give all principal components of the gradients one length.

    ``G = V diag(l) V'``: ``w = sqrt(l_s) V diag(l^-1/2) V' p`` with ``p = 1 / T``.
    Eigenvalues below rounding of the largest are dropped; how many are kept is the
    method's state, since the direction's length jumps with it. Source: Senushkin et
    al., CVPR 2023, Algorithm 1.

    Args:
      scale: of the kept eigenvalues ``l_s`` is the ``min``, the mean (``rmse``) or the
        ``median``.
      reduction: ``mean``, or ``sum`` (``p = 1``, the authors' code).

    Raises:
      InputError: unknown scale or reduction.
    """
    check_reduction(reduction)
    check_choice("aligned_mtl's scale", scale, tuple(SCALES))

    def update(
        gram: Gram, losses: Array, state: Array, key: Array
    ) -> tuple[Solution, Array]:
        del losses, key, state
        cosines, norms, _, active = unit(gram)
        pair = active[:, None] & active[None, :]
        scaled = jnp.where(pair, cosines * norms[:, None] * norms[None, :], 0)
        values, vectors = jnp.linalg.eigh(scaled)
        kept = values > len(values) * jnp.finfo(gram.dtype).eps * values[-1]
        chosen = SCALES[scale](values, kept)
        ratios = jnp.where(kept, jnp.sqrt(chosen / jnp.where(kept, values, 1)), 0)
        preference = jnp.full_like(norms, 1 / len(norms))
        weights = vectors @ (ratios * (vectors.T @ preference))
        return exact(reduce(weights, reduction)), kept.sum(dtype=jnp.int32)

    return GramianWeighting(lambda _: jnp.zeros((), jnp.int32), update)
