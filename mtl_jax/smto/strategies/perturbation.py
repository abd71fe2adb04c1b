"""Gradients at other points than the parameters."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mtl_jax.gradients import TaskInputs
from mtl_jax.smto import Perturbation, SmtoState
from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks, after, settled
from mtl_jax.types import Array, Params, PyTree, Scalar


@dataclass(frozen=True)
class ByPerturbation(Strategy):
    """The direction from gradients of every task at its own offset from the parameters.

    Batch statistics move by the pass at the parameters only. Memory: the gradients of
    all tasks, twice.
    """

    method: Perturbation

    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Compute gradients at the parameters, and where the method asks for more."""
        (losses, model_states), grads = tasks.grads()

        def loss_at(offset: Params, params: Params, inputs: TaskInputs) -> Scalar:
            return tasks.loss(jax.tree.map(jnp.add, params, offset), inputs)[0]

        axes = (Params(0, 0), Params(None, 0), tasks.input_axes)

        def losses_at(offset: Params) -> Array:
            mapped = tasks.task_map(loss_at, axes)
            return mapped(offset, tasks.params, tasks.inputs)

        def grads_at(offset: Params) -> PyTree:
            mapped = tasks.task_map(jax.grad(loss_at), axes)
            return mapped(offset, tasks.params, tasks.inputs)

        (direction, heads, solution), method = self.method.update(
            losses, grads, grads_at, losses_at, state.method, key
        )
        smto = after(state, *solution, direction, grads.shared, method)
        shared, smto = settled(losses, direction, smto, state)
        combined = Params(shared, self.weigh_heads(solution.weights, heads))
        return Direction(losses, combined, tasks.updated(model_states), smto)


by_perturbation = ByPerturbation
