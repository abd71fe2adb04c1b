"""Independent component alignment (Senushkin et al., 2023)."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_choice,
    check_reduction,
    or_mean,
    reduce,
)
from mtl_jax.smto.preference import Preference, Shares, shares
from mtl_jax.smto.solvers.components import components
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution, UnitGramian, accurate
from mtl_jax.types import Array

SCALES: dict[str, Callable[[Array, Array], Array]] = {
    "min": lambda values, kept: jnp.min(values, where=kept, initial=jnp.inf),
    "rmse": lambda values, kept: jnp.mean(values, where=kept),
    "median": lambda values, kept: jnp.nanmedian(jnp.where(kept, values, jnp.nan)),
}


def aligned_mtl(
    scale: str = "min", reduction: str = "sum", preference: Preference = ()
) -> GramianWeighting:
    """Give all principal components of the gradients one length.

    ``G = V diag(l) V'``: ``w = sqrt(l_s) V diag(l^-1/2) V' p`` with ``p = 1 / T``,
    or the shares of a preference.
    Components whose length is rounding are dropped; how many are kept is the method's
    state, since the direction's length jumps with it. The residual is what the
    components that are kept, each divided by its length, lack to an orthonormal system
    (the largest entry of ``Z' C Z - 1``), or what rounding leaves open of the
    direction, if that is more. It is at least 1 where a component was dropped: whether
    there is one, and so how long the direction is, rounding decides. Source: Senushkin
    et al., CVPR 2023, Algorithm 1.

    Args:
      scale: of the kept eigenvalues ``l_s`` is the ``min``, the mean (``rmse``) or the
        ``median``.
      reduction: ``mean``, or ``sum`` (``p = 1``, the authors' code).
      preference: numbers, one a task; their ratios count.

    Raises:
      InputError: unknown scale or reduction; not one number a task, or an unfit one.
    """
    check_reduction(reduction)
    check_choice("aligned_mtl's scale", scale, tuple(SCALES))
    share = shares("aligned_mtl", preference)

    def init(num_tasks: int) -> Array:
        share(num_tasks)
        return jnp.zeros((), jnp.int32)

    def update(
        gram: Gram, losses: Array, state: Array, key: Array
    ) -> tuple[Solution, Array]:
        del losses, key, state
        aligned = settle(lambda problem: _align(problem, SCALES[scale], share), gram)
        weights, residual = or_mean(Solution(*aligned[:2]), gram)
        return Solution(reduce(weights, reduction), residual), aligned.kept

    return GramianWeighting(init, update)


class Aligned(NamedTuple):
    """Weights, and how many components they are of."""

    weights: Array
    """``[T]``, for a mean over tasks."""
    residual: Array
    """As of a `Solution`."""
    kept: Array
    """Components of more than rounding, int32 ``[]``."""


@accurate
def _align(
    problem: UnitGramian, scale: Callable[[Array, Array], Array], share: Shares
) -> Aligned:
    """Find the components, and make them as long as ``scale`` says."""
    cosines, norms, _, active = problem
    ends = jnp.where(active, norms, 0)
    values, vectors = components(cosines, ends)
    basis = ends[:, None] * vectors
    # What a sum of unit gradients rounds by does not depend on the longest.
    rounding = len(norms) * jnp.finfo(values.dtype).eps
    kept = values > rounding * (basis**2).sum(axis=0)
    inverse = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1)), 0)
    ratios = jnp.where(kept, jnp.sqrt(scale(values, kept)) * inverse, 0)
    weights = vectors @ (ratios * (share(len(norms)).astype(norms.dtype) @ vectors))
    basis = basis * inverse[None, :]
    ones = jnp.diag(kept.astype(basis.dtype))
    lack = jnp.abs(basis.T @ cosines @ basis - ones).max()
    residual = jnp.maximum(lack, kept.sum() < active.sum())
    return Aligned(jnp.where(active, weights, 0), residual, kept.sum(dtype=jnp.int32))
