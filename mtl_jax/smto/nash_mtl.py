"""Multi-task learning as a bargaining game (Navon et al., 2022)."""

from typing import NamedTuple

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import GramianWeighting, check_count, check_range, or_mean
from mtl_jax.smto.length import at_most
from mtl_jax.smto.solvers import fairness
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array


class NashState(NamedTuple):
    """The bargain in force."""

    count: Array
    """Updates seen, int32 ``[]``."""
    weights: Array
    residual: Array


def nash_mtl(max_norm: float = 1.0, update_every: int = 1) -> GramianWeighting:
    """Strike the Nash bargain of the tasks: ``G w = 1 / w``, ``w > 0``.

    No task can be served relatively better without a larger relative loss of the
    others. The direction has length ``sqrt(T)`` whatever the gradients' lengths, and is
    then shortened to ``max_norm``. Zero gradients are left out. Where gradients cancel
    there is no solution: a direction close to 0, and a residual that tells. It is that
    of `fairness.balance`, of the bargain in force, or what rounding left open of its
    direction, if that is more. Source: Navon et al., ICML 2022, Claim 3.1. The authors'
    solver falls back to equal weights, unseen, in most conflicts; here a damped Newton
    method solves every problem that has a solution.

    Args:
      max_norm: greatest length of the direction; 0 for no limit.
      update_every: updates between two bargains; the weights stay in between.

    Raises:
      InputError: an option out of its range.
    """
    max_norm = check_range("nash_mtl's max_norm", max_norm, 0, float("inf"))
    update_every = check_count("nash_mtl's update_every", update_every, 1)

    def init(num_tasks: int) -> NashState:
        return NashState(jnp.zeros((), jnp.int32), jnp.ones(num_tasks), jnp.zeros(()))

    def update(
        gram: Gram, losses: Array, state: NashState, key: Array
    ) -> tuple[Solution, NashState]:
        del losses, key
        bargain = settle(lambda problem: fairness.balance(problem, 1.0), gram)
        solution = or_mean(bargain, gram)
        due = state.count % update_every == 0
        weights = jnp.where(due, solution.weights, state.weights)
        residual = jnp.where(due, solution.residual, state.residual)
        after = NashState(state.count + 1, weights, residual)
        return Solution(at_most(max_norm, gram, weights), residual), after

    return GramianWeighting(init, update)
