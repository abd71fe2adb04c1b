"""One model at several preferences, each of which it is told."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.gradients import weighted_grads
from mtl_jax.smto import PreferenceSampler, SmtoState
from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks, after, settled
from mtl_jax.types import Array, Params, PyTree


@dataclass(frozen=True)
class ByPreferences(Strategy):
    """The gradient of losses that are weighted as the model was told they would be.

    Losses and weights are means over the preferences, and so is what normalisation
    remembers; the model is left with equal shares.
    """

    method: PreferenceSampler
    weighted_heads: bool = True

    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Pull one weighted loss back for every preference."""
        count = len(state.weights)
        rays, method = self.method.update(count, state.method, key)

        def told(shares: Array) -> Any:
            trunk = tasks.tell(tasks.model_state.trunk, shares)
            model_state = tasks.model_state._replace(trunk=trunk)
            at = replace(tasks, model_state=model_state)

            def weigh(losses: Array) -> tuple[Array, Array, tuple]:
                weights = shares.astype(losses.dtype)
                return weights, self.head_weights(weights), ()

            (losses, states), grads, _ = weighted_grads(
                at.loss, at.params, at.inputs, weigh, at.input_axes
            )
            return losses, at.updated(states), grads

        mapped = tasks.task_map(told, (0,))(rays)
        losses, model_state, grads = jax.tree.map(_mean, mapped)
        equal = jnp.full(count, 1 / count, jnp.float32)
        trunk = tasks.tell(model_state.trunk, equal)
        weights = rays.mean(axis=0)
        smto = after(state, weights, jnp.zeros(()), grads.shared, None, method)
        shared, smto = settled(losses, grads.shared, smto, state)
        combined = Params(shared, grads.heads)
        return Direction(losses, combined, model_state._replace(trunk=trunk), smto)


by_preferences = ByPreferences


def _mean(leaf: Array) -> PyTree:
    """Mean over preferences of a number; of anything else the first."""
    is_number = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.mean(axis=0) if is_number else leaf[0]
