"""A run of training: its state, its step, and a chunk of steps in one program.

Nothing here knows of runs side by side: whoever wants several maps these functions
over a run axis.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.custom_batching import custom_vmap

from mtl_jax import tree
from mtl_jax.devices.axis_map import AxisMap, sequential
from mtl_jax.gradients import TaskInputs
from mtl_jax.gradients.gramian import compared
from mtl_jax.models.preference import PREFERENCE, tell
from mtl_jax.objectives.mixed import MixedTargets
from mtl_jax.smto import SmtoState
from mtl_jax.smto.strategies import Strategy, Tasks
from mtl_jax.training.optimizers import OptimizerMaker
from mtl_jax.training.packing import (
    join_like,
    packing,
    part_like,
    ravel,
    unravel,
)
from mtl_jax.training.setting import Setting
from mtl_jax.types import TASK_AXES, Array, Batch, ModelState, Params, PyTree

SMOOTHING = 0.9
"""Weight of the past in the running training loss."""


AUGMENT = 0x617567
"""Folded into a step's key: no method draws from there."""


class TrainState(NamedTuple):
    """Everything a run is: arrays only, so Orbax saves it as it is."""

    step: Array
    """Updates made, int32 ``[]``."""
    params: Params
    model_state: ModelState
    smto: SmtoState
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
    kinds: Array | None
    """As `Setting.kinds`."""


class UpdateRule(NamedTuple):
    """The rule by which the tasks of a run become one update."""

    strategy: Strategy
    """From the tasks to a direction."""
    optimizer: OptimizerMaker
    """``optimizer(learning_rate)``."""
    task_map: AxisMap
    chunk: int | None = None
    """Tasks of one input whose gradients are found together, as in `task_grads`."""
    parts: int = 1
    """Equal parts of a batch that gradients are accumulated over."""
    is_joined: bool = False
    """Parameters are updated in one row, by an optimizer that looks at each apart."""
    is_watched: bool = False
    """The strategy makes no task's own gradient, so that cosines of the direction with
    them are made apart, at the steps that somebody looks at."""


def init_state(
    setting: Setting,
    method: UpdateRule,
    seed: Array,
    task_ids: Array,
    start: PyTree = None,
) -> TrainState:
    """Initialise a run of the tasks ``task_ids [T]``; a function of the seed.

    The trunk is the same for every choice of tasks, a head for every company. A program
    passes ``setting.start`` as ``start``, so that it does not hold it.
    """
    init_key, step_key = jax.random.split(jax.random.key(seed))
    start = setting.start if start is None else start
    params, model_state = setting.init(init_key, task_ids, start)
    num_tasks = task_ids.shape[0]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        smto=method.strategy.init(params, num_tasks),
        opt=method.optimizer(0.0).init(params),
        key=jax.random.key_data(step_key),
        running_loss=jnp.full(num_tasks, jnp.inf),
        lowest_loss=jnp.full(num_tasks, jnp.inf),
        diverged=jnp.full((), -1, jnp.int32),
    )


def told(
    states: TrainState,
    shares: np.ndarray | None,
    place: Callable[[PyTree], PyTree] = lambda said: said,
) -> TrainState:
    """Tell the models of runs a preference ``[T]``; None: leave them as they are.

    Args:
      states: of runs, leaves ``[R, ...]``.
      shares: on the host.
      place: puts what is said where the states are; the host if not given.
    """
    trunk = states.model_state.trunk
    if shares is None or PREFERENCE not in trunk:
        return states
    said = tell({PREFERENCE: trunk[PREFERENCE]}, shares)
    model_state = states.model_state._replace(trunk={**trunk, **place(said)})
    return states._replace(model_state=model_state)


