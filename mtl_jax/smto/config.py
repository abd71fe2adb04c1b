"""Conflict-free inverse gradients (Liu, Chu & Thuerey, 2025)."""

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_reduction,
    or_mean,
    reduce,
    stateless,
)
from mtl_jax.smto.solvers import equal_projection
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution, UnitGramian, accurate
from mtl_jax.types import Array, PyTree


def config(reduction: str = "sum") -> GramianWeighting:
    """Project equally on all unit gradients, as far as the gradients reach along it.

    ``x = U^+ 1`` with the unit gradients ``U``, ``d = (sum_i <g_i, x>) x / |x|^2``.
    0, to rounding, where ``x`` vanishes (opposed gradients), and where the gradients
    together point against ``x``. Zero gradients are left out. The residual is the
    largest difference of a gradient's cosine with ``d`` from the mean cosine, or what
    rounding leaves open of ``d``, if that is more; it is large where no direction
    projects equally on all. Source: Liu, Chu & Thuerey, ICLR 2025, Eq. 3.
    """
    check_reduction(reduction)

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        weights, residual = weights_of(gram)
        return Solution(reduce(weights, reduction), residual), state

    return GramianWeighting(stateless, update)


@accurate
def weights_of(gram: Gram) -> Solution:
    """Return weights for a mean: ``1 / T`` of those of the published direction."""
    return or_mean(settle(_equal, gram), gram)


def _equal(problem: UnitGramian) -> Solution:
    """Solve for the weights, the residual as `config` has it but for rounding."""
    cosines, norms, _, active = problem
    parts = equal_projection.solve(cosines, active)
    # Gradients close to opposition, too, have a direction and a length: the limit.
    vanishes = ~parts.aim.any()
    y = jnp.where(vanishes, parts.beyond, parts.within)
    # C y = aim: no product of what cancels.
    aim = jnp.where(vanishes, active.astype(y.dtype), parts.aim)
    squared = y @ aim
    reach = jnp.maximum(norms @ aim, 0) / jnp.where(squared > 0, squared, 1)
    weights = y / norms * jnp.where(squared > 0, reach, 0) / len(norms)
    unequal = equal_projection.violation(cosines, active, y)
    doubt = jnp.where(vanishes, parts.mixed, parts.most)
    return Solution(jnp.where(active, weights, 0), jnp.maximum(unequal, doubt))
