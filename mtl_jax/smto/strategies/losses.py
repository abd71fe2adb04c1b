"""A single backward pass, of the weighted loss."""

from dataclasses import dataclass

import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients import pulled_back_once
from mtl_jax.smto import LossWeighting, SmtoState
from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks, after, settled
from mtl_jax.types import Array, Params


@dataclass(frozen=True)
class ByLosses(Strategy):
    """The direction by weights from the losses: the cost of unitary scalarization."""

    method: LossWeighting
    weighted_heads: bool = True

    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Pull the weighted loss back once."""

        def weigh(losses: Array) -> tuple[Array, Array, tuple]:
            weights, method = self.method.update(losses, state.method, key)
            return weights, self.head_weights(weights), (weights, method)

        (losses, model_states), grads, (weights, method) = pulled_back_once(
            tasks.losses_at, tasks.params, weigh
        )
        smto = after(state, weights, jnp.zeros(()), grads.shared, None, method)
        shared, smto = settled(losses, grads.shared, smto, state)
        grads = Params(shared, grads.heads)
        return Direction(losses, grads, tasks.updated(model_states), smto)

    def combine(
        self, losses: Array, grads: Params, state: SmtoState, key: Array
    ) -> tuple[Params, SmtoState]:
        """Combine gradients ``[T, ...]`` by weights from the losses."""
        weights, method = self.method.update(losses, state.method, key)
        shared = tree.combine(weights, grads.shared)
        heads = self.weigh_heads(weights, grads.heads)
        smto = after(state, weights, jnp.zeros(()), shared, None, method)
        shared, smto = settled(losses, shared, smto, state)
        return Params(shared, heads), smto


by_losses = ByLosses
