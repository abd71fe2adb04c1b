"""Fast adaptive multitask optimization (Liu et al., 2023)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.smto.contract import (
    LossWeighting,
    check_range,
    check_reduction,
    positive,
    reduce,
)
from mtl_jax.types import Array, PyTree


class FamoState(NamedTuple):
    """Logits of the tasks, and the losses that the latest step started from."""

    logits: Array
    opt: PyTree
    log_losses: Array


def famo(
    learning_rate: float = 0.025, weight_decay: float = 1e-3, reduction: str = "sum"
) -> LossWeighting:
    """Decrease all losses at an equal relative rate, from losses alone.

    With ``z = softmax(logits)`` weights ``c z_i / l_i``, ``c = 1 / sum_i (z_i / l_i)``.
    Once the parameters have moved, the losses ``l'`` of the same batch tell how much
    each task gained, ``log l - log l'``, and the logits move by an Adam of their own
    away from the tasks that gained most. Costs one forward pass. Source: Liu, Feng,
    Stone & Liu, NeurIPS 2023, Algorithm 1.

    The direction is not clipped, nor is it in the authors' experiments: their
    ``max_norm`` of 1 is applied before the backward pass, to gradients that have just
    been cleared. Their stand-alone class clips behind it since January 2024, where it
    is given the shared parameters: that is ``optax.clip_by_global_norm(1.0)`` behind
    `lift`, with the reduction ``mean``.

    Args:
      learning_rate: of Adam on the logits.
      weight_decay: an l2 penalty on the logits (the authors' gamma: 1e-2 in their
        scripts, 1e-5 in their class, 1e-3 in LibMTL and TorchJD).
      reduction: ``mean``: weights sum to 1; ``sum``: to ``T``.

    Raises:
      InputError: an option out of its range.
    """
    check_reduction(reduction)
    learning_rate = check_range(
        "learning_rate", learning_rate, 0, float("inf"), open_low=True
    )
    weight_decay = check_range("famo's weight_decay", weight_decay, 0, float("inf"))
    adam: Any = optax.chain(
        optax.add_decayed_weights(weight_decay), optax.adam(learning_rate)
    )

    def init(num_tasks: int) -> FamoState:
        zeros = jnp.zeros(num_tasks)
        return FamoState(zeros, adam.init(zeros), zeros)

    def update(losses: Array, state: FamoState, key: Array) -> tuple[Array, FamoState]:
        del key
        logs = jnp.log(positive(losses))
        weights = jax.nn.softmax(jax.nn.log_softmax(state.logits) - logs)
        return reduce(weights, reduction), state._replace(log_losses=logs)

    def after_update(losses: Array, state: FamoState) -> FamoState:
        shares = jax.nn.softmax(state.logits)
        gain = state.log_losses - jnp.log(positive(losses))
        grad = shares * (gain - jnp.dot(shares, gain))
        step, opt = adam.update(grad, state.opt, state.logits)
        return state._replace(logits=state.logits + step, opt=opt)

    return LossWeighting(init, update, after_update)
