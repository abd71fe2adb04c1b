"""Trunks of a column for every task, of which its head takes its own.

What the columns exchange, or take from shared parts, the losses of several tasks reach:
so all of it is in the trunk, and a head knows the number of its task.
"""

import jax
from flax import linen as nn

from mtl_jax.models.head import task_number
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import Array, InputError


def own_column(head: nn.Module, columns: Array) -> Array:
    """Take the column of the head's task: ``[B, T, ...]`` to ``[B, ...]``."""
    number = task_number(head)
    return jax.lax.dynamic_index_in_dim(columns, number, axis=1, keepdims=False)


def check_stages(name: str, encoder: Trunk | str) -> Trunk:
    """Return the encoder of which columns are made, stage by stage.

    Raises:
      InputError: no trunk, or one that cannot be cut into at least two stages.
    """
    if not isinstance(encoder, Trunk):
        raise InputError(
            f"{name} encoder is {encoder!r}; pass a trunk, or its name to models.make."
        )
    count = len(encoder.stages())
    if count < 2:
        raise InputError(
            f"{name} needs an encoder of at least 2 stages, and "
            f"{type(encoder).__name__} has {count or 'none'}; choose mlp, cnn or "
            f"lenet, with more layers."
        )
    return encoder
