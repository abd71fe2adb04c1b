"""Unconflicting projection of gradients (Quinton & Rey, 2024)."""

import jax
import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import GramianWeighting, check_reduction, or_mean, reduce
from mtl_jax.smto.preference import Preference, checked, shares
from mtl_jax.smto.solvers import dual_cone
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution, UnitGramian, unit_gramian
from mtl_jax.types import Array, PyTree


def upgrad(reduction: str = "sum", preference: Preference = ()) -> GramianWeighting:
    """Project every gradient onto the dual cone of all, and add them up.

    ``w = sum_i argmin over v >= p_i e_i of v' G v``, ``p = 1 / T`` or the shares of a
    preference. The direction conflicts with no task: ``<g_i, d> >= 0``. The residual is
    the largest of `dual_cone.project`'s, or what rounding leaves open of the direction,
    if that is more. Source: Quinton & Rey, 2024 ("Jacobian descent for multi-objective
    optimization"), section 3.

    Args:
      reduction: ``mean``, or ``sum`` (``T`` times that).
      preference: numbers, one a task; their ratios count.

    Raises:
      InputError: unknown reduction; not one number a task, or an unfit one.
    """
    check_reduction(reduction)
    share = shares("upgrad", preference)

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        norms = unit_gramian(gram).norms
        preferences = jnp.diag(share(len(norms)).astype(norms.dtype))

        def solve(problem: UnitGramian) -> Solution:
            rows = jax.vmap(dual_cone.project, (None, 0))(problem, preferences)
            return Solution(rows.weights.sum(axis=0), rows.residual.max())

        weights, residual = or_mean(settle(solve, gram), gram)
        return Solution(reduce(weights, reduction), residual), state

    return GramianWeighting(checked(share), update)
