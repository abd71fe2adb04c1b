"""MMoE: shared experts, a softmax gate for every task.

Source: Ma et al., KDD 2018, "Modeling Task Relationships in Multi-task Learning with
Multi-gate Mixture-of-Experts", eq. 6 and 7: ``f_k(x) = sum_i g_k(x)_i f_i(x)``, ``g_k =
softmax(W_k x)``; as in LibMTL the gate has a bias, 0 at first, and ``x`` is flattened.
"""

from flax import linen as nn

from mtl_jax.models.mixture import Gated, Mixture, SoftmaxGate, check_experts
from mtl_jax.models.trunk import Trunk


class MMoE(Mixture):
    """Experts side by side; heads have a softmax gate."""

    def attach(self, head: nn.Module) -> nn.Module:  # noqa: D102
        return Gated(head, SoftmaxGate(parent=None), parent=None)


def mmoe(experts: int = 4, encoder: Trunk | str = "mlp") -> Trunk:
    """Make the trunk.

    >>> from mtl_jax import models
    >>> trunk = models.make("mmoe", experts=2, encoder=models.make("mlp", widths=(8,)))
    >>> trunk.experts, trunk.encoder.widths
    (2, (8,))

    Args:
      experts: number of them.
      encoder: what each of them is: a trunk whose features are one array.

    Raises:
      InputError: a number of experts that is not positive.
    """
    return MMoE(check_experts("mmoe", encoder, experts=experts), experts)
