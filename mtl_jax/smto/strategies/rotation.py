"""Heads that see rotated representations."""

from dataclasses import dataclass

from mtl_jax.smto import Rotation, SmtoState
from mtl_jax.smto.rotation import GENERATOR
from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks, after, settled
from mtl_jax.smto.strategies.representation import at_heads, represent
from mtl_jax.types import Array, ModelState, Params


@dataclass(frozen=True)
class ByRotation(Strategy):
    """The direction by weights and rotations from gradients at the representation.

    The heads' parameters hold a generator `rotation.GENERATOR`, whose gradient is the
    method's and not the loss's. Where every task brings its own inputs, examples do not
    correspond, and gradients are summed over the batch.
    """

    method: Rotation

    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Pull the weighted gradients back through the trunk once."""
        z, pull_back, trunk = represent(tasks)
        losses, heads, grads, states = at_heads(tasks, z)
        own_inputs = tasks.axes.x is not None
        rows = grads.sum(axis=1, keepdims=True) if own_inputs else grads
        generators = tasks.params.heads[GENERATOR]
        (weights, residual), slopes, method = self.method.update(
            rows, generators, state.method, key
        )
        pulled = grads * weights[:, None, None]
        (shared,) = pull_back(pulled if own_inputs else pulled.sum(axis=0))
        smto = after(state, weights, residual, shared, None, method)
        shared, smto = settled(losses, shared, smto, state)
        heads = {**self.weigh_heads(weights, heads), GENERATOR: slopes}
        model_state = ModelState(trunk, states)
        return Direction(losses, Params(shared, heads), model_state, smto)


by_rotation = ByRotation
