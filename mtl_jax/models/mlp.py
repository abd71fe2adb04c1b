"""Multi-layer perceptron trunk for flat or small inputs."""

from collections.abc import Callable, Sequence

import jax
from flax import linen as nn

from mtl_jax.models.trunk import Trunk
from mtl_jax.options import check_sizes
from mtl_jax.types import Array


class Layer(nn.Module):
    """Dense layer with ReLU: ``[B, ...]``, flattened, to ``[B, width]``."""

    width: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map ``[B, ...]`` to ``[B, width]``."""
        del train
        x = x.reshape(x.shape[0], -1)
        dense = nn.Dense(self.width, kernel_init=nn.initializers.he_normal())
        return jax.nn.relu(dense(x))


class MLP(Trunk):
    """Dense layers with ReLU: features ``[B, widths[-1]]``."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Features of inputs ``[B, ...]``, flattened."""
        del train
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = jax.nn.relu(nn.Dense(width, kernel_init=nn.initializers.he_normal())(x))
        return x

    def stages(self) -> tuple[Callable[[str], nn.Module], ...]:
        """Return makers of its dense layers."""
        return tuple(
            lambda name, width=width: Layer(width, name=name) for width in self.widths
        )


def mlp(widths: Sequence[int] = (128, 128)) -> Trunk:
    """Make the trunk.

    Raises:
      InputError: no widths, or one that is not positive.
    """
    check_sizes("mlp widths", widths)
    return MLP(tuple(widths))
