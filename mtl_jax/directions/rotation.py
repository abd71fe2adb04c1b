"""Heads that see rotated representations."""

import jax.numpy as jnp

from mtl_jax.directions.contract import (
    Found,
    Tasks,
    Way,
    after,
    num_tasks,
    weigh_heads,
    with_latest,
)
from mtl_jax.directions.representation import at_heads, represent
from mtl_jax.rotation import GENERATOR
from mtl_jax.smto import Rotation, SmtoState
from mtl_jax.smto.lift import initial, settle
from mtl_jax.types import Array, Params


def by_rotation(method: Rotation, weighted_heads: bool = False) -> Way:
    """Weights and rotations from the gradients at the shared representation.

    The heads' parameters hold a generator `rotation.GENERATOR`, whose gradient is the
    method's and not the loss's. Where every task brings its own inputs, examples do not
    correspond, and gradients are summed over the batch.
    """

    def init(params: Params) -> SmtoState:
        return initial(num_tasks(params), method.init(num_tasks(params)))

    def find(tasks: Tasks, state: SmtoState, key: Array) -> Found:
        z, pull_back, model_state = represent(tasks)
        losses, heads, grads = at_heads(tasks, z)
        own_inputs = tasks.axes.x is not None
        rows = grads.sum(axis=1, keepdims=True) if own_inputs else grads
        generators = tasks.params.heads[GENERATOR]
        solution, slopes, inner = method.update(rows, generators, state.method, key)
        weights, residual = solution
        pulled = grads * weights[:, None, None]
        (shared,) = pull_back(pulled if own_inputs else pulled.sum(axis=0))
        found = after(state, weights, residual, shared, None, inner)
        usable = jnp.isfinite(losses).all() & jnp.isfinite(found.norm)
        shared, found = settle(usable, shared, found, state)
        heads = {**weigh_heads(weighted_heads, weights, heads), GENERATOR: slopes}
        return Found(losses, Params(shared, heads), model_state, found)

    return Way(init, find, with_latest(weighted_heads))
