"""A plain step of a setting's network, to hold ours against: what a tutorial has.

One run, all losses summed, one backward pass, the optimizer: no weighting of tasks, no
trajectory, nothing that checks for divergence.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from mtl_jax.gradients import TaskInputs, input_axes, task_losses
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import Data, take, tasks_at
from mtl_jax.training.variants import Variant
from mtl_jax.types import Array, ModelState, Params, PyTree


class PlainState(NamedTuple):
    """All that a plain step changes."""

    params: Params
    model_state: ModelState
    opt: PyTree


def trace(
    setting: Setting, variant: Variant, data: Data, rows: Any, device: Any
) -> Any:
    """Trace a loop over plain steps of one run of a variant.

    Args:
      setting: the setting.
      variant: whose tasks are trained.
      data: shapes of the pool.
      rows: shape of the rows of a chunk, ``[S, T, B]``, of one input ``[S, B]``.
      device: that it is for.
    """
    where = jax.sharding.SingleDeviceSharding(device)

    def there(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    task_ids = variant.task_ids[0]
    start = partial(_start, setting, variant, task_ids=task_ids)
    state = jax.eval_shape(start, jax.random.key(0))
    shapes = jax.tree.map(there, (state, data, rows, np.int32(0)))
    chunk = partial(_chunk, setting, variant, task_ids)
    return jax.jit(chunk, donate_argnums=0).trace(*shapes)


def _start(
    setting: Setting, variant: Variant, key: Array, task_ids: np.ndarray
) -> PlainState:
    params, model_state = setting.init(key, jnp.asarray(task_ids))
    return PlainState(params, model_state, variant.method.optimizer(1e-3).init(params))


def _chunk(
    setting: Setting,
    variant: Variant,
    task_ids: np.ndarray,
    state: PlainState,
    data: Data,
    rows: Array,
    count: Array,
) -> PlainState:
    method = variant.method._replace(parts=1)
    optimizer = method.optimizer(1e-3)
    axes = input_axes(setting.batch_axes)

    def body(i: Array, state: PlainState) -> PlainState:
        batch = take(setting, data, rows[i], jnp.asarray(task_ids))
        tasks = tasks_at(setting, method, state.params, state.model_state, batch)

        def loss(params: Params) -> tuple[Array, ModelState]:
            inputs = TaskInputs(batch, state.model_state)
            losses, states = task_losses(tasks.loss, params, inputs, axes)
            return losses.sum(), tasks.updated(states)

        grads, model_state = jax.grad(loss, has_aux=True)(state.params)
        updates, opt = optimizer.update(grads, state.opt, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        return PlainState(params, model_state, opt)

    return lax.fori_loop(0, count, body, state)
