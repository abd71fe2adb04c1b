"""DSelect-k: shared experts, of which the gate of a task selects at most k.

Source: Hazimeh et al., NeurIPS 2021, arXiv:2106.03760, and the authors' code. A gate
has ``k`` selectors. The bits of selector ``i`` are smooth steps ``s`` of linear
functions of the input, and it weighs expert ``j`` by the product of ``s`` or ``1 - s``,
as the bits of the number ``j`` say; a softmax weighs the selectors. A smooth step is
0 or 1 outside ``[-gamma / 2, gamma / 2]``, so weights become exactly 0, by descent.

Penalties, means over the examples of a batch: ``entropy`` times the entropy of every
selector's weights; and where the number of experts is no power of 2, ``1 / sum_j
weight_j - 1`` of every selector, so that none comes to rest on numbers beyond the
experts. (The authors sum over examples and leave out the -1, which moves nothing.)

LibMTL differs in two places: its smooth step has gamma 1 whatever the option says, and
of all tasks only the last one's gate has penalties.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn import initializers

from mtl_jax.models.head import penalise
from mtl_jax.models.mixture import Gated, Mixture, check_experts
from mtl_jax.models.trunk import Trunk
from mtl_jax.options import is_positive
from mtl_jax.types import Array, InputError

TINY = 1e-6
"""Added to weights whose logarithm is taken, as in the authors' code."""


class SparseGate(nn.Module):
    """A gate of ``selected`` selectors over experts."""

    selected: int
    gamma: float
    entropy: float

    @nn.compact
    def __call__(self, inputs: Array, count: int, train: bool = False) -> Array:
        """Map inputs ``[B, P]`` to weights ``[B, count]``, at most k of them not 0."""
        bits = max(1, math.ceil(math.log2(count)))
        codes = (np.arange(count)[:, None] >> np.arange(bits)[::-1]) & 1  # [K, m]
        logits = _dense(self.selected * bits, self.gamma / 100, "bits")(inputs)
        steps = smooth_step(logits.reshape(-1, self.selected, 1, bits), self.gamma)
        selectors = jnp.where(codes == 1, steps, 1 - steps).prod(axis=-1)  # [B, k, K]
        weights = jax.nn.softmax(_dense(self.selected, 0.05, "selectors")(inputs))
        if train:
            self._penalise(selectors, reachable=count == 2**bits)
        return jnp.einsum("bs,bsk->bk", weights, selectors)

    def _penalise(self, selectors: Array, reachable: bool) -> None:
        if self.entropy:
            entropies = -(selectors * jnp.log(selectors + TINY)).sum(axis=(1, 2))
            penalise(self, self.entropy * entropies.mean())
        if not reachable:
            misses = 1 / selectors.sum(axis=-1) - 1
            penalise(self, misses.sum(axis=1).mean())


def smooth_step(t: Array, gamma: float) -> Array:
    """Step from 0 to 1 over ``[-gamma / 2, gamma / 2]`` along a cubic.

    >>> smooth_step(jnp.array([-1.0, -0.25, 0.0, 1.0]), 1.0).tolist()
    [0.0, 0.15625, 0.5, 1.0]
    """
    t = jnp.clip(t / gamma, -0.5, 0.5)
    return (1.5 - 2 * t**2) * t + 0.5


class DSelectK(Mixture):
    """Experts side by side; heads have a sparse gate."""

    selected: int
    gamma: float
    entropy: float

    def attach(self, head: nn.Module) -> nn.Module:  # noqa: D102
        gate = SparseGate(self.selected, self.gamma, self.entropy, parent=None)
        return Gated(head, gate, parent=None)


def dselect_k(
    experts: int = 4,
    selected: int = 2,
    gamma: float = 1.0,
    entropy: float = 0.0,
    encoder: Trunk | str = "mlp",
) -> Trunk:
    """Make the trunk.

    Args:
      experts: number of them.
      selected: at most so many have a weight, once the selectors have decided.
      gamma: width of the smooth step.
      entropy: rate of the penalty of undecided selectors, nats of loss to a nat.
      encoder: what each expert is: a trunk whose features are one array.

    Raises:
      InputError: numbers of experts that are not positive, or more selected than there
        are; a width that is not positive, a rate that is negative.
    """
    encoder = check_experts("dselect_k", encoder, experts=experts, selected=selected)
    if selected > experts:
        raise InputError(
            f"dselect_k selected {selected} of {experts} experts; choose at most that."
        )
    if not is_positive(gamma):
        raise InputError(f"dselect_k gamma is {gamma!r}; it must be positive.")
    if entropy and not is_positive(entropy):
        raise InputError(f"dselect_k entropy is {entropy!r}; it must be at least 0.")
    return DSelectK(encoder, experts, selected, gamma, entropy)


def _dense(width: int, scale: float, name: str) -> nn.Dense:
    """Dense layer whose kernel and bias are drawn evenly from ``[-scale, scale]``."""

    def draw(key: Array, shape: tuple[int, ...], dtype: type = jnp.float32) -> Array:
        return initializers.uniform(2 * scale)(key, shape, dtype) - scale

    return nn.Dense(width, kernel_init=draw, bias_init=draw, name=name)
