"""Projection of the mean gradient onto the dual cone (Lopez-Paz & Ranzato, 2017)."""

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import GramianWeighting, check_reduction, or_mean, reduce
from mtl_jax.smto.preference import Preference, checked, shares
from mtl_jax.smto.solvers import dual_cone
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution, unit_gramian
from mtl_jax.types import Array, PyTree


def dualproj(reduction: str = "sum", preference: Preference = ()) -> GramianWeighting:
    """Find the direction nearest to the mean gradient that conflicts with no task.

    ``w = argmin over v >= p of v' G v``, ``p = 1 / T`` or the shares of a preference.
    The residual is that of `dual_cone.project`, or what rounding leaves open of the
    direction, if that is more. Source: Lopez-Paz & Ranzato, NeurIPS 2017 (gradient
    episodic memory), Eq. 11, with all tasks present.

    Args:
      reduction: ``mean``, or ``sum`` (``T`` times that).
      preference: numbers, one a task; their ratios count.

    Raises:
      InputError: unknown reduction; not one number a task, or an unfit one.
    """
    check_reduction(reduction)
    share = shares("dualproj", preference)

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        norms = unit_gramian(gram).norms
        wanted = share(len(norms)).astype(norms.dtype)
        projected = settle(lambda problem: dual_cone.project(problem, wanted), gram)
        weights, residual = or_mean(projected, gram)
        return Solution(reduce(weights, reduction), residual), state

    return GramianWeighting(checked(share), update)
