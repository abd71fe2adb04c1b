"""Dropout whose key lies in the model state, in the collection ``dropout``.

So all passes from one state, as of a training step, drop the same entries, and the
state after a pass in training mode holds the next key. Evaluation leaves it alone.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mtl_jax.types import Array


def key_of_pass(module: nn.Module, rate: float, train: bool) -> Array | None:
    """Draw a pass's key from the module's state, or None where nothing is dropped.

    To be called once in a compact method; initialisation needs an rng ``dropout``.
    """
    if not rate:
        return None
    # Raw data, since states are stored, copied and mapped as plain arrays.
    state = module.variable(
        "dropout", "key", lambda: jax.random.key_data(module.make_rng("dropout"))
    )
    if not train:
        return None
    now, following = jax.random.split(jax.random.wrap_key_data(state.value))
    state.value = jax.random.key_data(following)
    return now


def fold(key: Array | None, number: int) -> Array | None:
    """Return the key of one of several places; None without a key."""
    return None if key is None else jax.random.fold_in(key, number)


def drop(x: Array, rate: float, key: Array | None) -> Array:
    """Set a share ``rate`` of entries to 0, the rest scaled to the same mean."""
    if key is None:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)
