"""Gradients at the shared representation, and one backward pass of the trunk."""

from collections.abc import Callable

import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients.gramian import gramian
from mtl_jax.smto import Cotangent, GramianWeighting, SmtoState, Solution
from mtl_jax.smto.lift import weigh_gram
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
from mtl_jax.types import Array, ModelState, Params, PyTree

Pull = Callable[[Array, Array, Array, SmtoState, Array], tuple[Array, Solution, PyTree]]
"""``(z [N, B, D], grads [T, B, D], losses, state, key) -> (grads to pull back [T, B,
D], solution, the method's state)``."""


def by_representation(
    method: GramianWeighting, weighted_heads: bool = False
) -> Strategy:
    """Weights from the Gramian of the gradients at the shared representation.

    The "-UB" variant of a method (Sener & Koltun, NeurIPS 2018, section 3.3): one
    backward pass of the trunk for any number of tasks. Rows are the gradients with
    respect to the representations of the batch; where every task brings its own inputs,
    examples do not correspond, and rows are summed over the batch.
    """

    def pull(
        z: Array, grads: Array, losses: Array, state: SmtoState, key: Array
    ) -> tuple[Array, Solution, PyTree]:
        own_inputs = z.shape[0] == grads.shape[0]
        rows = grads.sum(axis=1) if own_inputs else grads
        solution, inner = weigh_gram(method, gramian(rows), losses, state.method, key)
        return tree.scale_rows(solution.weights, grads), solution, inner

    return _strategy(method.init, pull, weighted_heads)


def by_cotangent(method: Cotangent, weighted_heads: bool = False) -> Strategy:
    """What a method makes of the gradients at the shared representation.

    Such a method has no weights: all are 1, on the heads, too.
    """

    def pull(
        z: Array, grads: Array, losses: Array, state: SmtoState, key: Array
    ) -> tuple[Array, Solution, PyTree]:
        pulled, inner = method.update(z, grads, state.method, key)
        return pulled, Solution(jnp.ones_like(losses), jnp.zeros(())), inner

    return _strategy(method.init, pull, weighted_heads)


def _strategy(init_method: Callable, pull: Pull, weighted_heads: bool) -> Strategy:
    def step(tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        z, pull_back, trunk = represent(tasks)
        losses, heads, grads, states = at_heads(tasks, z)
        own_inputs = tasks.axes.x is not None
        flat = grads.reshape(*grads.shape[:2], -1)  # [T, B, D]
        seen = z.reshape(*z.shape[: 2 if own_inputs else 1], -1)
        seen = seen if own_inputs else seen[None]
        pulled, solution, method = pull(seen, flat, losses, state, key)
        pulled = pulled if own_inputs else pulled.sum(axis=0)
        (shared,) = pull_back(pulled.reshape(z.shape))
        found = after(state, *solution, shared, None, method)
        shared, found = settled(losses, shared, found, state)
        combined = Params(shared, weigh_heads(weighted_heads, solution.weights, heads))
        return Direction(losses, combined, ModelState(trunk, states), found)

    return Strategy(starting(init_method), step, with_latest(weighted_heads))
