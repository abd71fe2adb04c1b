"""The gradients of all tasks, held at once: `Aggregator` and everything else."""

from dataclasses import dataclass
from typing import Any

from mtl_jax.smto import SmtoState, lift
from mtl_jax.smto.lift import Liftable
from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks
from mtl_jax.types import Array, Params


@dataclass(frozen=True)
class ByJacobian(Strategy):
    """The direction from ``[T, ...]`` gradients, by `smto.lift`.

    Memory: the gradients of all tasks, ``T`` times the trunk. A step in which a
    gradient is not finite is skipped and counted.
    """

    method: Liftable

    def init(self, params: Params, num_tasks: int) -> SmtoState:
        """Make the state of the lifted method."""
        state: Any = lift(self.method, num_tasks).init(params.shared)
        return state

    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Combine the gradients of all tasks."""
        (losses, model_states), grads = tasks.grads()
        combined, smto = self.combine(losses, grads, state, key)
        return Direction(losses, combined, tasks.updated(model_states), smto)

    def combine(
        self, losses: Array, grads: Params, state: SmtoState, key: Array
    ) -> tuple[Params, SmtoState]:
        """Combine gradients ``[T, ...]`` by the lifted method."""
        update: Any = lift(self.method, len(losses)).update
        shared, smto = update(grads.shared, state, losses=losses, key=key)
        return Params(shared, self.weigh_heads(smto.weights, grads.heads)), smto


by_jacobian = ByJacobian
