"""Tell what the rounding of a Gramian does to what is solved for it.

Two gradients less than about 5e-4 rad from opposition look opposed in float32, as their
cosine is known to rounding. No optimality condition tells: weights may be optimal for
the cosines given, and wrong for the gradients. So a problem is solved, or a solution
judged, for cosines that are off by rounding, too. Source: Kenney & Laub, SIAM J. Sci.
Comput. 15, 1994 (small-sample estimates of condition).
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.solvers.solution import (
    ROUNDING,
    UnitGramian,
    accurate,
    cancels,
    length,
    unit_gramian,
)
from mtl_jax.types import Array

SAMPLES = 2
"""Times that cosines are moved."""
NUDGE = 0.5
"""Machine epsilons that they are moved by to solve a problem again: with more of them,
cosines of low rank become indefinite beyond what the solvers bear. The change of the
direction is scaled up to `ROUNDING`."""

Solved = TypeVar("Solved", bound=Any)


@accurate
def settle(solve: Callable[[UnitGramian], Solved], gram: Gram | UnitGramian) -> Solved:
    """Solve a problem, and add to the residual how far rounding leaves it open.

    That is the change of the direction with the cosines, relative to its length; 1
    where it is 0 to rounding, but not exactly. The larger of it and the solver's
    residual counts.

    Args:
      solve: from a problem to a `Solution`, or a tuple with more fields.
      gram: the Gramian ``[T, T]``.

    >>> from mtl_jax.smto.solvers.solution import Solution
    >>> solve = lambda problem: Solution(problem.cosines[0], jnp.zeros(()))
    >>> weights, residual = settle(solve, jnp.eye(2))
    >>> weights.tolist(), bool(0 < residual < 1e-5)
    ([1.0, 0.0], True)
    """
    problem = unit_gramian(gram)
    cosines, norms = problem.cosines, jnp.where(problem.active, problem.norms, 0)
    solutions = jax.vmap(lambda c: solve(problem._replace(cosines=c)))(
        _nudged(problem, NUDGE)
    )
    solution = jax.tree.map(lambda leaf: leaf[0], solutions)
    u = solutions.weights * norms[None]
    largest = jnp.abs(u[0]).max()
    u = u / jnp.where(largest > 0, largest, 1)
    changes = u[1:] - u[:1]
    squared = jnp.einsum("si,ij,sj->s", changes, cosines, changes)
    blur = NUDGE * jnp.finfo(cosines.dtype).eps * jnp.sum(changes**2, axis=1)
    moved = jnp.sqrt((jnp.maximum(squared, 0) + blur).max()) / length(cosines, u[0])
    moved = moved * (ROUNDING / NUDGE)
    # What is 0 to rounding has no direction that is known; nor is anything sure where a
    # solver breaks down a little further.
    lost = ~jnp.isfinite(moved) | ((largest > 0) & cancels(cosines, u[0]))
    moved = jnp.where(lost, 1, moved).astype(cosines.dtype)
    return solution._replace(residual=jnp.maximum(solution.residual, moved))


def at_worst(violation: Callable[[Array], Array], problem: UnitGramian) -> Array:
    """Return the largest violation ``[]`` by a solution, of cosines off by rounding.

    For problems whose value is what counts: other directions may be as good.
    """
    return jax.vmap(violation)(_nudged(problem, ROUNDING)).max()


def _nudged(problem: UnitGramian, epsilons: float) -> Array:
    """Return the cosines, and then such as are off: ``[1 + SAMPLES, T, T]``."""
    cosines, active = problem.cosines[None], problem.active
    count = len(active)
    signs = np.random.default_rng(count).choice([-1, 1], (SAMPLES, count, count))
    upper = np.triu(signs, 1)
    signs = np.concatenate([np.zeros((1, count, count)), upper + upper.swapaxes(1, 2)])
    step = epsilons * jnp.finfo(cosines.dtype).eps
    pair = active[None, :, None] & active[None, None, :]
    nudges = jnp.where(pair, step * jnp.asarray(signs, cosines.dtype), 0)
    # Where there is no room outwards, inwards.
    full = (jnp.abs(cosines) > 1 - step) & (nudges * cosines > 0)
    return cosines + jnp.where(full, -nudges, nudges)
