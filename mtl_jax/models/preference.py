"""Words between a trunk and its setting: the preference that the trunk is told.

>>> class Scaled(nn.Module):
...     @nn.compact
...     def __call__(self, x):
...         return x @ preference(self, 2)
>>> state = Scaled().init(jax.random.key(0), jnp.ones((1, 2)))
>>> state["preference"]["shares"].tolist()
[0.5, 0.5]
>>> x = jnp.array([[1.0, 3.0]])
>>> Scaled().apply(tell(state, jnp.array([0.0, 1.0])), x).tolist()
[3.0]
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mtl_jax.types import Array, PyTree

PREFERENCE = "preference"
"""Collection of the preference: model state that no pass changes."""


def preference(trunk: nn.Module, count: int) -> Array:
    """Return the preference ``[T]`` that a trunk is told, which sums to 1.

    Until it is told one, all tasks have equal shares. To be called in a compact method.
    """
    equal = lambda: jnp.full(count, 1 / count, jnp.float32)  # noqa: E731
    return trunk.variable(PREFERENCE, "shares", equal).value


def tell(state: PyTree, shares: Array | np.ndarray) -> PyTree:
    """Write a preference ``[T]`` into the state of a trunk, or of trunks side by side.

    On the host, if it is an array of NumPy, and in a program otherwise. A state of a
    trunk that asks for none stays as it is.
    """
    xp: Any = np if isinstance(shares, np.ndarray) else jnp

    def written(leaf: Array) -> Array:
        return xp.broadcast_to(shares.astype(leaf.dtype), leaf.shape)

    if PREFERENCE not in state:
        return state
    return {**state, PREFERENCE: jax.tree.map(written, state[PREFERENCE])}
