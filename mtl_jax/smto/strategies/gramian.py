"""The Gramian first, without holding the gradients; then one weighted backward pass."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.devices.axis_map import sequential
from mtl_jax.gradients import (
    pulled_back_once,
    summed_grads,
    task_gram,
    task_losses,
)
from mtl_jax.gradients.gramian import weighted
from mtl_jax.smto import GramianWeighting, SmtoState
from mtl_jax.smto.lift import settle, weigh_gram
from mtl_jax.smto.strategies.contract import Direction, Tasks
from mtl_jax.smto.strategies.jacobian import ByJacobian
from mtl_jax.types import Array, Params

HELD_BYTES = 2**30
"""Most bytes of gradients that are held at once, tasks mapped one after another."""


@dataclass(frozen=True)
class ByGramian(ByJacobian):
    """The direction from inner products of the gradients, formed leaf by leaf.

    Memory: where tasks are mapped together, the gradients of one leaf at a time and the
    activations of `Tasks.chunk` tasks; one after another, as many gradients as fit
    `HELD_BYTES`, with more backward passes where that is fewer than ``T``. Time: one
    forward and one backward pass more than `ByJacobian`.
    """

    method: GramianWeighting

    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Compute the Gramian, then the gradient of the weighted loss."""
        together = tasks.task_map is not sequential
        count = len(state.weights)
        (losses, model_states), gram = task_gram(
            tasks.frugal_loss,
            tasks.params,
            tasks.inputs,
            tasks.input_axes,
            chunk=(tasks.chunk or count) if together else 1,
            hold=None if together else max(1, HELD_BYTES // _row_bytes(tasks)),
            has_aux=True,
        )
        (weights, residual), method = weigh_gram(
            self.method, gram, losses, state.method, key
        )
        grads = _weighted(tasks, weights, self.head_weights(weights))
        norm, cosines = weighted(gram, weights)
        smto = SmtoState(
            weights=weights,
            residual=residual,
            norm=norm,
            cosines=cosines,
            skipped=state.skipped,
            method=method,
        )
        usable = jnp.isfinite(gram.lengths).all() & jnp.isfinite(losses).all()
        usable = usable & tree.all_finite(grads.shared)  # the norm is not of these
        shared, smto = settle(usable, grads.shared, smto, state)
        combined = Params(shared, grads.heads)
        return Direction(losses, combined, tasks.updated(model_states), smto)


@dataclass(frozen=True)
class BySize(ByJacobian):
    """`ByJacobian`, and `ByGramian` where all gradients take over `HELD_BYTES`."""

    method: GramianWeighting

    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Combine the gradients held, or formed where they do not fit."""
        fits = len(state.weights) * _row_bytes(tasks) <= HELD_BYTES
        strategy = ByJacobian if fits else ByGramian
        return strategy(self.method, self.weighted_heads).step(tasks, state, key)


by_gramian = ByGramian
by_size = BySize


def _row_bytes(tasks: Tasks) -> int:
    """Size of one task's gradient on the trunk, in float32."""
    return 4 * sum(leaf.size for leaf in jax.tree.leaves(tasks.params.shared))


def _weighted(tasks: Tasks, weights: Array, head_weights: Array) -> Params:
    """Gradient of the weighted loss."""
    if tasks.task_map is sequential and tasks.axes.x is not None:
        return summed_grads(
            tasks.loss, tasks.params, tasks.inputs, weights, head_weights
        )

    def losses_at(params: Params) -> Any:
        """Compute them as for the Gramian: their forward passes become one."""
        if tasks.axes.x is not None:
            return tasks.losses_at(params)
        return task_losses(tasks.frugal_loss, params, tasks.inputs, tasks.input_axes)

    weigh = lambda _: (weights, head_weights, ())  # noqa: E731
    return pulled_back_once(losses_at, tasks.params, weigh)[1]
