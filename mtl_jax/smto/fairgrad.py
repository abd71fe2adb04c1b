"""Fair resource allocation in multi-task learning (Ban & Ji, 2024)."""

from mtl_jax.smto.contract import (
    GramianWeighting,
    check_range,
    or_mean,
    stateless,
)
from mtl_jax.smto.length import at_most
from mtl_jax.smto.solvers import fairness
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array, PyTree


def fairgrad(alpha: float = 1.0, max_norm: float = 1.0) -> GramianWeighting:
    """An alpha-fair bargain: ``G w = w^(-1 / alpha)``, ``w > 0``.

    The tasks' improvements ``<g_i, d>`` are the utilities: towards alpha 0 their sum
    counts, alpha 1 is Nash's bargain, towards infinity the least. Zero gradients are
    left out. The direction is shortened to ``max_norm``. The residual is that of
    `fairness.balance`, or what rounding leaves open of the direction, if that is more:
    gains that hardly count in the direction may be far from fair, and this is told.
    Source: Ban & Ji, ICML 2024, Eq. 6.

    Args:
      alpha: fairness (1 in the authors' class and LibMTL, 2 in the authors' scripts).
      max_norm: greatest length of the direction; 0 for no limit.

    Raises:
      InputError: an option out of its range.
    """
    check_range("fairgrad's alpha", alpha, 0, float("inf"), open_low=True)
    check_range("fairgrad's max_norm", max_norm, 0, float("inf"))

    def update(
        gram: Array, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        bargain = settle(lambda problem: fairness.balance(problem, alpha), gram)
        weights, residual = or_mean(bargain, gram)
        return Solution(at_most(max_norm, gram, weights), residual), state

    return GramianWeighting(stateless, update)
