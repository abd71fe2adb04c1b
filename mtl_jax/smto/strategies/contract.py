"""The contract of strategies: tasks at a point, and the direction that is taken."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax import tree
from mtl_jax.devices import batch_sharding
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.gradients import TaskInputs, input_axes, task_grads, task_losses
from mtl_jax.gradients.gramian import compared
from mtl_jax.smto import LossWeighting, SmtoState
from mtl_jax.smto.lift import initial, settle
from mtl_jax.types import Array, Batch, ModelState, Params, PyTree, Scalar

STATIC: Any = {"static": True}
KEPT = {"conv_general_dilated", "dot_general", "reduce_sum", "reduce_max"}
"""Operations whose results are kept for backward passes of many tasks."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tasks:
    """The tasks of a run at one point, on one batch; their losses are cut in two."""

    represent: Callable[[PyTree, PyTree, Array], tuple[PyTree, PyTree]] = field(
        metadata=STATIC
    )
    """``(parameters and state of the trunk, x [B, ...]) -> (z, state)``; z is an array
    ``[B, ...]`` or a tree of such."""
    head_loss: Callable[[PyTree, PyTree, PyTree, PyTree], tuple[Scalar, PyTree]] = (
        field(metadata=STATIC)
    )
    """``(parameters and state of one head, z, y [B, ...]) -> (mean loss, state)``."""
    params: Params
    model_state: ModelState
    batch: Batch
    axes: Batch = field(metadata=STATIC)
    """`OWN_INPUTS` or `ONE_INPUT`."""
    task_map: AxisMap = field(metadata=STATIC)
    chunk: int | None = field(default=None, metadata=STATIC)
    """Tasks of one input whose gradients are found together, as in `task_grads`."""
    tell: Callable[[PyTree, Array], PyTree] = field(
        default=lambda state, shares: state,  # noqa: ARG005
        metadata=STATIC,
    )
    """``(state of the trunk, preference [T]) -> state``, of one that is told it."""
    parts: int = field(default=1, metadata=STATIC)
    """Equal parts of a batch that `loss` goes through one after another."""
    is_apart: bool = field(default=False, metadata=STATIC)
    """As `models.trunk.Trunk.is_apart`."""

    @property
    def inputs(self) -> TaskInputs:
        """Return what `loss` takes beside the parameters, of all tasks."""
        return TaskInputs(self.batch, self.model_state)

    @property
    def input_axes(self) -> TaskInputs:
        """Return the axes of `inputs` over tasks."""
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

    def frugal_loss(
        self, params: Params, inputs: TaskInputs
    ) -> tuple[Scalar, ModelState]:
        """Compute `loss`, and keep less of it where many tasks are pulled back.

        On an accelerator products and sums are kept, and what lies between them is made
        again in each pass, where it costs no kernel of its own: kept for all passes it
        is three times as large as they are.
        """
        if self.chunk is None or self.axes.x is not None:
            return self.loss(params, inputs)
        return jax.checkpoint(self.loss, policy=_is_kept)(params, inputs)

    def grads(self) -> tuple[tuple[Array, ModelState], Params]:
        """Compute ``(losses [T], model states [T, ...])``, gradients ``[T, ...]``."""
        return task_grads(
            self.frugal_loss,
            self.params,
            self.inputs,
            self.input_axes,
            task_map=self.task_map,
            chunk=self.chunk,
            has_aux=True,
        )

    def losses_at(self, params: Params) -> tuple[Array, ModelState]:
        """Compute ``(losses [T], model states [T, ...])`` of all tasks together.

        Examples of all tasks go through the trunk as one batch where each is seen
        apart: an axis of few tasks beside that of examples costs a TPU copies.
        """
        joined = self.is_apart and self.axes.x is not None and self.parts == 1
        if not joined or batch_sharding.share() > 1:
            return task_losses(self.loss, params, self.inputs, self.input_axes)
        x, state = self.batch.x, self.model_state
        examples = x.reshape(-1, *x.shape[2:])
        z, trunk = self.represent(params.shared, state.trunk, examples)
        z = jax.tree.map(lambda leaf: leaf.reshape(*x.shape[:2], *leaf.shape[1:]), z)
        losses, heads = jax.vmap(self.head_loss)(
            params.heads, state.heads, z, self.batch.y
        )
        return losses, ModelState(trunk, heads)

    def losses(self) -> Array:
        """Compute the losses ``[T]``."""
        return task_losses(
            self.loss, self.params, self.inputs, self.input_axes, task_map=self.task_map
        )[0]

    def updated(self, states: ModelState) -> ModelState:
        """Return the model state of the run, from what each task made of it.

        The trunk of one input has the first's.
        """
        if self.axes.x is not None:
            return states
        return states._replace(trunk=jax.tree.map(lambda leaf: leaf[0], states.trunk))


