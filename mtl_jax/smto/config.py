"""Conflict-free inverse gradients (Liu, Chu & Thuerey, 2025)."""

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import GramianWeighting, check_reduction, or_mean, reduce
from mtl_jax.smto.preference import EQUAL, Preference, Shares, checked, shares
from mtl_jax.smto.solvers import equal_projection
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution, UnitGramian, accurate
from mtl_jax.types import Array, PyTree


def config(reduction: str = "sum", preference: Preference = ()) -> GramianWeighting:
    """Project equally on all unit gradients, as far as the gradients reach along it.

    ``x = U^+ 1`` with the unit gradients ``U``, ``d = (sum_i <g_i, x>) x / |x|^2``;
    with a preference they are projected on in its ratios instead, ``x = U^+ p``.
    0, to rounding, where ``x`` vanishes (opposed gradients), and where the gradients
    together point against ``x``. Zero gradients are left out. The residual is the
    largest difference of a gradient's cosine with ``d`` from the mean cosine, or what
    rounding leaves open of ``d``, if that is more; it is large where no direction
    projects equally on all. Source: Liu, Chu & Thuerey, ICLR 2025, Eq. 3.

    Args:
      reduction: ``mean``, or ``sum`` (``T`` times that, the published length).
      preference: numbers, one a task; their ratios count.

    Raises:
      InputError: unknown reduction; not one number a task, or an unfit one.
    """
    check_reduction(reduction)
    share = shares("config", preference)

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        weights, residual = weights_of(gram, share)
        return Solution(reduce(weights, reduction), residual), state

    return GramianWeighting(checked(share), update)


@accurate
def weights_of(gram: Gram, share: Shares = EQUAL) -> Solution:
    """Return weights for a mean: ``1 / T`` of those of the published direction."""
    return or_mean(settle(lambda problem: _equal(problem, share), gram), gram)


def _equal(problem: UnitGramian, share: Shares) -> Solution:
    """Solve for the weights, the residual as `config` has it but for rounding."""
    cosines, norms, _, active = problem
    # Of mean 1: equal shares ask for a projection of 1 on every unit gradient.
    wanted = jnp.where(active, len(norms) * share(len(norms)), 0).astype(norms.dtype)
    parts = equal_projection.solve(cosines, active, wanted)
    # Gradients close to opposition, too, have a direction and a length: the limit.
    vanishes = ~parts.aim.any()
    y = jnp.where(vanishes, parts.beyond, parts.within)
    # C y = aim: no product of what cancels.
    aim = jnp.where(vanishes, active.astype(y.dtype), parts.aim)
    squared = y @ aim
    reach = jnp.maximum(norms @ aim, 0) / jnp.where(squared > 0, squared, 1)
    weights = y / norms * jnp.where(squared > 0, reach, 0) / len(norms)
    unequal = equal_projection.violation(cosines, active, y, wanted)
    doubt = jnp.where(vanishes, parts.mixed, parts.most)
    return Solution(jnp.where(active, weights, 0), jnp.maximum(unequal, doubt))
