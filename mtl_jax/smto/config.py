"""Conflict-free inverse gradients (Liu, Chu & Thuerey, 2025)."""

import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_reduction,
    or_mean,
    reduce,
    stateless,
)
from mtl_jax.smto.solvers import equal_projection, simplex
from mtl_jax.smto.solvers.solution import Solution, unit
from mtl_jax.types import Array, PyTree


def config(reduction: str = "sum") -> GramianWeighting:
    """Equal projections on all unit gradients, as long as the gradients reach along it.

    ``x = U^+ 1`` with the unit gradients ``U``, ``d = (sum_i <g_i, x>) x / |x|^2``.
    0 where ``x`` vanishes (opposed gradients), and where the gradients together point
    against ``x``. Zero gradients are left out. Source: Liu, Chu & Thuerey, ICLR 2025,
    Eq. 3.
    """
    check_reduction(reduction)

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        found = weights_of(gram)
        return found._replace(weights=reduce(found.weights, reduction)), state

    return GramianWeighting(stateless, update)


def weights_of(gram: Gram) -> Solution:
    """Weights of the mean: ``1 / T`` of those of the published direction."""
    cosines, norms, _, active = unit(gram)
    y, residual = equal_projection.dropped(gram)
    length = simplex.norm(cosines, y)
    along = jnp.where(active, norms, 0) @ jnp.matmul(cosines, y, precision=tree.HIGHEST)
    reach = jnp.maximum(along, 0) / jnp.where(length > 0, length**2, 1)
    weights = jnp.where(active & (length > 0), y / norms * reach, 0)
    return or_mean(Solution(weights / gram.shape[0], residual), gram)