def step_key(state: TrainState) -> Array:
    """Return the key of the next step, the same for all variants of a seed."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)


def data_pool(setting: Setting) -> Data:
    """Return the pool of a setting, where it lies, an input a flat row.

    So rows are gathered whole: a TPU would lay images out anew, in four times the room.
    """
    x: Any = setting.data.x
    leaves: Any = setting.data.y, setting.kinds
    return Data(x.reshape(len(x), -1) if x.ndim > 2 else x, *leaves)


def inputs(setting: Setting, data: Data, rows: Array) -> Array:
    """Take the inputs of rows ``[...]`` of the pool, each as the setting has it."""
    return data.x[rows].reshape(*rows.shape, *setting.data.x.shape[1:])


def take(setting: Setting, data: Data, rows: Array, task_ids: Array) -> Batch:
    """Take a batch of rows of the pool: ``[T, B]``, or ``[B]`` for one input."""
    x, y = inputs(setting, data, rows), data.y[rows]
    if setting.batch_axes.x is None:
        y = y[:, task_ids].swapaxes(0, 1)
    if data.kinds is None:
        return Batch(x, y)
    kind = jnp.broadcast_to(data.kinds[task_ids][:, None], y.shape[:2])
    return Batch(x, MixedTargets(kind, y))


def tasks_at(
    setting: Setting,
    method: UpdateRule,
    params: Params,
    model_state: ModelState,
    batch: Batch,
) -> Tasks:
    """Return the tasks of a run at a point, on a batch, as strategies take them."""
    return Tasks(
        represent=setting.represent,
        head_loss=setting.head_loss,
        params=params,
        model_state=model_state,
        batch=batch,
        axes=setting.batch_axes,
        task_map=method.task_map,
        chunk=method.chunk,
        tell=tell,
        parts=method.parts,
        is_apart=setting.trunk.is_apart,
    )


def train_step(
    setting: Setting,
    method: UpdateRule,
    state: TrainState,
    batch: Batch,
    learning_rate: Array,
    looked_at: Array | bool = False,
    reread: Callable[[], TrainState] | None = None,
) -> tuple[TrainState, Array]:
    """Make one update of one run; returns the new state and the tasks' losses ``[T]``.

    A run whose loss or update is not finite keeps the state it had, is marked with
    the step, and never moves again. One whose multi-task optimizer skipped a gradient
    that is not finite, of losses that are, stays where it is for a step.

    Args:
      setting: the setting.
      method: the rule of the update; the optimizer's state is as `packing.join_like`
        makes it where it is joined.
      state: of the run.
      batch: of its tasks.
      learning_rate: of the step.
      looked_at: whether somebody looks at the step.
      reread: returns the state again, from fewer arrays: a choice wants what it looks
        at in memory.
    """
    key = step_key(state)
    tasks = tasks_at(setting, method, state.params, state.model_state, batch)
    losses, grads, model_state, smto = method.strategy.step(tasks, state.smto, key)
    join: Any = ravel if method.is_joined else _same
    part: Any = partial(unravel, like=state.params) if method.is_joined else _same
    row = join(grads)
    if method.is_watched:

        def watch() -> Array:  # of few arrays: a choice wants them in memory
            seen = replace(tasks, params=(reread() if reread else state).params)
            return _cosines(seen, part(row).shared)

        cosines = lax.cond(looked_at, watch, lambda: smto.cosines)
        smto = smto._replace(cosines=cosines)
    optimizer = method.optimizer(learning_rate)
    updates, opt = optimizer.update(row, state.opt, join(state.params))
    params: Any = optax.apply_updates(state.params, part(updates))
    if method.strategy.after_update:
        losses_after = replace(tasks, params=params).losses()
        smto = method.strategy.after_update(losses_after, smto)
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
    skipped = smto.skipped > state.smto.skipped
    waited = moved._replace(
        params=state.params, model_state=state.model_state, opt=state.opt
    )
    finite = tree.all_finite(losses) & (skipped | tree.all_finite(updates))
    stopped = jnp.where(state.diverged < 0, state.step, state.diverged)
    frozen = state._replace(diverged=stopped)
    sound = finite & (state.diverged < 0)
    return tree.where(sound, tree.where(skipped, waited, moved), frozen), losses


def _cosines(tasks: Tasks, direction: PyTree) -> Array:
    """Cosines ``[T]`` of a direction with the tasks' gradients, in memory of one."""

    def of_task(params: Params, inputs: TaskInputs) -> Array:
        loss = lambda shared: tasks.loss(params._replace(shared=shared), inputs)[0]  # noqa: E731
        row = jax.tree.map(lambda leaf: leaf[None], jax.grad(loss)(params.shared))
        return compared(row, direction)[1][0]

    mapped = sequential(of_task, (TASK_AXES, tasks.input_axes))
    return mapped(tasks.params, tasks.inputs)


@custom_vmap
def _any_sound(diverged: Array) -> Array:
    """Tell whether a run is sound, or of runs mapped together any.

    One answer for all leaves their loop with one counter and no choice between states:
    a run that has diverged stays where it is by itself.
    """
    return diverged < 0


@_any_sound.def_vmap
def _(axis_size: int, in_batched: list, diverged: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return (diverged < 0).any(), False


def train_chunk(
    setting: Setting,
    method: UpdateRule,
    state: TrainState,
    rows: Array,
    count: Array,
    learning_rate: Array,
    task_ids: Array,
    data: Data,
    looked_at: Array | bool = False,
) -> tuple[TrainState, Array]:
    """Make ``count`` steps of one run on the batches ``rows[:count]``.

    ``count`` is an array, so chunks of every length are one program, whether the last
    step is looked at or not. A run that has diverged takes no more steps: where runs
    are mapped one after another it costs nothing.

    Returns:
      The new state, and the losses ``[T]`` of the last step.
    """

    opt = state.opt
    if method.is_joined:
        state = state._replace(opt=join_like(opt, state.params))
    losses = jnp.full_like(state.running_loss, jnp.nan)
    pack, unpack = packing((state, losses)) if method.is_joined else (_same, _same)

    def goes_on(carry: tuple) -> Array:
        i, packed = carry
        return (i < count) & _any_sound(unpack(packed)[0].diverged)

    def body(carry: tuple) -> tuple:
        i, packed = carry
        state, losses = unpack(packed)
        batch = take(setting, data, rows[i], task_ids)
        if setting.transform:
            key = jax.random.fold_in(step_key(state), AUGMENT)
            batch = setting.augment(key, task_ids, batch)
        is_last = looked_at & (i == count - 1)
        reread = lambda: unpack(packed)[0]  # noqa: E731
        after, new = train_step(
            setting, method, state, batch, learning_rate, is_last, reread
        )
        losses = jnp.where(state.diverged < 0, new, losses)
        return i + 1, pack((after, losses))

    start = (jnp.zeros((), jnp.int32), pack((state, losses)))
    _, packed = lax.while_loop(goes_on, body, start)
    state, losses = unpack(packed)
    if method.is_joined:
        state = state._replace(opt=part_like(state.opt, opt, state.params))
    return state, losses


def _same(carried: Any) -> Any:
    return carried
