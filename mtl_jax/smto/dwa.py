"""Dynamic weight average (Liu et al., 2019)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.smto.contract import (
    LossWeighting,
    check_range,
    check_reduction,
    check_steps,
    reduce,
)
from mtl_jax.types import Array


class DwaState(NamedTuple):
    """Mean losses of the last two epochs, and the running one."""

    count: Array
    """Updates seen, int32 ``[]``."""
    total: Array
    """Sum of the running epoch's losses ``[T]``."""
    last: Array
    before: Array


def dwa(
    temperature: float = 2.0, steps_per_epoch: int = 0, reduction: str = "sum"
) -> LossWeighting:
    """Give more weight to tasks whose loss falls slowly.

    ``r_i = L_i(e - 1) / L_i(e - 2)`` of the epochs' mean losses, weights
    ``softmax(r / temperature)``, times ``T`` with ``sum``; equal in the first two
    epochs. Source: Liu, Johns & Davison, CVPR 2019, Eq. 7.

    Args:
      temperature: large makes the weights equal.
      steps_per_epoch: updates in an epoch; a run from a configuration knows it.
      reduction: ``mean`` or ``sum`` over tasks.

    Raises:
      InputError: an option out of its range.
    """
    check_reduction(reduction)
    steps_per_epoch = check_steps(steps_per_epoch)
    temperature = check_range(
        "dwa's temperature", temperature, 0, float("inf"), open_low=True
    )

    def init(num_tasks: int) -> DwaState:
        zeros = jnp.zeros(num_tasks)
        return DwaState(jnp.zeros((), jnp.int32), zeros, zeros, zeros)

    def update(losses: Array, state: DwaState, key: Array) -> tuple[Array, DwaState]:
        del key
        usable = (state.count >= 2 * steps_per_epoch) & (state.before > 0)
        rate = jnp.where(usable, state.last / jnp.where(usable, state.before, 1), 1)
        weights = jax.nn.softmax(rate / temperature)
        count, total = state.count + 1, state.total + losses
        ends = count % steps_per_epoch == 0
        after = DwaState(
            count=count,
            total=jnp.where(ends, 0, total),
            last=jnp.where(ends, total / steps_per_epoch, state.last),
            before=jnp.where(ends, state.last, state.before),
        )
        return reduce(weights, reduction), after

    return LossWeighting(init, update)
