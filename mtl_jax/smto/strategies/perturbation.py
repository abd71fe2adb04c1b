"""Gradients at other points than the parameters."""

import jax
import jax.numpy as jnp

from mtl_jax.gradients import TaskInputs
from mtl_jax.smto import Perturbation, SmtoState
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
from mtl_jax.types import Array, Params, PyTree, Scalar


def by_perturbation(method: Perturbation, weighted_heads: bool = False) -> Strategy:
    """The direction from gradients of every task at its own offset from the parameters.

    Batch statistics move by the pass at the parameters only. Memory: the gradients of
    all tasks, twice.
    """

    def step(tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        (losses, model_states), grads = tasks.grads()

        def loss_at(offset: Params, params: Params, inputs: TaskInputs) -> Scalar:
            return tasks.loss(jax.tree.map(jnp.add, params, offset), inputs)[0]

        axes = (Params(0, 0), Params(None, 0), tasks.input_axes)  # type: ignore[arg-type]

        def losses_at(offset: Params) -> Array:
            mapped = tasks.task_map(loss_at, axes)
            return mapped(offset, tasks.params, tasks.inputs)

        def grads_at(offset: Params) -> PyTree:
            mapped = tasks.task_map(jax.grad(loss_at), axes)
            return mapped(offset, tasks.params, tasks.inputs)

        (direction, heads, solution), inner = method.update(
            losses, grads, grads_at, losses_at, state.method, key
        )
        found = after(state, *solution, direction, grads.shared, inner)
        shared, found = settled(losses, direction, found, state)
        heads = weigh_heads(weighted_heads, solution.weights, heads)
        return Direction(
            losses, Params(shared, heads), tasks.updated(model_states), found
        )

    return Strategy(starting(method.init), step, with_latest(weighted_heads))
