"""Priority-constrained descent: a primary task, and others that are to move on."""

from typing import NamedTuple

import jax.numpy as jnp

from mtl_jax.gradients import gramian
from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    check_count,
    check_range,
    check_task,
    exact,
    or_mean,
)
from mtl_jax.smto.solvers import interior_point
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import (
    TOLERANCE,
    Solution,
    UnitGramian,
    accurate,
    length,
    length_or,
    unit_gramian,
)
from mtl_jax.types import Array

RIDGE = 4
"""Machine epsilons on the diagonal: of gradients that depend on each other any amount
may be added, and a little is asked for."""


class PCDState(NamedTuple):
    """State of the means over time."""

    size: Array
    """Root of the mean squared lengths of the gradients ``[T]``, from 0 on."""
    count: Array
    """Updates, int32 ``[]``."""


def pcd(
    tau: float = 0.02, beta: float = 0.999, eps: float = 1e-8, primary: int = 0
) -> GramianWeighting:
    """Follow the primary task, as far as every other one moves on by a share.

    With gradients ``u_i = g_i / sqrt(v_i + eps)``, ``v`` the mean of ``|g_i|^2`` over
    time: ``d = argmin |d - u_0|^2 / 2`` over ``<u_j, d> >= tau |u_j|^2``, made as long
    as ``g_0``. It is ``g_0`` where no direction moves all others on, and 0 where
    ``g_0`` is. The residual is the largest violation of the optimality conditions,
    relative to ``|d|``, or what rounding leaves open of ``d``, if that is more. Source:
    "Not all objectives are born equal", TMLR 2026 (arXiv:2606.29521).

    Args:
      tau: share of the progress along its own gradient that a task is to make.
      beta: weight of the past in the mean squared lengths.
      eps: added to them.
      primary: number of the primary task; of a group with a target, that is 0.

    Raises:
      InputError: an option out of its range; no such task (said when the run is set
        up).
    """
    tau = check_range("pcd's tau", tau, 0, 1)
    beta = check_range("pcd's beta", beta, 0, 1 - 1e-6)
    eps = check_range("pcd's eps", eps, 0, float("inf"))
    primary = check_count("pcd's primary", primary, 0)

    def init(num_tasks: int) -> PCDState:
        check_task("pcd's primary", primary, num_tasks)
        return PCDState(jnp.zeros(num_tasks), jnp.zeros((), jnp.int32))

    def update(
        gram: Gram, losses: Array, state: PCDState, key: Array
    ) -> tuple[Solution, PCDState]:
        del losses, key
        lengths = gramian.of(gram).lengths
        present = jnp.isfinite(lengths)
        past, new = jnp.sqrt(beta) * state.size, jnp.sqrt(1 - beta) * lengths
        size = jnp.where(present, jnp.hypot(past, new), state.size)
        after = PCDState(size.astype(state.size.dtype), state.count + 1)
        debiased = size / jnp.sqrt(1 - jnp.float32(beta) ** after.count)
        known = jnp.hypot(debiased, jnp.sqrt(jnp.float32(eps)))
        problem = unit_gramian(gram)
        relative = jnp.where(
            problem.active, lengths / jnp.where(known > 0, known, 1), 0
        )
        solved = settle(lambda p: _direct(p, relative, tau, primary), problem)
        alive = problem.active[primary]
        weights, residual = or_mean(solved, gram)
        zero = exact(jnp.zeros_like(weights))
        return Solution(
            jnp.where(alive, weights, zero.weights),
            jnp.where(alive, residual, zero.residual),
        ), after

    return GramianWeighting(init, update)


@accurate
def _direct(
    problem: UnitGramian, lengths: Array, tau: float | Array, primary: int
) -> Solution:
    """Solve for the weights of the gradients, ``lengths`` being those of the ``u``.

    In unit vectors ``d = |u_0| e_0 + sum_j x_j e_j`` with ``x >= 0``.
    """
    cosines, norms, _, active = problem
    first = jnp.arange(len(lengths)) == primary
    largest = lengths.max()
    lengths = lengths / jnp.where(largest > 0, largest, 1)
    others = active & ~first
    pair = others[:, None] & others[None, :]
    ridge = 1 + RIDGE * jnp.finfo(cosines.dtype).eps
    square = jnp.where(jnp.eye(len(lengths), dtype=bool), ridge, cosines * pair)
    start = jnp.where(first, lengths, 0)
    linear = jnp.where(others, cosines @ start - tau * lengths, 1)
    added, dual = interior_point.quadratic(square, linear)
    added = jnp.where(others & (added > dual), added, 0)
    u = start + added
    slack = cosines @ u - tau * lengths
    size = length_or(u.sum(), cosines, u)
    open_ = jnp.max(jnp.abs(jnp.minimum(added, slack)), where=others, initial=0) / size
    # Constraints that exclude each other are dropped, all of them.
    feasible = jnp.min(slack, where=others, initial=0) >= -TOLERANCE
    u = jnp.where(feasible, u, start)
    scaled = u * norms[primary] / length(cosines, u)
    weights = jnp.where(active, scaled / norms, 0)
    return Solution(weights, jnp.where(feasible, open_, 0))
