"""CGC: shared experts in the trunk, a task's own experts and its gate in the head.

Customized gate control is one level of progressive layered extraction, `ple`. Source:
Tang et al., RecSys 2020, eq. 2 to 5: the gate of a task is a softmax over the shared
experts and its own, linear in the flattened input.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mtl_jax.models.mixture import (
    Mixed,
    Mixture,
    SoftmaxGate,
    check_experts,
    flat_inputs,
    mix,
    several,
)
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import Array


class OwnExperts(nn.Module):
    """A task's own experts, its gate over them and the shared ones, and its head."""

    head: nn.Module
    encoder: nn.Module
    count: int

    @nn.compact
    def __call__(self, z: Mixed, train: bool = False) -> Array:
        """Map `Mixed` to outputs ``[B, ..., width]``."""
        x = jax.lax.stop_gradient(z.inputs)
        its = several(self.encoder, self.count, x, train)
        experts = jnp.concatenate([z.experts, its], axis=1)
        weights = SoftmaxGate(name="gate")(flat_inputs(x), experts.shape[1])
        return self.head(mix(weights, experts), train)


class CGC(Mixture):
    """Shared experts side by side; heads have experts of their own."""

    specific: int

    def attach(self, head: nn.Module) -> nn.Module:  # noqa: D102
        encoder = self.encoder.clone(parent=None)
        return OwnExperts(head, encoder, self.specific, parent=None)


def cgc(experts: int = 2, specific: int = 1, encoder: Trunk | str = "mlp") -> Trunk:
    """Make the trunk.

    Args:
      experts: number that are shared.
      specific: number that every task has of its own.
      encoder: what each of them is: a trunk whose features are one array.

    Raises:
      InputError: numbers of experts that are not positive.
    """
    encoder = check_experts("cgc", encoder, experts=experts, specific=specific)
    return CGC(encoder, experts, specific)
