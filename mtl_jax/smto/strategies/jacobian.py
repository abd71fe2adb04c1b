"""The gradients of all tasks, held at once: `Aggregator` and everything else."""

from typing import Any

from mtl_jax.smto import LossWeighting, SmtoState, lift
from mtl_jax.smto.lift import Liftable
from mtl_jax.smto.strategies.contract import Found, Tasks, Way, weigh_heads
from mtl_jax.smto.strategies.losses import look_back
from mtl_jax.types import Array, Params


def by_jacobian(method: Liftable, weighted_heads: bool = False) -> Way:
    """The direction from ``[T, ...]`` gradients, by `smto.lift`.

    Memory: the gradients of all tasks, ``T`` times the trunk. A step in which a
    gradient is not finite is skipped and counted.
    """

    def init(params: Params, num_tasks: int) -> SmtoState:
        state: Any = lift(method, num_tasks).init(params.shared)
        return state

    def find(tasks: Tasks, state: SmtoState, key: Array) -> Found:
        (losses, model_states), grads = tasks.grads()
        combined, found = combine(losses, grads, state, key)
        return Found(losses, combined, tasks.updated(model_states), found)

    def combine(
        losses: Array, grads: Params, state: SmtoState, key: Array
    ) -> tuple[Params, SmtoState]:
        update: Any = lift(method, len(losses)).update
        shared, found = update(grads.shared, state, losses=losses, key=key)
        heads = weigh_heads(weighted_heads, found.weights, grads.heads)
        return Params(shared, heads), found

    told = look_back(method) if isinstance(method, LossWeighting) else None
    return Way(init, find, combine, told)
