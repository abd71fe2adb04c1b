"""The base class of trunks, and heads that go with them."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from flax import linen as nn

from mtl_jax.models.layout import WeightLayout
from mtl_jax.types import Array


class Trunk(nn.Module):
    """The model that tasks share: ``trunk(x [B, ...], train) -> features [B, ...]``.

    Features are an array, or a tree of arrays, for heads that look at several.
    """

    is_apart: ClassVar[bool] = False
    """It sees every example apart and keeps no state, so that examples of several
    tasks may go through it as one batch."""

    def head(self, width: int) -> nn.Module:
        """Make a task's head: ``head(features, train) -> outputs [B, ..., width]``."""
        return Linear(width, parent=None)  # on its own, not a part of the trunk

    def attach(self, head: nn.Module) -> nn.Module:
        """Put what every task has of its own below its head, such as a gate."""
        return head

    @property
    def is_conditioned(self) -> bool:
        """True where it is told a preference over tasks; see `preference.tell`."""
        return False

    def for_tasks(self, count: int) -> "Trunk":
        """Return the trunk for a setting of so many tasks."""
        del count
        return self

    def stages(self) -> tuple[Callable[[str], nn.Module], ...]:
        """Return makers of its layers: a name to ``layer(x [B, ...], train)``.

        One after another they are the trunk. Empty where it cannot be cut so.
        """
        return ()

    def layout(self) -> WeightLayout | None:
        """Return the layout of pre-trained weights; None where there are none."""
        return None

    def check_inputs(self, x: np.ndarray) -> None:
        """Raise an `InputError` for inputs ``[N, ...]`` whose values do not suit it.

        Shapes are checked at initialisation, where values are not known.
        """
        del x


class SharedOutput(Trunk):
    """A trunk and the output layer that all its tasks share; heads have no parameters.

    So text-to-text models put their tasks: apart in the inputs, together in the words.
    The layer is to be linear, as theirs is: behind a tanh, what the many words of other
    tasks have to unlearn at first saturates all units, and nothing is learned after it.
    """

    trunk: Trunk
    output: nn.Module

    def __call__(self, x: Array, train: bool) -> Array:
        """Outputs ``[B, ..., W]``."""
        return self.output(self.trunk(x, train), train)

    @property
    def is_conditioned(self) -> bool:  # noqa: D102
        return self.trunk.is_conditioned

    def head(self, width: int) -> nn.Module:  # noqa: D102
        del width
        return Same(parent=None)


class Same(nn.Module):
    """A head that passes on what it gets."""

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:  # noqa: D102
        del train
        return inputs


class Linear(nn.Dense):
    """A dense layer, ``[B, D]`` to ``[B, features]``."""

    def __call__(self, inputs: Array, train: bool = False) -> Array:  # noqa: D102
        del train
        outputs: Any = super().__call__(inputs)
        return outputs
