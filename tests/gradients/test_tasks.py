import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import tree
from mtl_jax.devices import flops
from mtl_jax.devices.axis_map import sequential
from mtl_jax.gradients import (
    TaskInputs,
    input_axes,
    task_grads,
    task_gram,
    task_losses,
    weighted_grads,
)
from mtl_jax.gradients.gramian import gramian
from mtl_jax.types import ONE_INPUT, OWN_INPUTS, Batch, InputError, ModelState, Params

T, B, D, H = 3, 6, 4, 5
AXES = pytest.mark.parametrize("axes", [OWN_INPUTS, ONE_INPUT], ids=["own", "one"])


def loss_fn(params, batch):
    features = jnp.tanh(batch.x @ params.shared["w"] + params.shared["b"][None])
    return jnp.mean((features @ params.heads["v"] - batch.y) ** 2)


def with_aux(params, batch):
    loss = loss_fn(params, batch)
    return loss, {"double": 2 * loss, "x": batch.x.sum()}


def problem(axes, seed=0):
    keys = jax.random.split(jax.random.key(seed), 5)
    shared = {"w": jax.random.normal(keys[0], (D, H)), "b": jnp.ones(H)}
    heads = {"v": jax.random.normal(keys[1], (T, H))}
    lead = () if axes.x is None else (T,)
    x = jax.random.normal(keys[2], (*lead, B, D))
    return Params(shared, heads), Batch(x, jax.random.normal(keys[3], (T, B)))


def task(tree, t):
    return jax.tree.map(lambda leaf: leaf[t], tree)


def task_of(params, batch, axes, t):
    x = batch.x if axes.x is None else task(batch.x, t)
    return Params(params.shared, task(params.heads, t)), Batch(x, task(batch.y, t))


close = functools.partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-5)


def loop(params, batch, axes):
    """Compute losses and gradients task by task."""
    pairs = [
        jax.value_and_grad(loss_fn)(*task_of(params, batch, axes, t)) for t in range(T)
    ]
    return jax.tree.map(lambda *rows: jnp.stack(rows), *pairs)


@AXES
@pytest.mark.parametrize("task_map", [jax.vmap, sequential], ids=["vmap", "sequential"])
def test_task_grads_are_those_of_a_loop(axes, task_map):
    params, batch = problem(axes)
    values = jax.jit(lambda p, b: task_grads(loss_fn, p, b, axes, task_map=task_map))(
        params, batch
    )
    close(values, loop(params, batch, axes))


@pytest.mark.parametrize("chunk", [1, 2, T])
def test_tasks_of_one_input_are_pulled_back_in_chunks(chunk):
    params, batch = problem(ONE_INPUT)
    found = jax.jit(lambda p, b: task_grads(loss_fn, p, b, ONE_INPUT, chunk=chunk))
    close(found(params, batch), loop(params, batch, ONE_INPUT))


def test_one_input_has_one_forward_pass():
    params, batch = problem(ONE_INPUT)
    one_by_one = lambda *args: task_grads(  # noqa: E731
        loss_fn, *args, ONE_INPUT, task_map=sequential
    )
    trunk, head = 2 * B * D * H, 2 * B * H  # of a pass, to weights or to inputs
    expected = (1 + T) * trunk + (T + T * T * 2) * head
    assert flops.count(jax.make_jaxpr(one_by_one)(params, batch)) == expected


@AXES
def test_task_grads_are_the_jacobian_of_the_losses(axes):
    params, batch = problem(axes)
    _, grads = task_grads(loss_fn, params, batch, axes)
    jacobian = jax.jacrev(lambda p: task_losses(loss_fn, p, batch, axes))(params)
    close(grads.shared, jacobian.shared)
    # A head's loss depends on no other head: the Jacobian is block-diagonal.
    blocks = jacobian.heads["v"]
    close(grads.heads["v"], jnp.stack([blocks[t, t] for t in range(T)]))
    np.testing.assert_array_equal(blocks[~np.eye(T, dtype=bool)], 0)


@AXES
@pytest.mark.parametrize("task_map", [jax.vmap, sequential], ids=["vmap", "sequential"])
def test_auxiliary_output_comes_along(axes, task_map):
    params, batch = problem(axes)
    (losses, aux), grads = task_grads(
        with_aux, params, batch, axes, task_map=task_map, has_aux=True
    )
    close((losses, grads), loop(params, batch, axes))
    close(aux["double"], 2 * losses)
    x = [task_of(params, batch, axes, t)[1].x.sum() for t in range(T)]
    close(aux["x"], jnp.stack(x))


@AXES
def test_model_states_are_mapped_beside_the_batch(axes):
    params, batch = problem(axes)
    trunk = jnp.zeros(()) if axes.x is None else jnp.arange(3.0)
    state = ModelState(trunk, jnp.arange(T))

    def with_state(params, inputs):
        loss = loss_fn(params, inputs.batch)
        return loss * (1 + inputs.state.heads), inputs.state

    args = params, TaskInputs(batch, state), input_axes(axes)
    (losses, states), grads = task_grads(with_state, *args, has_aux=True)
    scales = 1 + jnp.arange(T)
    expected, rows = loop(params, batch, axes)
    rows = tree.scale_rows(scales, rows)
    close((losses, grads), (expected * scales, rows))
    _, gram = task_gram(with_state, *args, has_aux=True)
    close(gram.entries, gramian(rows.shared).entries)
    # A state of the trunk that tasks share comes back once a task, as the loss does.
    assert states.trunk.tolist() == ([0.0] * T if axes.x is None else [0.0, 1.0, 2.0])


