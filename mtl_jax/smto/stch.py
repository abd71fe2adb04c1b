"""Smooth Tchebycheff scalarization (Lin et al., 2024)."""

import jax
import jax.numpy as jnp

from mtl_jax.smto import epoch_mean
from mtl_jax.smto.contract import (
    LossWeighting,
    check_count,
    check_range,
    check_steps,
    positive,
)
from mtl_jax.smto.epoch_mean import EpochMean
from mtl_jax.types import Array


def stch(
    mu: float = 1.0, warmup_epochs: int = 4, steps_per_epoch: int = 0
) -> LossWeighting:
    """Minimise a smooth maximum of the log-losses, relative to their nadir.

    ``L = T mu logsumexp(u / mu)``, ``u_i = log(l_i / nadir_i)``: weights
    ``T softmax(u / mu)_i / l_i``. During the warm-up, and the epoch after it whose mean
    losses are the nadir, ``L = sum_i log l_i``. Losses must be positive. Source: Lin et
    al., ICML 2024, section 3, with the authors' multi-task code for logs and nadir.

    Args:
      mu: smoothing; towards 0 only the worst task counts.
      warmup_epochs: epochs before the nadir's.
      steps_per_epoch: updates in an epoch; a run from a configuration knows it.

    Raises:
      InputError: an option out of its range.
    """
    steps_per_epoch = check_steps(steps_per_epoch)
    mu = check_range("stch's mu", mu, 0, float("inf"), open_low=True)
    warmup_epochs = check_count("stch's warmup_epochs", warmup_epochs, 0)

    def update(losses: Array, state: EpochMean, key: Array) -> tuple[Array, EpochMean]:
        del key
        over, nadir = epoch_mean.known(state, warmup_epochs, steps_per_epoch)
        bounded = positive(losses)
        logs = jnp.log(bounded) - jnp.log(positive(nadir))
        smooth = losses.shape[0] * jax.nn.softmax(logs / mu)
        after = epoch_mean.add(state, losses, warmup_epochs, steps_per_epoch)
        return jnp.where(over, smooth, 1) / bounded, after

    return LossWeighting(epoch_mean.start, update)
