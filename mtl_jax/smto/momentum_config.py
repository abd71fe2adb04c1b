"""Conflict-free inverse gradients with momentum (Liu, Chu & Thuerey, 2025)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients.gramian import gramian
from mtl_jax.smto.config import weights_of
from mtl_jax.smto.contract import (
    Aggregate,
    Aggregator,
    check_count,
    check_known,
    check_range,
    zero_rows,
)
from mtl_jax.types import Array, PyTree


class MomentumConfigState(NamedTuple):
    """First moments of every task, and the moments of the combined gradient."""

    count: Array
    """Updates since every task has been seen, int32 ``[]``."""
    seen: Array
    """Times that each task was looked at, int32 ``[T]``."""
    first: PyTree
    """``[T, ...]``."""
    combined: PyTree
    """First moment of the combined gradient ``[...]``."""
    second: PyTree
    """Root of the second moment of the combined gradient ``[...]``: squares may
    overflow."""


def momentum_config(
    tasks_per_step: int = 1, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> Aggregator:
    """Combine the tasks' momenta by ConFIG, of which an update renews a few, in turn.

    The direction is scaled as Adam's is: use it with plain gradient descent. It is 0
    until every task has been looked at; with one task it is Adam's. Source: Liu, Chu &
    Thuerey, ICLR 2025, Algorithm 2 (M-ConFIG).

    Args:
      tasks_per_step: tasks whose gradient an update looks at; 0 for all.
      b1: decay of the tasks' first moments.
      b2: decay of the second moment.
      eps: added to its root.

    Raises:
      InputError: an option out of its range.
    """
    b1 = check_range("momentum_config's b1", b1, 0, 1)
    b2 = check_range("momentum_config's b2", b2, 0, 1)
    eps = check_range("momentum_config's eps", eps, 0, float("inf"))
    tasks_per_step = check_count(
        "tasks_per_step", check_known("tasks_per_step", tasks_per_step), 0
    )

    def init(params: PyTree, num_tasks: int) -> MomentumConfigState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return MomentumConfigState(
            count=jnp.zeros((), jnp.int32),
            seen=jnp.zeros(num_tasks, jnp.int32),
            first=zero_rows(params, num_tasks),
            combined=zeros,
            second=zeros,
        )

    def update(
        grads: PyTree, losses: Array, state: MomentumConfigState, key: Array
    ) -> tuple[Aggregate, MomentumConfigState]:
        del losses, key
        num_tasks = len(state.seen)
        width = min(tasks_per_step or num_tasks, num_tasks)
        turn = (state.seen.sum() + jnp.arange(width)) % num_tasks
        now = jnp.zeros(num_tasks, bool).at[turn].set(True)
        seen = state.seen + now
        first = jax.tree.map(
            lambda m, g: jnp.where(
                now.reshape(-1, *[1] * (m.ndim - 1)), b1 * m + (1 - b1) * g, m
            ),
            state.first,
            grads,
        )
        corrected = tree.scale_rows(_correction(b1, seen), first)
        solution = weights_of(gramian(corrected))
        weights = num_tasks * solution.weights * _correction(b1, seen)
        ready = (seen > 0).all()
        count = state.count + 1
        combined = jax.tree.map(
            lambda d: d * (1 - b1 ** count.astype(jnp.float32)).astype(d.dtype),
            tree.combine(weights, first),
        )
        pseudo = jax.tree.map(
            lambda new, old: (new - b1 * old) / (1 - b1), combined, state.combined
        )
        second = jax.tree.map(
            lambda r, g: jnp.hypot(b2**0.5 * r, (1 - b2) ** 0.5 * g),
            state.second,
            pseudo,
        )
        bias = 1 - b2 ** count.astype(jnp.float32)
        direction = jax.tree.map(
            lambda m, r: (
                m
                / (1 - b1 ** count.astype(jnp.float32)).astype(m.dtype)
                / (r / jnp.sqrt(bias).astype(r.dtype) + eps)
            ),
            combined,
            second,
        )
        moved = MomentumConfigState(count, seen, first, combined, second)
        waiting = state._replace(seen=seen, first=first)
        nothing = jax.tree.map(jnp.zeros_like, direction)
        aggregate = Aggregate(
            tree.where(ready, direction, nothing),
            jnp.where(ready, weights, 0),
            jnp.where(ready, solution.residual, 0),
        )
        return aggregate, tree.where(ready, moved, waiting)

    return Aggregator(init, update)


def _correction(decay: float | Array, count: Array) -> Array:
    """Adam's correction of a moment's start from 0; 1 before the first update."""
    return 1 / jnp.where(count > 0, 1 - decay ** count.astype(jnp.float32), 1)
