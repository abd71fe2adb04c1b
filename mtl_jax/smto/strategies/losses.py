"""One backward pass of the weighted loss."""

import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients import weighted_grads
from mtl_jax.smto import LossWeighting, SmtoState
from mtl_jax.smto.strategies.contract import (
    Direction,
    Strategy,
    Tasks,
    after,
    settled,
    starting,
    weigh_heads,
)
from mtl_jax.types import Array, Params


def by_losses(weighting: LossWeighting, weighted_heads: bool = True) -> Strategy:
    """Weights from the losses: the cost of unitary scalarization."""

    def step(tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        def weigh(losses: Array) -> tuple[Array, Array, tuple]:
            weights, method = weighting.update(losses, state.method, key)
            heads = weights if weighted_heads else jnp.ones_like(weights)
            return weights, heads, (weights, method)

        (losses, model_states), grads, (weights, method) = weighted_grads(
            tasks.loss, tasks.params, tasks.inputs, weigh, tasks.input_axes
        )
        found = after(state, weights, jnp.zeros(()), grads.shared, None, method)
        shared, found = settled(losses, grads.shared, found, state)
        grads = Params(shared, grads.heads)
        return Direction(losses, grads, tasks.updated(model_states), found)

    def combine(
        losses: Array, grads: Params, state: SmtoState, key: Array
    ) -> tuple[Params, SmtoState]:
        weights, method = weighting.update(losses, state.method, key)
        shared = tree.combine(weights, grads.shared)
        heads = weigh_heads(weighted_heads, weights, grads.heads)
        found = after(state, weights, jnp.zeros(()), shared, None, method)
        shared, found = settled(losses, shared, found, state)
        return Params(shared, heads), found

    return Strategy(starting(weighting.init), step, combine, after_update(weighting))


def after_update(weighting: LossWeighting):
    """``Strategy.after_update`` of a weighting; None if it does not look back."""
    told = weighting.after_update
    if told is None:
        return None
    return lambda losses, state: state._replace(method=told(losses, state.method))
