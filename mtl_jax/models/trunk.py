"""What every trunk is, and the head that goes with it."""

from typing import Any

from flax import linen as nn

from mtl_jax.types import Array


class Trunk(nn.Module):
    """The model that tasks share: ``trunk(x [B, ...], train) -> features [B, ...]``."""

    def head(self, width: int) -> nn.Module:
        """Head of a task: ``head(features, train) -> outputs [B, ..., width]``."""
        return Linear(width, parent=None)  # on its own, not a part of the trunk


class Linear(nn.Dense):
    """One dense layer, ``[B, D]`` to ``[B, features]``."""

    def __call__(self, inputs: Array, train: bool = False) -> Array:  # noqa: D102
        del train
        found: Any = super().__call__(inputs)
        return found
