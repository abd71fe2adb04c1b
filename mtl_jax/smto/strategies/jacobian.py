"""The gradients of all tasks, held at once: `Aggregator` and everything else."""

from typing import Any

from mtl_jax.smto import LossWeighting, SmtoState, lift
from mtl_jax.smto.lift import Liftable
from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks, weigh_heads
from mtl_jax.smto.strategies.losses import after_update
from mtl_jax.types import Array, Params


def by_jacobian(method: Liftable, weighted_heads: bool = False) -> Strategy:
    """The direction from ``[T, ...]`` gradients, by `smto.lift`.

    Memory: the gradients of all tasks, ``T`` times the trunk. A step in which a
    gradient is not finite is skipped and counted.
    """

    def init(params: Params, num_tasks: int) -> SmtoState:
        state: Any = lift(method, num_tasks).init(params.shared)
        return state

    def step(tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        (losses, model_states), grads = tasks.grads()
        combined, found = combine(losses, grads, state, key)
        return Direction(losses, combined, tasks.updated(model_states), found)

    def combine(
        losses: Array, grads: Params, state: SmtoState, key: Array
    ) -> tuple[Params, SmtoState]:
        update: Any = lift(method, len(losses)).update
        shared, found = update(grads.shared, state, losses=losses, key=key)
        heads = weigh_heads(weighted_heads, found.weights, grads.heads)
        return Params(shared, heads), found

    told = after_update(method) if isinstance(method, LossWeighting) else None
    return Strategy(init, step, combine, told)
