"""Heads that see rotated representations."""

from mtl_jax.smto import Rotation, SmtoState
from mtl_jax.smto.rotation import GENERATOR
from mtl_jax.smto.strategies.contract import (
    Direction,
    Strategy,
    Tasks,
    after,
    settled,
    starting,
    weigh_heads,
    with_latest,
)
from mtl_jax.smto.strategies.representation import at_heads, represent
from mtl_jax.types import Array, ModelState, Params


def by_rotation(method: Rotation, weighted_heads: bool = False) -> Strategy:
    """Weights and rotations from the gradients at the shared representation.

    The heads' parameters hold a generator `rotation.GENERATOR`, whose gradient is the
    method's and not the loss's. Where every task brings its own inputs, examples do not
    correspond, and gradients are summed over the batch.
    """

    def step(tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        z, pull_back, trunk = represent(tasks)
        losses, heads, grads, states = at_heads(tasks, z)
        own_inputs = tasks.axes.x is not None
        rows = grads.sum(axis=1, keepdims=True) if own_inputs else grads
        generators = tasks.params.heads[GENERATOR]
        solution, slopes, inner = method.update(rows, generators, state.method, key)
        weights, residual = solution
        pulled = grads * weights[:, None, None]
        (shared,) = pull_back(pulled if own_inputs else pulled.sum(axis=0))
        found = after(state, weights, residual, shared, None, inner)
        shared, found = settled(losses, shared, found, state)
        heads = {**weigh_heads(weighted_heads, weights, heads), GENERATOR: slopes}
        model_state = ModelState(trunk, states)
        return Direction(losses, Params(shared, heads), model_state, found)

    return Strategy(starting(method.init), step, with_latest(weighted_heads))