def _is_kept(primitive: Any, *args: Any, **options: Any) -> bool:
    del args, options
    return primitive.name in KEPT


class Direction(NamedTuple):
    """The direction that a strategy takes, and what it leaves behind."""

    losses: Array
    """``[T]``, before the step."""
    grads: Params
    """To step along: shared leaves ``[...]``, heads ``[T, ...]``."""
    model_state: ModelState
    smto: SmtoState


@dataclass(frozen=True)
class Strategy(ABC):
    """A way from the losses of a run's tasks to a direction: a class for each family.

    As it stands here, the state is a function of the number of tasks, and gradients
    that are given are combined by the weights of the latest update.
    """

    method: Any
    """A multi-task optimizer, as `smto.make` makes it."""
    weighted_heads: bool = False
    """A head's gradient is multiplied by the weight of its task, too."""

    def init(self, params: Params, num_tasks: int) -> SmtoState:
        """Make the state before the first update."""
        return initial(num_tasks, self.method.init(num_tasks), params.shared)

    @abstractmethod
    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Compute losses, direction and state, at the least cost."""

    def combine(
        self, losses: Array, grads: Params, state: SmtoState, key: Array
    ) -> tuple[Params, SmtoState]:
        """Combine gradients ``[T, ...]`` that are given, as `step` does those it makes.

        A method that looks at something else than the gradients combines them with the
        weights of its latest update.
        """
        del losses, key
        shared = tree.combine(state.weights, grads.shared)
        return Params(shared, self.weigh_heads(state.weights, grads.heads)), state

    @property
    def after_update(self) -> Callable[[Array, SmtoState], SmtoState] | None:
        """Return ``(losses [T], state) -> state``, or None where the method has none.

        It is told the losses after the step, on the batch of the step.
        """
        method = self.method
        if not isinstance(method, LossWeighting) or method.after_update is None:
            return None
        tell = method.after_update
        return lambda losses, state: state._replace(method=tell(losses, state.method))

    def weigh_heads(self, weights: Array, heads: PyTree) -> PyTree:
        """Weigh the heads' gradients ``[T, ...]``, or leave them as they are."""
        return tree.scale_rows(weights, heads) if self.weighted_heads else heads

    def head_weights(self, weights: Array) -> Array:
        """Return the weights ``[T]`` of the heads' gradients, from the trunk's."""
        return weights if self.weighted_heads else jnp.ones_like(weights)


def after(
    state: SmtoState,
    weights: Array,
    residual: Array,
    direction: PyTree,
    rows: PyTree | None,
    method: PyTree,
) -> SmtoState:
    """Make the state after an update; without the gradients ``rows`` no cosines."""
    if rows is None:
        norm, angles = tree.norm(direction), jnp.full_like(state.cosines, jnp.nan)
    else:
        norm, angles = compared(rows, direction)
    return SmtoState(weights, residual, norm, angles, state.skipped, method)


def settled(
    losses: Array, direction: PyTree, after: SmtoState, before: SmtoState
) -> tuple[PyTree, SmtoState]:
    """Settle as `smto.lift` does; losses that are not finite allow no update."""
    return settle(jnp.isfinite(losses).all(), direction, after, before)
