"""The Gramian first, without holding the gradients; then one weighted backward pass."""

import jax
import jax.numpy as jnp

from mtl_jax.devices.axis_map import sequential
from mtl_jax.gradients import summed_grads, task_gram, weighted_grads
from mtl_jax.gradients.gramian import weighted
from mtl_jax.smto import GramianWeighting, SmtoState
from mtl_jax.smto.lift import settle, weigh_gram
from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks
from mtl_jax.smto.strategies.jacobian import by_jacobian
from mtl_jax.types import Array, Params

HELD_BYTES = 2**30
"""Of gradients that are held at once where tasks are mapped one after another."""


def by_gramian(method: GramianWeighting, weighted_heads: bool = False) -> Strategy:
    """The direction from inner products of the gradients, formed leaf by leaf.

    Memory: where tasks are mapped together, the gradients of one leaf at a time and the
    activations of all tasks; one after another, as many gradients as fit `HELD_BYTES`,
    with more backward passes where that is fewer than ``T``. Time: one forward and one
    backward pass more than `by_jacobian`.
    """
    other = by_jacobian(method, weighted_heads)

    def step(tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        together = tasks.task_map is not sequential
        count = len(state.weights)
        (losses, model_states), gram = task_gram(
            tasks.loss,
            tasks.params,
            tasks.inputs,
            tasks.input_axes,
            chunk=count if together else 1,
            hold=None if together else max(1, HELD_BYTES // _row_bytes(tasks)),
            has_aux=True,
        )
        (weights, residual), inner = weigh_gram(method, gram, losses, state.method, key)
        grads = _weighted(tasks, weights, weighted_heads)
        norm, cosines = weighted(gram, weights)
        found = SmtoState(
            weights=weights,
            residual=residual,
            norm=norm,
            cosines=cosines,
            skipped=state.skipped,
            method=inner,
        )
        usable = jnp.isfinite(gram.lengths).all() & jnp.isfinite(losses).all()
        shared, found = settle(usable, grads.shared, found, state)
        combined = Params(shared, grads.heads)
        return Direction(losses, combined, tasks.updated(model_states), found)

    return Strategy(other.init, step, other.combine)


def by_size(method: GramianWeighting, weighted_heads: bool = False) -> Strategy:
    """`by_jacobian`, and `by_gramian` where all gradients take over `HELD_BYTES`."""
    held, formed = (
        by_jacobian(method, weighted_heads),
        by_gramian(method, weighted_heads),
    )

    def step(tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        fits = len(state.weights) * _row_bytes(tasks) <= HELD_BYTES
        return (held if fits else formed).step(tasks, state, key)

    return held._replace(step=step)


def _row_bytes(tasks: Tasks) -> int:
    """Size of one task's gradient on the trunk, in float32."""
    return 4 * sum(leaf.size for leaf in jax.tree.leaves(tasks.params.shared))


def _weighted(tasks: Tasks, weights: Array, weighted_heads: bool) -> Params:
    """Gradient of the weighted loss."""
    heads = weights if weighted_heads else jnp.ones_like(weights)
    if tasks.task_map is sequential and tasks.axes.x is not None:
        return summed_grads(tasks.loss, tasks.params, tasks.inputs, weights, heads)
    return weighted_grads(
        tasks.loss,
        tasks.params,
        tasks.inputs,
        lambda _: (weights, heads, ()),
        tasks.input_axes,
    )[1]
