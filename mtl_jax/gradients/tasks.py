"""Losses and gradients of all tasks at once, per task or already weighted.

>>> import jax.numpy as jnp
>>> from mtl_jax.types import Batch, Params
>>> def loss_fn(params, batch):
...     return jnp.mean((batch.x @ params.shared * params.heads - batch.y) ** 2)
>>> params = Params(shared=jnp.ones(2), heads=jnp.array([1.0, -1.0]))
>>> batch = Batch(x=jnp.ones((2, 4, 2)), y=jnp.zeros((2, 4)))
>>> losses, grads = task_grads(loss_fn, params, batch)
>>> losses.shape, grads.shared.shape, grads.heads.shape
((2,), (2, 2), (2,))
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax import tree
from mtl_jax.devices.axis_map import AxisMap, sequential
from mtl_jax.gradients.gramian import Gramian, gramian, inner
from mtl_jax.types import (
    OWN_INPUTS,
    TASK_AXES,
    Array,
    Batch,
    InputError,
    LossFn,
    ModelState,
    Params,
    PyTree,
    state_axes,
)

LossFns = Callable[..., Any] | tuple[LossFn, ...]
"""A loss for tasks alike; a tuple, one a task, where heads or targets differ."""


class TaskInputs(NamedTuple):
    """A batch, and the model states from which its tasks see it.

    Its vmap axes over tasks are again a ``TaskInputs``, as those of a `Batch` are a
    `Batch`: it takes the place of one in the functions below.
    """

    batch: Batch
    state: ModelState


def input_axes(batch_axes: Batch) -> TaskInputs:
    """Return the vmap axes of a `TaskInputs`, from those of its batch.

    >>> from mtl_jax.types import ONE_INPUT
    >>> input_axes(ONE_INPUT).state  # a trunk that is fed once has one state
    ModelState(trunk=None, heads=0)
    """
    return TaskInputs(batch_axes, state_axes(batch_axes))


def _one_task(params: Params, batch: Batch, axes: Batch, task: int) -> tuple:
    """Select the parameters and the batch of one of several unlike tasks."""
    x = batch.x if axes.x is None else batch.x[task]
    return Params(params.shared, params.heads[task]), Batch(x, batch.y[task])


def task_losses(
    loss_fn: LossFns,
    params: Params,
    batch: PyTree,
    batch_axes: PyTree = OWN_INPUTS,
    *,
    task_map: AxisMap = jax.vmap,
) -> PyTree:
    """Compute the loss of every task, or whatever ``loss_fn`` returns, ``[T, ...]``.

    Arguments are those of `task_grads`.

    >>> from mtl_jax.types import ONE_INPUT, Batch, Params
    >>> def loss_fn(params, batch):
    ...     return jnp.mean(batch.x @ params.shared * params.heads - batch.y)
    >>> params = Params(shared=jnp.ones(2), heads=jnp.array([1.0, -1.0]))
    >>> batch = Batch(x=jnp.ones((4, 2)), y=jnp.zeros((2, 4)))
    >>> task_losses(loss_fn, params, batch, ONE_INPUT)
    Array([ 2., -2.], dtype=float32)
    """
    if isinstance(loss_fn, tuple):
        values = [
            fn(*_one_task(params, batch, batch_axes, t)) for t, fn in enumerate(loss_fn)
        ]
        return jax.tree.map(lambda *rows: jnp.stack(rows), *values)
    return task_map(loss_fn, (TASK_AXES, batch_axes))(params, batch)


def task_grads(
    loss_fn: LossFns,
    params: Params,
    batch: PyTree,
    batch_axes: PyTree = OWN_INPUTS,
    *,
    task_map: AxisMap = jax.vmap,
    chunk: int | None = None,
    has_aux: bool = False,
) -> tuple[Any, Params]:
    """Compute the loss and the gradient of every task on its own.

    With an own input per task this costs the flops of the summed gradient. With one
    input and ``T`` labels (``batch_axes=ONE_INPUT``) the trunk has one forward pass for
    all tasks and ``T`` backward passes.

    Args:
      loss_fn: ``(params of one task, batch of one task) -> scalar``, or
        ``(scalar, aux)`` if ``has_aux``. A tuple of ``T`` functions for tasks whose
        heads or targets differ in shape; ``params.heads``, ``batch.y`` (and
        ``batch.x``, if mapped) are tuples then.
      params: shared leaves ``[...]``, head leaves ``[T, ...]``.
      batch: a `Batch`, or another tree that ``loss_fn`` takes, such as a `TaskInputs`;
        leaves have a leading ``T`` where ``batch_axes`` says 0.
      batch_axes: `OWN_INPUTS` or `ONE_INPUT`, or those of the other tree.
      task_map: ``jax.vmap`` or `axis_map.sequential`.
      chunk: tasks of one input whose gradients are found together, in the memory of as
        many backward passes; all, or one if they are mapped one after another, where
        it is None.
      has_aux: ``loss_fn`` returns a pair.

    Returns:
      ``losses [T]`` (or ``(losses, aux)``), and gradients: shared leaves
      ``[T, ...]``, heads as in ``params``.
    """
    grad_fn = jax.value_and_grad
    if isinstance(loss_fn, tuple):
        pairs = [
            grad_fn(fn, has_aux=has_aux)(*_one_task(params, batch, batch_axes, t))
            for t, fn in enumerate(loss_fn)
        ]
        values = jax.tree.map(lambda *rows: jnp.stack(rows), *[v for v, _ in pairs])
        shared = jax.tree.map(
            lambda *rows: jnp.stack(rows), *[g.shared for _, g in pairs]
        )
        return values, Params(shared, tuple(g.heads for _, g in pairs))
    chunk = chunk or (1 if task_map is sequential else None)
    if chunk and not _maps_all(batch_axes):
        return _pulled_back(loss_fn, params, batch, batch_axes, chunk, has_aux)
    return task_map(grad_fn(loss_fn, has_aux=has_aux), (TASK_AXES, batch_axes))(
        params, batch
    )


def _pulled_back(
    loss_fn: LossFn,
    params: Params,
    batch: PyTree,
    axes: PyTree,
    chunk: int,
    has_aux: bool,
) -> tuple[Any, Params]:
    """Losses and gradients of all tasks of one input, after one forward pass."""

    def values_at(params: Params) -> Any:
        return task_losses(loss_fn, params, batch, axes)

    values, pull, count = _linearized(values_at, params, has_aux)

    def of_task(task: Array) -> Params:
        grads = pull(task)
        return grads._replace(heads=jax.tree.map(lambda leaf: leaf[task], grads.heads))

    return values, _in_chunks(of_task, jnp.arange(count), chunk)


def _linearized(
    values_at: Callable[[PyTree], Any], at: PyTree, has_aux: bool
) -> tuple[Any, Callable[[Array], PyTree], int]:
    """Linearize the losses of all tasks.

    Returns:
      What ``values_at`` returned, a function from a task to the gradient of its loss,
      and the number of tasks.
    """

    def losses_of(at: PyTree) -> tuple[Array, Any]:
        values = values_at(at)
        return (values[0] if has_aux else values), values

    losses, pullback, values = jax.vjp(losses_of, at, has_aux=True)

    def pull(task: Array) -> PyTree:
        chosen = jnp.arange(losses.shape[0]) == task
        return pullback(chosen.astype(losses.dtype))[0]

    return values, pull, len(losses)


def _in_chunks(fn: Callable[[Array], Any], tasks: Array, chunk: int) -> Any:
    """Map a function over tasks, so many at once."""
    size = min(chunk, len(tasks))
    return lax.map(fn, tasks, batch_size=size if size > 1 else None)


def weighted_grads(
    loss_fn: LossFns,
    params: Params,
    batch: PyTree,
    weigh: Callable[[Array], tuple[Array, Array, PyTree]],
    batch_axes: PyTree = OWN_INPUTS,
) -> tuple[Any, Params, PyTree]:
    """Compute the gradient of a weighted loss in one backward pass.

    Args:
      loss_fn: as in `task_grads`, returning ``(scalar, aux)``.
      params: as in `task_grads`.
      batch: as in `task_grads`.
      weigh: ``losses [T]`` to (weights of the trunk's gradients ``[T]``, weights of
        the heads' gradients ``[T]``, anything else).
      batch_axes: as in `task_grads`.

    Returns:
      ``(losses [T], aux)``, gradients (shared ``[...]``, heads ``[T, ...]``), and
      what else ``weigh`` returned.

    >>> from mtl_jax.types import Batch, Params
    >>> def loss_fn(params, batch):
    ...     return jnp.mean(batch.x @ params.shared) * params.heads, ()
    >>> params = Params(shared=jnp.ones(2), heads=jnp.array([1.0, 3.0]))
    >>> batch = Batch(x=jnp.ones((2, 4, 2)), y=jnp.zeros((2, 4)))
    >>> (losses, _), grads, _ = weighted_grads(
    ...     loss_fn, params, batch, lambda losses: (1 / losses, jnp.ones(2), ())
    ... )
    >>> losses, grads.shared  # 1 / 2 of (1, 1), and 1 / 6 of (3, 3)
    (Array([2., 6.], dtype=float32), Array([1., 1.], dtype=float32))
    """
    return pulled_back_once(
        lambda p: task_losses(loss_fn, p, batch, batch_axes), params, weigh
    )


def pulled_back_once(
    losses_at: Callable[[Params], tuple[Array, Any]],
    params: Params,
    weigh: Callable[[Array], tuple[Array, Array, PyTree]],
) -> tuple[Any, Params, PyTree]:
    """Compute `weighted_grads` of losses that are found together.

    >>> params = Params(shared=jnp.ones(2), heads=jnp.array([1.0, 3.0]))
    >>> def losses_at(params):
    ...     return params.shared.sum() * params.heads, ()
    >>> weigh = lambda losses: (losses, jnp.ones(2), ())
    >>> pulled_back_once(losses_at, params, weigh)[1].shared  # 2 of 1, and 6 of 3
    Array([20., 20.], dtype=float32)

    Args:
      losses_at: parameters to ``(losses [T], aux)``.
      params: as in `task_grads`.
      weigh: as in `weighted_grads`.
    """
    losses, pullback, aux = jax.vjp(losses_at, params, has_aux=True)
    weights, head_weights, state = weigh(losses)
    # Two pullbacks: XLA merges them if the weights are the same, and otherwise
    # drops the trunk's half of the second.
    shared = pullback(weights)[0].shared
    return (losses, aux), Params(shared, pullback(head_weights)[0].heads), state


def summed_grads(
    loss_fn: Callable[..., Any],
    params: Params,
    batch: PyTree,
    weights: Array,
    head_weights: Array,
) -> Params:
    """Sum the weighted gradients of the tasks one by one, in the memory of one.

    Args:
      loss_fn: as in `task_grads`, returning ``(scalar, aux)``.
      params: as in `task_grads`, heads alike.
      batch: as in `task_grads`, all leaves with a leading ``T``.
      weights: of the trunk's gradients ``[T]``.
      head_weights: of the heads' gradients ``[T]``.

    Returns:
      Shared leaves ``[...]``, heads ``[T, ...]``.
    """

    def add(total: PyTree, task: tuple) -> tuple[PyTree, PyTree]:
        heads, inputs, weight = task
        grads, _ = jax.grad(loss_fn, has_aux=True)(Params(params.shared, heads), inputs)
        total = jax.tree.map(
            lambda t, g: t + weight.astype(g.dtype) * g, total, grads.shared
        )
        return total, grads.heads

    start = jax.tree.map(jnp.zeros_like, params.shared)
    shared, heads = lax.scan(add, start, (params.heads, batch, weights))
    return Params(shared, tree.scale_rows(head_weights, heads))


def task_gram(
    loss_fn: LossFns,
    params: Params,
    batch: PyTree,
    batch_axes: PyTree = OWN_INPUTS,
    *,
    chunk: int = 1,
    hold: int | None = None,
    has_aux: bool = False,
) -> tuple[Any, Gramian]:
    """Compute losses, and the Gramian of the gradients on the trunk, in little memory.

    One input is pushed through the trunk once, and its linearisation pulled back task
    by task, so that memory is that of one backward pass and of ``T`` gradients; or of
    fewer with ``hold``, for more backward passes. `weighted_grads` then turns weights
    found from the Gramian into a direction.

    Args:
      loss_fn: as in `task_grads`.
      params: as in `task_grads`.
      batch: as in `task_grads`.
      batch_axes: as in `task_grads`.
      chunk: tasks pulled back together; 1 is best on a CPU, more on a GPU.
      hold: gradients kept at once, all ``T`` if None; ``T / n`` of them cost
        ``(n + 1) / 2`` times the backward passes.
      has_aux: ``loss_fn`` returns a pair.

    Returns:
      ``losses [T]`` (or ``(losses, aux)``), and the Gramian ``[T, T]``.

    Raises:
      InputError: ``chunk`` or ``hold`` is not positive.

    >>> from mtl_jax.types import Batch, Params
    >>> def loss_fn(params, batch):
    ...     return params.heads * jnp.mean(batch.x @ params.shared) - batch.y
    >>> params = Params(shared=jnp.ones(2), heads=jnp.array([1.0, -2.0]))
    >>> batch = Batch(x=jnp.ones((2, 4, 2)), y=jnp.zeros(2))
    >>> task_gram(loss_fn, params, batch)[1].entries
    Array([[ 2., -4.],
           [-4.,  8.]], dtype=float32)
    """
    if chunk < 1 or (hold is not None and hold < 1):
        raise InputError(f"chunk is {chunk} and hold {hold}; both must be positive.")
    row, count = _row_of(loss_fn, params, batch, batch_axes, has_aux)
    width = min(hold or count, count)

    dtype = tree.working_dtype(params.shared)
    values, gram, scales = [], jnp.zeros((count, count), dtype), []
    for start in range(0, count, width):
        stop = min(start + width, count)
        losses, held = _in_chunks(row, jnp.arange(start, stop), chunk)
        values.append(losses)
        block = gramian(held)
        scales.append(block.scales)
        gram = gram.at[start:stop, start:stop].set(block.values)
        if stop < count:
            rest = jnp.arange(stop, count)

            def with_held(task: Array, held: PyTree = held) -> Array:
                grads = jax.tree.map(lambda leaf: leaf[None], row(task)[1])
                return inner(held, grads)[0][:, 0]

            cross = _in_chunks(with_held, rest, chunk)
            gram = gram.at[stop:, start:stop].set(cross)
            gram = gram.at[start:stop, stop:].set(cross.T)
    values = jax.tree.map(lambda *parts: jnp.concatenate(parts), *values)
    return values, Gramian(gram, jnp.concatenate(scales))


def _row_of(
    loss_fn: LossFns, params: Params, batch: PyTree, axes: PyTree, has_aux: bool
) -> tuple[Callable[[Array], tuple[Any, PyTree]], int]:
    """Make a function from a task to its loss and its gradient on the trunk.

    Returns:
      The function, and the number of tasks.
    """
    if _maps_all(axes) and not isinstance(loss_fn, tuple):

        def alone(task: Array) -> tuple[Any, PyTree]:
            heads, inputs = jax.tree.map(lambda leaf: leaf[task], (params.heads, batch))
            of_task = Params(params.shared, heads)
            value, grads = jax.value_and_grad(loss_fn, has_aux=has_aux)(of_task, inputs)
            return value, grads.shared

        return alone, len(jax.tree.leaves(batch)[0])

    def values_at(shared: PyTree) -> Any:
        return task_losses(loss_fn, Params(shared, params.heads), batch, axes)

    values, pull, count = _linearized(values_at, params.shared, has_aux)

    def row(task: Array) -> tuple[Any, PyTree]:
        return jax.tree.map(lambda leaf: leaf[task], values), pull(task)

    return row, count


def _maps_all(axes: PyTree) -> bool:
    """Tell whether each task brings all of its inputs."""
    return None not in jax.tree.leaves(axes, is_leaf=lambda axis: axis is None)
