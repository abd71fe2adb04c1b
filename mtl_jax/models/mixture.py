"""Mixtures of experts: shared experts in the trunk, a gate of every task in its head.

The trunk returns what all experts make of an input, and the input, which gates look at.
So the gradient of a task on the shared parameters, and the Gramian, are over the
experts; gates move by the loss of their task alone.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mtl_jax.models.side_by_side import side_by_side
from mtl_jax.models.trunk import Trunk
from mtl_jax.options import check_sizes
from mtl_jax.types import Array, InputError


class Mixed(NamedTuple):
    """The representation of a mixture."""

    experts: Array
    """Features of every expert ``[B, K, ...]``."""
    inputs: Array
    """Inputs ``[B, ...]``. No parameter that is shared moves them: who looks at them
    takes `jax.lax.stop_gradient`, or methods at the representation would see slopes
    there."""


class Mixture(Trunk):
    """Experts of one kind side by side: features `Mixed`."""

    encoder: Trunk
    """Any trunk whose features are one array ``[B, ...]``."""
    experts: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Mixed:
        """Return features of all experts ``[B, K, ...]``, and the inputs."""
        return Mixed(several(self.encoder, self.experts, x, train), x)

    def head(self, width: int) -> nn.Module:
        """Make the head of the encoder."""
        return self.encoder.head(width)

    @abstractmethod
    def attach(self, head: nn.Module) -> nn.Module:
        """Put a task's gate below its head."""

    def check_inputs(self, x: np.ndarray) -> None:
        """Raise an `InputError` for tokens: a gate is linear in the inputs."""
        self.encoder.check_inputs(x)
        if np.issubdtype(x.dtype, np.integer) and x.dtype != np.uint8:
            raise InputError(
                f"gates of {type(self).__name__} are linear in the inputs, and these "
                f"are whole numbers ({x.dtype}); choose another model, or pass float32."
            )


class Gated(nn.Module):
    """A gate's mixture of the experts, and a head on top of it."""

    head: nn.Module
    gate: nn.Module
    """``gate(inputs [B, P], K, train) -> weights [B, K]``."""

    @nn.compact
    def __call__(self, z: Mixed, train: bool = False) -> Array:
        """Map `Mixed` to outputs ``[B, ..., width]``."""
        weights = self.gate(flat_inputs(z.inputs), z.experts.shape[1], train)
        return self.head(mix(weights, z.experts), train)


class SoftmaxGate(nn.Module):
    """Softmax of a dense layer: ``softmax(W x + b)``."""

    @nn.compact
    def __call__(self, inputs: Array, count: int, train: bool = False) -> Array:
        """Map inputs ``[B, P]`` to weights ``[B, count]``."""
        del train
        return jax.nn.softmax(nn.Dense(count)(inputs))


def several(module: nn.Module, count: int, x: Array, train: bool) -> Array:
    """Apply so many experts to inputs ``[B, ...]``: outputs ``[B, count, ...]``."""

    def apply(module: nn.Module, x: Array) -> Array:
        features: Any = module(x, train)
        if jax.tree.structure(features) != jax.tree.structure(0):
            raise InputError(
                f"the encoder {type(module).__name__} makes several arrays, and an "
                f"expert is to make one array [B, ...]; choose another encoder."
            )
        return features

    return side_by_side(module, count, x, apply, mapped=False)


def flat_inputs(inputs: Array) -> Array:
    """Flatten inputs ``[B, ...]`` to ``[B, P]``, as constants."""
    return jax.lax.stop_gradient(inputs.reshape(len(inputs), -1))


def mix(weights: Array, experts: Array) -> Array:
    """Sum experts' features ``[B, K, ...]`` by weights ``[B, K]``, to ``[B, ...]``."""
    return jnp.einsum("bk,bk...->b...", weights, experts)


def check_experts(name: str, encoder: Trunk | str, **counts: int) -> Trunk:
    """Check the options that mixtures share; return the encoder.

    Args:
      name: of the architecture.
      encoder: a trunk; its name is for `models.make` to resolve.
      **counts: numbers of experts, by the names of their options.

    Raises:
      InputError: a number that is not positive and whole, or no trunk.
    """
    for option, count in counts.items():
        check_sizes(f"{name} {option}", (count,))
    if not isinstance(encoder, Trunk):
        raise InputError(
            f"{name} encoder is {encoder!r}; pass a trunk, or its name to models.make."
        )
    return encoder
