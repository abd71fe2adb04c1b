"""Multiple-gradient descent (Desideri, 2012; Sener & Koltun, 2018)."""

from collections.abc import Callable

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_choice,
    check_losses,
    check_reduction,
    or_mean,
    positive,
    reduce,
    stateless,
)
from mtl_jax.smto.solvers import simplex
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution, UnitGramian, unit_gramian
from mtl_jax.types import Array, PyTree


def mgda(normaliser: str = "none", reduction: str = "sum") -> GramianWeighting:
    """Find the point of least norm in the convex hull of the gradients.

    ``w = argmin over the simplex of |sum_i w_i g_i / s_i|``, direction
    ``sum_i w_i g_i``. A zero gradient is that point: the direction is 0 and training
    stalls. The residual is that of `simplex.min_norm`, or what rounding leaves open of
    the direction, if that is more. Source: Sener & Koltun, NeurIPS 2018, Eq. 3, and
    their code for the normalisers.

    Args:
      normaliser: ``s_i`` is 1 (``none``), the gradient's length (``l2``), the loss
        (``loss``) or their product (``loss+``).
      reduction: ``mean``: weights sum to 1; ``sum``: to ``T``.

    Raises:
      InputError: unknown normaliser or reduction; at the first update, losses are
        needed and missing.
    """
    check_reduction(reduction)
    check_choice("mgda's normaliser", normaliser, tuple(NORMALISERS))

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del key
        present = None if losses is None else ~jnp.isnan(losses)
        scales = NORMALISERS[normaliser](unit_gramian(gram).norms, losses)

        def solve(problem: UnitGramian) -> Solution:
            scaled = problem._replace(norms=problem.norms / scales)
            return simplex.min_norm(scaled, present)

        weights, residual = or_mean(settle(solve, gram), gram)
        return Solution(reduce(weights, reduction), residual), state

    return GramianWeighting(stateless, update)


def _ones(norms: Array, losses: Array) -> Array:
    del losses
    return jnp.ones_like(norms)


def _lengths(norms: Array, losses: Array) -> Array:
    del losses
    return norms


def _losses(norms: Array, losses: Array) -> Array:
    del norms
    check_losses(losses)
    return positive(jnp.where(jnp.isnan(losses), jnp.nanmean(losses), losses))


NORMALISERS: dict[str, Callable[[Array, Array], Array]] = {
    "none": _ones,
    "l2": _lengths,
    "loss": _losses,
    "loss+": lambda norms, losses: norms * _losses(norms, losses),
}
