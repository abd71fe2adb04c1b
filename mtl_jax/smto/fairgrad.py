"""Fair resource allocation in multi-task learning (Ban & Ji, 2024)."""

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_choice,
    check_range,
    or_mean,
    stateless,
)
from mtl_jax.smto.length import at_most
from mtl_jax.smto.solvers import fairness
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array, PyTree


def fairgrad(
    alpha: float = 1.0, max_norm: float = 1.0, times_tasks: bool = False
) -> GramianWeighting:
    """Strike an alpha-fair bargain: ``G w = w^(-1 / alpha)``, ``w > 0``.

    The tasks' improvements ``<g_i, d>`` are the utilities: towards alpha 0 their sum
    counts, alpha 1 is Nash's bargain, towards infinity the least. Zero gradients are
    left out. The direction is shortened to ``max_norm``. Source: Ban & Ji, ICML 2024,
    Eq. 6. The authors' code stretches it by the number of tasks before that; with
    alpha 1 the default limit undoes it, as a bargain is ``sqrt(T)`` long already.

    The residual is that of `fairness.balance`, or what rounding leaves open of the
    direction, if that is more: gains that hardly count in the direction may be far from
    fair, and this is told.

    Args:
      alpha: fairness (1 in the authors' class and LibMTL, 2 in the authors' scripts).
      max_norm: greatest length of the direction; 0 for no limit.
      times_tasks: multiply the weights by ``T`` before that, as the authors' code does.

    Raises:
      InputError: an option out of its range.
    """
    alpha = check_range("fairgrad's alpha", alpha, 0, float("inf"), open_low=True)
    max_norm = check_range("fairgrad's max_norm", max_norm, 0, float("inf"))
    times_tasks = check_choice("fairgrad's times_tasks", times_tasks, (False, True))

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del losses, key
        bargain = settle(lambda problem: fairness.balance(problem, alpha), gram)
        weights, residual = or_mean(bargain, gram)
        weights = weights * gram.shape[0] if times_tasks else weights
        return Solution(at_most(max_norm, gram, weights), residual), state

    return GramianWeighting(stateless, update)
