"""What a way to the direction is given, and what it finds."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.axis_map import AxisMap
from mtl_jax.gradients import task_grads, task_losses
from mtl_jax.smto import SmtoState
from mtl_jax.smto.lift import cosines, initial, settle
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

    @property
    def inputs(self) -> Batch:
        """The batch for `loss`: the trunk's state is mapped over tasks as inputs are,
        the heads' as targets."""
        state = self.model_state
        return Batch((self.batch.x, state.trunk), (self.batch.y, state.heads))

    def loss(self, params: Params, inputs: Batch) -> tuple[Scalar, ModelState]:
        """Loss of one task, and its model state."""
        (x, trunk), (y, heads) = inputs
        z, trunk = self.represent(params.shared, trunk, x)
        loss, heads = self.head_loss(params.heads, heads, z, y)
        return loss, ModelState(trunk, heads)

    def grads(self) -> tuple[tuple[Array, ModelState], Params]:
        """``(losses [T], model states [T, ...])`` and gradients ``[T, ...]``."""
        return task_grads(
            self.loss,
            self.params,
            self.inputs,
            self.axes,
            task_map=self.task_map,
            has_aux=True,
        )

    def losses(self) -> Array:
        """Losses ``[T]``."""
        return task_losses(
            self.loss, self.params, self.inputs, self.axes, task_map=self.task_map
        )[0]

    def updated(self, states: ModelState) -> ModelState:
        """Model state from what every task made of it: the trunk of one input has the
        first's."""
        if self.axes.x is not None:
            return states
        return states._replace(trunk=jax.tree.map(lambda leaf: leaf[0], states.trunk))


class Found(NamedTuple):
    """What a way finds."""

    losses: Array
    """``[T]``, before the step."""
    grads: Params
    """To step along: shared leaves ``[...]``, heads ``[T, ...]``."""
    model_state: ModelState
    smto: SmtoState


class Way(NamedTuple):
    """A way to the direction."""

    init: Callable[[Params], SmtoState]
    """``init(params) -> state``."""
    find: Callable[[Tasks, SmtoState, Array], Found]
    """``find(tasks, state, key) -> found``."""
    combine: Callable[[Array, Params, SmtoState, Array], tuple[Params, SmtoState]]
    """``combine(losses, grads [T, ...], state, key)``: the same of gradients that are
    given. A method that looks at something else than the gradients combines them with
    the weights of its latest update."""
    look_back: Callable[[Array, SmtoState], SmtoState] | None = None
    """``look_back(losses, state)``: told the losses after the step, on its batch."""


def num_tasks(params: Params) -> int:
    """``T``."""
    if isinstance(params.heads, tuple):
        return len(params.heads)
    return jax.tree.leaves(params.heads)[0].shape[0]


def starting(init: Callable[[int], PyTree]) -> Callable[[Params], SmtoState]:
    """``Way.init`` of a method whose state depends on the number of tasks only."""
    return lambda params: initial(num_tasks(params), init(num_tasks(params)))


def weigh_heads(weighted: bool, weights: Array, heads: PyTree) -> PyTree:
    """Heads' gradients times the task's weight, or as they are."""
    return tree.scale_rows(weights, heads) if weighted else heads


def with_latest(
    weighted_heads: bool,
) -> Callable[[Array, Params, SmtoState, Array], tuple[Params, SmtoState]]:
    """``Way.combine`` by the weights of the latest update."""

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
    norm = tree.norm(direction)
    if rows is None:
        angles = jnp.full_like(state.cosines, jnp.nan)
    else:
        inner = tree.inner(rows, direction)
        angles = cosines(inner, norm, tree.squared_norms(rows))
    return SmtoState(weights, residual, norm, angles, state.skipped, method)


def settled(
    losses: Array, direction: PyTree, found: SmtoState, before: SmtoState
) -> tuple[PyTree, SmtoState]:
    """`smto.lift.settle` where losses or the direction may not be finite."""
    usable = jnp.isfinite(losses).all() & jnp.isfinite(found.norm)
    return settle(usable, direction, found, before)
