"""Improvable gap balancing, version 1 (Dai et al., 2023)."""

import jax
import jax.numpy as jnp

from mtl_jax.smto import epoch_mean
from mtl_jax.smto.contract import LossWeighting, check_count, check_steps, positive
from mtl_jax.smto.epoch_mean import EpochMean
from mtl_jax.types import Array


def igb(base_epoch: int = 1, steps_per_epoch: int = 0) -> LossWeighting:
    """Give more weight to tasks that have come less far from where they were.

    ``L = sum_i w_i log l_i`` with ``w = T softmax(l / base)``, where ``base`` are the
    mean losses of one epoch; until that is over, ``w = 1``. Losses must be positive.
    Source: Dai, Fei & Lu, UAI 2023, section 4.1. Their version 2 learns the weights by
    reinforcement and is not offered.

    Args:
      base_epoch: the epoch, counted from 0, whose losses are the base.
      steps_per_epoch: updates in an epoch; a run from a configuration knows it.

    Raises:
      InputError: an option out of its range.
    """
    steps_per_epoch = check_steps(steps_per_epoch)
    base_epoch = check_count("igb's base_epoch", base_epoch, 0)

    def update(losses: Array, state: EpochMean, key: Array) -> tuple[Array, EpochMean]:
        del key
        over, base = epoch_mean.known(state, base_epoch, steps_per_epoch)
        gap = losses.shape[0] * jax.nn.softmax(losses / positive(base))
        after = epoch_mean.add(state, losses, base_epoch, steps_per_epoch)
        return jnp.where(over, gap, 1) / positive(losses), after

    return LossWeighting(epoch_mean.start, update)
