"""One run of training: its state, its step, and a chunk of steps in one program.

Nothing here knows of runs side by side: whoever wants several maps these functions
over a run axis.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from mtl_jax import tree
from mtl_jax.axis_map import AxisMap
from mtl_jax.gradients import task_grads, weighted_grads
from mtl_jax.settings import Setting
from mtl_jax.smto import LossWeighting, Smto, SmtoState
from mtl_jax.types import ONE_INPUT, Array, Batch, Params, PyTree

SMOOTHING = 0.9
"""Weight of the past in the running training loss."""


class TrainState(NamedTuple):
    """Everything a run is: arrays only, so Orbax saves it as it is."""

    step: Array
    """Updates made, int32 ``[]``."""
    params: Params
    model_state: PyTree
    """Batch statistics, ``[T, ...]`` for own inputs, ``[...]`` for one input."""
    smto: PyTree
    """An `SmtoState`."""
    opt: PyTree
    key: Array
    """Raw key data; the key of a step is ``fold_in(key, step)``."""
    running_loss: Array
    """Exponential mean of the training losses ``[T]``."""
    lowest_loss: Array
    """Lowest running loss so far ``[T]``."""
    diverged: Array
    """Step whose update was not finite, int32 ``[]``; -1 while the run is sound."""


class Data(NamedTuple):
    """The pool on the device, as `data.Dataset` has it."""

    x: Array
    y: Array


class Method(NamedTuple):
    """How the gradients of a run's tasks become one update."""

    smto: LossWeighting | Smto
    weighted_heads: bool
    """Heads' gradients are multiplied by the task's weight, or left as they are."""
    optimizer: Callable[[Any], optax.GradientTransformation]
    """``optimizer(learning_rate)``."""
    task_map: AxisMap


def init_state(
    setting: Setting, method: Method, seed: Array, task_ids: Array
) -> TrainState:
    """Initial state of a run of the tasks ``task_ids [T]``; a function of the seed.

    The trunk is the same for every choice of tasks, a head for every company.
    """
    init_key, step_key = jax.random.split(jax.random.key(seed))
    params, model_state = setting.init(init_key, task_ids)
    num_tasks = task_ids.shape[0]
    if isinstance(method.smto, LossWeighting):
        smto = SmtoState(jnp.ones(num_tasks), method.smto.init(num_tasks))
    else:
        smto = method.smto.init(params.shared)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        smto=smto,
        opt=method.optimizer(0.0).init(params),
        key=jax.random.key_data(step_key),
        running_loss=jnp.full(num_tasks, jnp.inf),
        lowest_loss=jnp.full(num_tasks, jnp.inf),
        diverged=jnp.full((), -1, jnp.int32),
    )


def take(data: Data, rows: Array, task_ids: Array, batch_axes: Batch) -> Batch:
    """Batch of rows of the pool: ``[T, B]`` for own inputs, ``[B]`` for one input."""
    x, y = data.x[rows], data.y[rows]
    return Batch(x, y if batch_axes.x is not None else y[:, task_ids].T)


def direction(
    setting: Setting, method: Method, state: TrainState, batch: Batch, key: Array
) -> tuple[Array, Params, PyTree, PyTree]:
    """Task losses ``[T]``, gradient to step along, model state and SMTO state."""
    # Batch statistics belong to an input and are mapped over tasks as it is.
    inputs = Batch((batch.x, state.model_state), batch.y)

    def loss_fn(params: Params, inputs: Batch) -> tuple[Array, PyTree]:
        x, model_state = inputs.x
        return setting.train_loss(params, model_state, Batch(x, inputs.y))

    if isinstance(method.smto, LossWeighting):
        weighting = method.smto

        def weigh(losses: Array) -> tuple[Array, Array, SmtoState]:
            weights, inner = weighting.update(losses, state.smto.method, key)
            return weights, _head_weights(method, weights), SmtoState(weights, inner)

        (losses, model_state), grads, smto = weighted_grads(
            loss_fn, state.params, inputs, weigh, setting.batch_axes
        )
    else:
        (losses, model_state), grads = task_grads(
            loss_fn,
            state.params,
            inputs,
            setting.batch_axes,
            task_map=method.task_map,
            has_aux=True,
        )
        grads, smto = combine(method, state.smto, losses, grads, key)
    if setting.batch_axes == ONE_INPUT:  # one input, hence T times the same statistics
        model_state = jax.tree.map(lambda leaf: leaf[0], model_state)
    return losses, grads, model_state, smto


def combine(
    method: Method, smto: PyTree, losses: Array, grads: Params, key: Array
) -> tuple[Params, PyTree]:
    """Gradient to step along, of task gradients ``[T, ...]``; the SMTO's state."""
    if isinstance(method.smto, LossWeighting):
        weights, inner = method.smto.update(losses, smto.method, key)
        smto = SmtoState(weights, inner)
        shared = tree.combine(weights, grads.shared)
    else:
        update: Any = method.smto.update
        shared, smto = update(grads.shared, smto, losses=losses, key=key)
    heads = tree.scale_rows(_head_weights(method, smto.weights), grads.heads)
    return Params(shared, heads), smto


def _head_weights(method: Method, weights: Array) -> Array:
    return weights if method.weighted_heads else jnp.ones_like(weights)


def train_step(
    setting: Setting,
    method: Method,
    state: TrainState,
    batch: Batch,
    learning_rate: Array,
) -> tuple[TrainState, Array]:
    """One update of one run; returns the new state and the tasks' losses ``[T]``.

    A run whose loss or update is not finite keeps the state it had, is marked with
    the step, and never moves again.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    losses, grads, model_state, smto = direction(setting, method, state, batch, key)
    optimizer = method.optimizer(learning_rate)
    updates, opt = optimizer.update(grads, state.opt, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    first = state.step == 0
    running = jnp.where(
        first, losses, SMOOTHING * state.running_loss + (1 - SMOOTHING) * losses
    )
    moved = TrainState(
        step=state.step + 1,
        params=params,
        model_state=model_state,
        smto=smto,
        opt=opt,
        key=state.key,
        running_loss=running,
        lowest_loss=jnp.minimum(state.lowest_loss, running),
        diverged=state.diverged,
    )
    finite = tree.all_finite((losses, updates))
    stopped = jnp.where(state.diverged < 0, state.step, state.diverged)
    frozen = state._replace(diverged=stopped)
    return tree.where(finite & (state.diverged < 0), moved, frozen), losses


def train_chunk(
    setting: Setting,
    method: Method,
    state: TrainState,
    rows: Array,
    count: Array,
    learning_rate: Array,
    task_ids: Array,
    data: Data,
) -> tuple[TrainState, Array]:
    """``count`` steps of one run on the batches ``rows[:count]``.

    ``count`` is an array, so chunks of every length are one program.

    Returns:
      The new state, and the losses ``[T]`` of the last step.
    """

    def body(i: Array, carry: tuple) -> tuple:
        state, _ = carry
        batch = take(data, rows[i], task_ids, setting.batch_axes)
        return train_step(setting, method, state, batch, learning_rate)

    start = (state, jnp.full_like(state.running_loss, jnp.nan))
    return lax.fori_loop(0, count, body, start)
