"""Mean losses of one epoch, remembered: what methods compare later losses with."""

from typing import NamedTuple

import jax.numpy as jnp

from mtl_jax.types import Array


class EpochMean(NamedTuple):
    """Losses of one epoch, as far as it has come."""

    count: Array
    """Updates seen, int32 ``[]``."""
    total: Array
    """Sum of the epoch's losses ``[T]``."""


def start(num_tasks: int) -> EpochMean:
    """Return the state before the first update."""
    return EpochMean(jnp.zeros((), jnp.int32), jnp.zeros(num_tasks))


def add(state: EpochMean, losses: Array, epoch: int, steps: int) -> EpochMean:
    """Add losses of an update, which count if it belongs to ``epoch`` (from 0)."""
    inside = state.count // steps == epoch
    total = state.total + jnp.where(inside, losses, 0)
    return EpochMean(state.count + 1, total)


def known(state: EpochMean, epoch: int, steps: int) -> tuple[Array, Array]:
    """Tell whether ``epoch`` is over, and its mean losses ``[T]``; ones before that."""
    over = state.count >= (epoch + 1) * steps
    return over, jnp.where(over, state.total / steps, 1)