def as_tuples(params, batch, axes):
    """Return the same problem in the form for tasks that are not alike."""
    tasks = range(T)
    x = batch.x if axes.x is None else tuple(batch.x)
    heads = tuple(task(params.heads, t) for t in tasks)
    return Params(params.shared, heads), Batch(x, tuple(batch.y))


@AXES
@pytest.mark.parametrize("has_aux", [False, True])
def test_tuples_of_tasks_alike_are_the_stacks(axes, has_aux):
    params, batch = problem(axes)
    fn: Any = with_aux if has_aux else loss_fn
    values, grads = task_grads(fn, params, batch, axes, has_aux=has_aux)
    tuples = as_tuples(params, batch, axes)
    losses, unlike = task_grads((fn,) * T, *tuples, axes, has_aux=has_aux)
    close((losses, unlike.shared), (values, grads.shared))
    assert isinstance(unlike.heads, tuple)
    close(jax.tree.map(lambda *rows: jnp.stack(rows), *unlike.heads), grads.heads)
    close(task_losses((fn,) * T, *tuples, axes), values)


def test_unlike_heads_and_targets():
    params, batch = problem(ONE_INPUT)
    heads = (jnp.ones(H), jnp.ones((H, 2)))
    targets = (batch.y[0], jnp.zeros((B, 2)))

    def fn(params, batch):
        outputs = jnp.tanh(batch.x @ params.shared["w"]) @ params.heads
        return jnp.mean((outputs - batch.y) ** 2)

    losses, grads = task_grads(
        (fn, fn), Params(params.shared, heads), Batch(batch.x, targets), ONE_INPUT
    )
    assert [head.shape for head in grads.heads] == [(H,), (H, 2)]
    for t in range(2):
        loss, grad = jax.value_and_grad(fn)(
            Params(params.shared, heads[t]), Batch(batch.x, targets[t])
        )
        close((losses[t], task(grads.shared, t), grads.heads[t]), (loss, *grad))


WEIGHTS = [(0.3, 1.7, -0.5), (0.0, 1.0, 2.0), (0.0, 0.0, 0.0)]


@AXES
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize("head_weights", [*WEIGHTS[:2], (1.0, 1.0, 1.0)], ids=str)
def test_weighted_grads_combine_task_grads(axes, weights, head_weights):
    params, batch = problem(axes)
    weights, head_weights = jnp.array(weights), jnp.array(head_weights)
    (losses, aux), grads, rest = weighted_grads(
        with_aux, params, batch, lambda losses: (weights, head_weights, losses), axes
    )
    expected_losses, rows = loop(params, batch, axes)
    close(
        (losses, rest, aux["double"]), (expected_losses,) * 2 + (2 * expected_losses,)
    )
    close(grads.shared, tree.combine(weights, rows.shared))
    close(grads.heads, tree.scale_rows(head_weights, rows.heads))


def test_weights_are_constants_of_the_backward_pass():
    params, batch = problem(OWN_INPUTS)
    # Weights made from the losses: their own derivative must not enter.
    _, grads, _ = weighted_grads(
        with_aux, params, batch, lambda losses: (losses / 50, losses / 50, ())
    )
    losses, rows = loop(params, batch, OWN_INPUTS)
    close(grads.shared, tree.combine(losses / 50, rows.shared))


@AXES
@pytest.mark.parametrize("has_aux", [False, True])
@pytest.mark.parametrize(("chunk", "hold"), [(1, None), (2, None), (1, 1), (2, 2)])
def test_task_gram_is_that_of_task_grads(axes, has_aux, chunk, hold):
    params, batch = problem(axes)
    fn: Any = with_aux if has_aux else loss_fn
    options: Any = {"chunk": chunk, "hold": hold, "has_aux": has_aux}
    values, gram = jax.jit(lambda p, b: task_gram(fn, p, b, axes, **options))(
        params, batch
    )
    expected, grads = task_grads(fn, params, batch, axes, has_aux=has_aux)
    close(values, expected)
    close(gram.entries, gramian(grads.shared).entries)


@AXES
def test_task_gram_of_a_tuple_of_losses(axes):
    params, batch = problem(axes)
    tuples = as_tuples(params, batch, axes)
    losses, gram = task_gram((loss_fn,) * T, *tuples, axes)
    expected, grads = task_grads(loss_fn, params, batch, axes)
    close((losses, gram.entries), (expected, gramian(grads.shared).entries))


def test_task_gram_runs_the_trunk_once_on_one_input():
    params, batch = problem(ONE_INPUT)
    text = str(
        jax.make_jaxpr(lambda p: task_gram(loss_fn, p, batch, ONE_INPUT))(params)
    )
    assert text.count("tanh") == 1


@pytest.mark.parametrize("options", [{"chunk": 0}, {"hold": 0}], ids=str)
def test_task_gram_says_which_sizes_are_bad(options):
    with pytest.raises(InputError, match="positive"):
        task_gram(loss_fn, *problem(ONE_INPUT), ONE_INPUT, **options)
