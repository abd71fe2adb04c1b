"""Strategies: what one is given, and the direction that it takes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax import tree
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.gradients import TaskInputs, input_axes, task_grads, task_losses
from mtl_jax.gradients.gramian import compared
from mtl_jax.smto import SmtoState
from mtl_jax.smto.lift import initial, settle
from mtl_jax.types import Array, Batch, ModelState, Params, PyTree, Scalar


class Tasks(NamedTuple):
    """The tasks of a run at one point, on one batch; their losses are cut in two."""

    represent: Callable[[PyTree, PyTree, Array], tuple[Array, PyTree]]
    """``(parameters and state of the trunk, x [B, ...]) -> (z [B, ...], state)``."""
    head_loss: Callable[[PyTree, PyTree, Array, PyTree], tuple[Scalar, PyTree]]
    """``(parameters and state of one head, z [B, ...], y [B, ...]) -> (mean loss,
    state)``."""
    params: Params
    model_state: ModelState
    batch: Batch
    axes: Batch
    """`OWN_INPUTS` or `ONE_INPUT`."""
    task_map: AxisMap
    parts: int = 1
    """Equal parts of a batch that `loss` goes through one after another."""

    @property
    def inputs(self) -> TaskInputs:
        """Arguments of `loss` beside the parameters; over tasks as `input_axes` say."""
        return TaskInputs(self.batch, self.model_state)

    @property
    def input_axes(self) -> TaskInputs:
        """Axes of `inputs` over tasks."""
        return input_axes(self.axes)

    def loss(self, params: Params, inputs: TaskInputs) -> tuple[Scalar, ModelState]:
        """Compute the loss of one task, and its model state.

        Of several parts it is the mean of theirs; in a backward pass each is computed
        again, so that the activations of one are held, and their gradients added up.
        """

        def of_part(state: ModelState, part: Batch) -> tuple[ModelState, Scalar]:
            z, trunk = self.represent(params.shared, state.trunk, part.x)
            loss, heads = self.head_loss(params.heads, state.heads, z, part.y)
            return ModelState(trunk, heads), loss

        def cut(leaf: Array) -> Array:  # evenly from what a device has of the batch
            return leaf.reshape(-1, self.parts, *leaf.shape[1:]).swapaxes(0, 1)

        if self.parts == 1:
            state, loss = of_part(inputs.state, inputs.batch)
            return loss, state
        pieces = jax.tree.map(cut, inputs.batch)
        state, losses = lax.scan(jax.checkpoint(of_part), inputs.state, pieces)
        return losses.mean(), state

    def grads(self) -> tuple[tuple[Array, ModelState], Params]:
        """``(losses [T], model states [T, ...])`` and gradients ``[T, ...]``."""
        return task_grads(
            self.loss,
            self.params,
            self.inputs,
            self.input_axes,
            task_map=self.task_map,
            has_aux=True,
        )

    def losses(self) -> Array:
        """Losses ``[T]``."""
        return task_losses(
            self.loss, self.params, self.inputs, self.input_axes, task_map=self.task_map
        )[0]

    def updated(self, states: ModelState) -> ModelState:
        """Model state from what every task made of it: the trunk of one input has the
        first's."""
        if self.axes.x is not None:
            return states
        return states._replace(trunk=jax.tree.map(lambda leaf: leaf[0], states.trunk))


class Direction(NamedTuple):
    """The direction that a strategy takes, and what it leaves behind."""

    losses: Array
    """``[T]``, before the step."""
    grads: Params
    """To step along: shared leaves ``[...]``, heads ``[T, ...]``."""
    model_state: ModelState
    smto: SmtoState


class Strategy(NamedTuple):
    """How the losses of a run's tasks become a direction, at the least cost."""

    init: Callable[[Params, int], SmtoState]
    """``init(params, T) -> state``."""
    step: Callable[[Tasks, SmtoState, Array], Direction]
    """``step(tasks, state, key) -> direction``."""
    combine: Callable[[Array, Params, SmtoState, Array], tuple[Params, SmtoState]]
    """``combine(losses, grads [T, ...], state, key)``: the same of gradients that are
    given. A method that looks at something else than the gradients combines them with
    the weights of its latest update."""
    after_update: Callable[[Array, SmtoState], SmtoState] | None = None
    """``after_update(losses, state)``: told the losses after the step, on its batch."""


def starting(init: Callable[[int], PyTree]) -> Callable[[Params, int], SmtoState]:
    """``Strategy.init`` of a method whose state depends on the number of tasks only."""

    def starting_at(params: Params, num_tasks: int) -> SmtoState:
        return initial(num_tasks, init(num_tasks), params.shared)

    return starting_at


def weigh_heads(weighted: bool, weights: Array, heads: PyTree) -> PyTree:
    """Heads' gradients times the task's weight, or as they are."""
    return tree.scale_rows(weights, heads) if weighted else heads


def with_latest(
    weighted_heads: bool,
) -> Callable[[Array, Params, SmtoState, Array], tuple[Params, SmtoState]]:
    """``Strategy.combine`` by the weights of the latest update."""

    def combine(losses: Array, grads: Params, state: SmtoState, key: Array) -> Any:
        del losses, key
        shared = tree.combine(state.weights, grads.shared)
        heads = weigh_heads(weighted_heads, state.weights, grads.heads)
        return Params(shared, heads), state

    return combine


def after(
    state: SmtoState,
    weights: Array,
    residual: Array,
    direction: PyTree,
    rows: PyTree | None,
    method: PyTree,
) -> SmtoState:
    """State after an update; without the tasks' gradients ``rows`` no cosines."""
    if rows is None:
        norm, angles = tree.norm(direction), jnp.full_like(state.cosines, jnp.nan)
    else:
        norm, angles = compared(rows, direction)
    return SmtoState(weights, residual, norm, angles, state.skipped, method)


def settled(
    losses: Array, direction: PyTree, found: SmtoState, before: SmtoState
) -> tuple[PyTree, SmtoState]:
    """Settle as `smto.lift` does; losses that are not finite allow no update."""
    return settle(jnp.isfinite(losses).all(), direction, found, before)
