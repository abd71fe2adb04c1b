"""mtl_jax: what training tasks together does to the way each is optimised.

The names a user needs: per-task gradients, multi-task optimizers, records. Training
from a configuration is ``mtl_jax.training.loop.run``.
"""

from mtl_jax import smto, tree
from mtl_jax.gradients import task_grads, task_losses, weighted_grads
from mtl_jax.types import (
    ONE_INPUT,
    OWN_INPUTS,
    TASK_AXES,
    Batch,
    InputError,
    LossFn,
    Params,
)

__all__ = [
    "ONE_INPUT",
    "OWN_INPUTS",
    "TASK_AXES",
    "Batch",
    "InputError",
    "LossFn",
    "Params",
    "smto",
    "task_grads",
    "task_losses",
    "tree",
    "weighted_grads",
]
