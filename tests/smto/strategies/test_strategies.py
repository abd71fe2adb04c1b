"""Strategies: equal to each other, and to what is worked out densely."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import smto, tree
from mtl_jax.devices import memory
from mtl_jax.devices.axis_map import sequential
from mtl_jax.gradients.gramian import cross as cross_of
from mtl_jax.models import mlp
from mtl_jax.smto import strategies
from mtl_jax.smto.rotation import GENERATOR, rotation
from mtl_jax.smto.strategies import gramian
from mtl_jax.training.step import init_state
from mtl_jax.types import Batch, InputError, ModelState, Params
from tests.tiny import (
    MLP,
    NORMALISED,
    SEED,
    TASKS,
    B,
    T,
    batch,
    by,
    close,
    of_task,
    setting,
    stepped,
    with_methods,
)

KEY = jax.random.key(7)
NO_STATE = ModelState({}, {})
INPUTS = pytest.mark.parametrize("one_input", [False, True], ids=["own", "one"])
MAPS = pytest.mark.parametrize("task_map", [jax.vmap, sequential], ids=["vmap", "seq"])


def tasks_of(problem, state, inputs=None, task_map=jax.vmap, **forms):
    return strategies.Tasks(
        represent=problem.represent,
        head_loss=problem.head_loss,
        params=state.params,
        model_state=state.model_state,
        batch=batch(problem) if inputs is None else inputs,
        axes=problem.batch_axes,
        task_map=task_map,
        **forms,
    )


def start(problem, chosen):
    return init_state(problem, chosen, SEED, TASKS)


def found_by(
    make, method, problem, *, task_map=jax.vmap, inputs=None, weighted=False, **forms
):
    chosen = by(make, method, weighted)
    state = start(problem, chosen)
    tasks = tasks_of(problem, state, inputs, task_map, **forms)
    return jax.jit(lambda tasks: chosen.strategy.step(tasks, state.smto, KEY))(tasks)


def of_first(states):
    """Return the model state of one input, from the states of all tasks."""
    return states._replace(trunk=jax.tree.map(lambda leaf: leaf[0], states.trunk))


GRADS = jax.jit(lambda tasks: tasks.grads())


def rows_of(problem, inputs=None):
    """Compute losses, model states and gradients of the tasks ``[T, ...]``."""
    state = start(problem, by(strategies.by_jacobian, smto.make("sum")))
    (losses, states), grads = GRADS(tasks_of(problem, state, inputs))
    return losses, states, grads


@INPUTS
@MAPS
def test_gramian_only_is_the_jacobian_path(one_input, task_map, monkeypatch):
    # As many gradients held at once as fit: one of three here.
    monkeypatch.setattr(gramian, "HELD_BYTES", 4 * 36)
    problem = setting(NORMALISED, one_input=one_input)
    options: Any = {"task_map": task_map, "weighted": one_input}
    method = smto.make("pcgrad")
    expected = found_by(strategies.by_jacobian, method, problem, **options)
    direction = found_by(strategies.by_gramian, method, problem, **options)
    close(direction, expected, rtol=2e-4, atol=2e-5)
    assert np.isfinite(direction.smto.cosines).all() and direction.smto.norm > 0


WHOLE = {
    "losses": (strategies.by_losses, "si"),
    "jacobian": (strategies.by_jacobian, "moco"),
    "gramian": (strategies.by_gramian, "pcgrad"),
    "samples": (strategies.by_samples, "modo"),
    "perturbation": (strategies.by_perturbation, "fmtl"),
}


@INPUTS
@pytest.mark.parametrize("name", WHOLE)
def test_parts_of_a_batch_give_what_it_gives(name, one_input):
    make, method = WHOLE[name]
    problem, parts = setting(MLP, one_input=one_input), 1 if name == "samples" else 4
    expected = found_by(make, smto.make(method), problem)
    direction = found_by(make, smto.make(method), problem, parts=max(2, parts))
    close(direction, expected, rtol=2e-4, atol=2e-6)


@INPUTS
@pytest.mark.parametrize("name", WHOLE)
def test_forms_of_accelerators_give_what_others_give(name, one_input):
    """Tasks pulled back in chunks, and examples of all tasks as one batch."""
    make, method = WHOLE[name]
    find = functools.partial(
        found_by, make, smto.make(method), setting(MLP, one_input=one_input)
    )
    close(find(chunk=2, is_apart=True), find(), rtol=2e-4, atol=2e-6)


def test_parts_take_the_memory_of_one():
    trunk: Any = mlp(widths=(64,))
    problem = setting(trunk)
    chosen = by(strategies.by_jacobian, smto.make("pcgrad"))
    state = start(problem, chosen)
    inputs = jax.tree.map(lambda leaf: jnp.repeat(leaf, 512, axis=1), batch(problem))

    def size(parts):
        tasks = tasks_of(problem, state, inputs, parts=parts)
        find = jax.jit(lambda tasks: chosen.strategy.step(tasks, state.smto, KEY))
        return memory.temporaries(find.lower(tasks).compile())

    assert size(16) < 0.4 * size(1)


def test_statistics_see_part_after_part():
    problem = setting(NORMALISED)
    find = functools.partial(found_by, strategies.by_losses, smto.make("sum"), problem)
    whole = batch(problem)
    state = start(problem, by(strategies.by_losses, smto.make("sum")))
    for place in (0, 1):
        inputs = jax.tree.map(lambda leaf, i=place: leaf[:, i::2], whole)
        step = jax.jit(lambda tasks: tasks.grads()[0])
        _, states = step(tasks_of(problem, state, inputs))
        state = state._replace(model_state=states)
    close(find(parts=2, inputs=whole).model_state, state.model_state)


@pytest.mark.parametrize(
    ("bytes_held", "make"),
    [(2**30, strategies.by_jacobian), (4 * 36, strategies.by_gramian)],
    ids=["fits", "does not"],
)
def test_size_decides(bytes_held, make, monkeypatch):
    monkeypatch.setattr(gramian, "HELD_BYTES", bytes_held)
    problem, method = setting(MLP), smto.make("pcgrad")
    expected = found_by(make, method, problem, task_map=sequential)
    direction = found_by(strategies.by_size, method, problem, task_map=sequential)
    close(direction, expected, rtol=0, atol=0)


def test_gramian_only_never_holds_the_jacobian():
    width, count, layers = 256, 16, 12
    shape = (count, 4, width)

    def represent(shared, state, x):
        for kernel in shared:
            x = jnp.tanh(x @ kernel)
        return x, state

    def head_loss(head, state, z, y):
        return jnp.mean((z @ head - y) ** 2), state

    shared = [jnp.eye(width) for _ in range(layers)]
    params = Params(shared, jnp.ones((count, width)))
    inputs = Batch(jnp.ones(shape), jnp.ones(shape[:2]))
    row = 4 * layers * width**2

    def megabytes(make):
        strategy = make(smto.make("pcgrad"))
        state = strategy.init(params, count)

        def step(params, inputs):
            tasks = strategies.Tasks(
                represent,
                head_loss,
                params,
                NO_STATE,
                inputs,
                Batch(0, 0),
                jax.vmap,
            )
            return strategy.step(tasks, state, KEY).grads

        memory: Any = jax.jit(step).lower(params, inputs).compile().memory_analysis()
        return memory.temp_size_in_bytes

    assert megabytes(strategies.by_jacobian) > count * row
    # One leaf of all tasks at a time, the next and a divided copy, and the direction.
    assert megabytes(strategies.by_gramian) < 0.5 * count * row


@INPUTS
@MAPS
def test_representation_weights_are_those_of_its_gramian(one_input, task_map):
    problem = setting(NORMALISED, one_input=one_input)
    method: Any = smto.make("pcgrad")
    direction = found_by(
        strategies.by_representation, method, problem, task_map=task_map, weighted=True
    )
    losses, states, grads = rows_of(problem)
    state = start(problem, by(strategies.by_jacobian, smto.make("sum")))

    def at_z(t):
        head = jax.tree.map(lambda leaf: leaf[t], state.params.heads)
        x, y = batch(problem).x, batch(problem).y[t]
        task_state = of_task(problem, state.model_state, t)
        x = x if one_input else x[t]
        z, _ = problem.represent(state.params.shared, task_state.trunk, x)
        grad = jax.grad(lambda z: problem.head_loss(head, task_state.heads, z, y)[0])(z)
        return grad.sum(axis=0) if not one_input else grad.ravel()

    @jax.jit
    def weights_of(losses):
        rows = jnp.stack([at_z(t) for t in range(T)])
        return method.update(rows @ rows.T, losses, (), KEY)[0][0]

    weights = weights_of(losses)
    np.testing.assert_allclose(direction.smto.weights, weights, rtol=1e-3, atol=1e-4)
    close(direction.losses, losses)
    # The direction is that of the parameters' gradients with these weights.
    used = direction.smto.weights
    close(direction.grads.shared, tree.combine(used, grads.shared), rtol=1e-4)
    close(direction.grads.heads, tree.scale_rows(used, grads.heads), rtol=1e-4)
    expected = of_first(states) if one_input else states
    close(direction.model_state, expected)


@INPUTS
@pytest.mark.parametrize("leak", [0.0, 1.0])
def test_sign_dropout_at_the_representation(one_input, leak):
    problem = setting(MLP, one_input=one_input)
    chosen = by(strategies.by_cotangent, smto.make("graddrop_rep", leak=leak))
    state = start(problem, chosen)
    _, _, grads = rows_of(problem)
    total = jax.tree.map(lambda leaf: leaf.sum(axis=0), grads.shared)

    def shared(key):
        tasks = tasks_of(problem, state)
        return chosen.strategy.step(tasks, state.smto, key).grads.shared

    if leak:  # nothing is dropped
        close(jax.jit(shared)(KEY), total, rtol=1e-4)
        return
    draws = jax.jit(jax.vmap(shared))(jax.random.split(KEY, 2000))
    (bias,) = [np.asarray(leaf) for leaf in jax.tree.leaves(draws) if leaf.ndim == 2]
    (votes,) = [
        np.asarray(leaf) for leaf in jax.tree.leaves(grads.shared) if leaf.ndim == 2
    ]
    # Behind a ReLU the votes are the gradients of the bias: one sign of them is kept,
    # and what is kept is their sum on average.
    signs = [np.where(np.sign(votes) == s, votes, 0).sum(axis=0) for s in (1, -1)]
    errors = np.minimum(*[np.abs(bias - sign) for sign in signs])
    assert errors.max() < 1e-5
    sigma = np.abs(signs[0] - signs[1]) / 2 / np.sqrt(len(bias))
    error = np.abs(bias.mean(axis=0) - votes.sum(axis=0))
    np.testing.assert_array_less(error, 5 * sigma + 1e-5)


@INPUTS
@MAPS
def test_double_sampling_looks_at_parts_of_the_batch(one_input, task_map):
    problem = setting(MLP, one_input=one_input)
    method: Any = smto.make("sdmgrad", reduction="mean")
    direction = found_by(strategies.by_samples, method, problem, task_map=task_map)
    whole = batch(problem)
    size = B // 3
    parts = []
    for i in range(3):
        rows = slice(i * size, (i + 1) * size)
        x = whole.x[rows] if one_input else whole.x[:, rows]
        parts.append(rows_of(problem, Batch(x, whole.y[:, rows])))
    cross = cross_of(parts[0][2].shared, parts[1][2].shared)
    (weights, _), _ = method.update(cross, direction.losses, method.init(T), KEY)
    np.testing.assert_allclose(direction.smto.weights, weights, rtol=1e-3, atol=1e-5)
    expected = tree.combine(weights, parts[2][2].shared)
    close(direction.grads.shared, expected, rtol=1e-3, atol=1e-5)
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *[p[2].heads for p in parts])
    close(direction.grads.heads, mean, rtol=1e-4)
    close(direction.losses, sum(p[0] for p in parts) / 3)


def test_two_samples_are_the_whole_batch():
    problem = setting(MLP)
    method: Any = smto.make("modo", reduction="mean")
    direction = found_by(strategies.by_samples, method, problem)
    _, _, grads = rows_of(problem)
    expected = tree.combine(direction.smto.weights, grads.shared)
    close(direction.grads.shared, expected, rtol=1e-4)


@INPUTS
@MAPS
@pytest.mark.parametrize("name", ["fmtl", "samo"])
def test_perturbed_gradients_are_those_at_the_points(one_input, task_map, name):
    problem = setting(NORMALISED, one_input=one_input)
    rho = 0.05
    method = smto.make(name, inner="sum", rho=rho)
    direction = found_by(strategies.by_perturbation, method, problem, task_map=task_map)
    losses, states, grads = rows_of(problem)
    close(direction.losses, losses)
    # The second pass moves no batch statistics.
    expected = of_first(states) if one_input else states
    close(direction.model_state, expected)
    flat, unravel = ravel_pytree(direction.grads.shared)
    total = ravel_pytree(jax.tree.map(lambda g: g.sum(axis=0), grads.shared))[0]
    assert 1e-4 < np.linalg.norm(flat - total) / np.linalg.norm(total) < 1
    if name == "samo":
        return
    # With the sum, inner(g) + inner(h - g) is the sum of the gradients h.
    state = start(problem, by(strategies.by_jacobian, smto.make("sum")))
    moved = []
    for t in range(T):
        shared, unravel = ravel_pytree(state.params.shared)
        row = jax.tree.map(lambda leaf, t=t: leaf[t], grads.shared)
        gradient = ravel_pytree(row)[0]
        heads = jax.tree.map(lambda leaf, t=t: leaf[t], grads.heads)
        head, back = ravel_pytree(jax.tree.map(lambda h, t=t: h[t], state.params.heads))
        up = ravel_pytree(heads)[0]
        point = unravel(shared + rho * gradient / jnp.linalg.norm(gradient))
        there = back(head + rho * up / jnp.linalg.norm(up))
        x, stats = batch(problem).x, of_task(problem, state.model_state, t)
        x = x if one_input else x[t]

        def loss(shared, there=there, x=x, stats=stats, t=t):
            z, _ = problem.represent(shared, stats.trunk, x)
            return problem.head_loss(there, stats.heads, z, batch(problem).y[t])[0]

        moved.append(ravel_pytree(jax.grad(loss)(point))[0])
    np.testing.assert_allclose(flat, sum(moved), rtol=1e-3, atol=1e-5)


@INPUTS
@MAPS
def test_famo_looks_back_at_the_same_batch(one_input, task_map):
    problem = setting(NORMALISED, one_input=one_input)
    method: Any = smto.make("famo")
    make: Any = strategies.by_losses if task_map is jax.vmap else strategies.by_jacobian
    chosen = by(make, method, True, task_map=task_map)
    before = start(problem, chosen)
    after, losses = stepped(problem, chosen, before, batch(problem))
    logs, gained = np.log(losses), after.smto.method
    np.testing.assert_allclose(gained.log_losses, logs, rtol=1e-5)
    moved = before._replace(params=after.params)
    later = np.log(tasks_of(problem, moved).losses())
    told = method.after_update(
        jnp.exp(jnp.asarray(later)), before.smto.method._replace(log_losses=logs)
    )
    close(gained.logits, told.logits, rtol=1e-3, atol=1e-6)
    assert np.abs(gained.logits).min() > 0.02  # Adam's first step
    # Once through the network, not twice.
    _, states, _ = rows_of(problem)
    expected = of_first(states) if one_input else states
    close(after.model_state, expected)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (strategies.by_jacobian, "pcgrad"),
        (strategies.by_gramian, "pcgrad"),
        (strategies.by_representation, "pcgrad"),
        (strategies.by_perturbation, "fmtl"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_gradient_that_is_not_finite_is_skipped(make, name):
    # Losses are finite and a gradient is not: a root at 0.
    problem = setting(MLP)

    options = {"inner": "sum"} if name == "fmtl" else {}

    def head_loss(head, state, z, y):
        del y
        return jnp.mean(head["bias"] ** 2) + jnp.sum(jnp.sqrt(jnp.abs(0 * z))), state

    problem = with_methods(problem, head_loss=head_loss)
    chosen = by(make, smto.make(name, **options))
    before = start(problem, chosen)
    after, losses = stepped(problem, chosen, before, batch(problem))
    assert np.isfinite(losses).all() and after.diverged == -1
    assert (after.step, after.smto.skipped) == (1, 1)
    close(after.params, before.params, rtol=0, atol=0)
    close(after.opt, before.opt, rtol=0, atol=0)
    np.testing.assert_array_equal(after.smto.weights, 0)


def test_gradients_given_are_combined_by_the_latest_weights():
    problem = setting(MLP)
    losses, _, grads = rows_of(problem)
    strategy = by(strategies.by_representation, smto.make("pcgrad")).strategy
    weights = jnp.array([0.5, 2.0, 1.0])
    state = strategy.init(
        start(problem, by(strategies.by_jacobian, smto.make("sum"))).params, T
    )
    state = state._replace(weights=weights)
    combined, after = strategy.combine(losses, grads, state, KEY)
    close(combined.shared, tree.combine(weights, grads.shared))
    close(combined.heads, grads.heads)
    np.testing.assert_array_equal(after.weights, weights)


@pytest.mark.parametrize("name", ["cr_mogm", "fmtl", "samo", "reweighted"])
def test_methods_that_look_back_cannot_be_inside_others(name):
    with pytest.raises(InputError, match="before the step|weighs losses"):
        smto.make(name, inner="famo")


def rotated_start(one_input):
    problem = setting(MLP, one_input=one_input, rotated=True)
    chosen = by(strategies.by_rotation, smto.make("rotograd"), task_map=jax.vmap)
    return problem, chosen, start(problem, chosen)


@INPUTS
def test_rotations_start_at_the_identity(one_input):
    problem, _, state = rotated_start(one_input)
    plain = setting(MLP, one_input=one_input)
    heads = jax.tree.map(lambda leaf: leaf[0], state.params.heads)
    one_head = {name: leaf for name, leaf in heads.items() if name != GENERATOR}
    x = batch(problem).x if one_input else batch(problem).x[0]
    outputs = problem.predict(Params(state.params.shared, heads), NO_STATE, x)
    expected = plain.predict(Params(state.params.shared, one_head), NO_STATE, x)
    close(outputs, expected)


@INPUTS
def test_rotograd_balances_and_turns(one_input):
    problem, chosen, state = rotated_start(one_input)
    turned = jax.random.normal(KEY, (T, 6, 6)) / 4
    heads = {**state.params.heads, GENERATOR: turned}
    state = state._replace(params=state.params._replace(heads=heads))
    direction = jax.jit(lambda t: chosen.strategy.step(t, state.smto, KEY))(
        tasks_of(problem, state)
    )
    (losses, _), grads = GRADS(tasks_of(problem, state))
    close(direction.losses, losses)
    # The loss does not train the rotations; the direction is that of the weights.
    np.testing.assert_array_equal(grads.heads[GENERATOR], 0)
    expected = tree.combine(direction.smto.weights, grads.shared)
    close(direction.grads.shared, expected, rtol=1e-3, atol=1e-5)

    def at_z(t):
        head = jax.tree.map(lambda leaf: leaf[t], state.params.heads)
        x = batch(problem).x if one_input else batch(problem).x[t]
        z, _ = problem.represent(state.params.shared, {}, x)
        y = batch(problem).y[t]
        grad = jax.grad(lambda z: problem.head_loss(head, {}, z, y)[0])(z)
        return grad if one_input else grad.sum(axis=0, keepdims=True)

    rows = jnp.stack([at_z(t) for t in range(T)])
    lengths = np.linalg.norm(np.asarray(rows).reshape(T, -1), axis=1)
    # At first all have converged equally: every length becomes the mean.
    scales = lengths.mean() / lengths
    np.testing.assert_allclose(direction.smto.weights, scales, rtol=1e-4)
    scaled = rows * scales[:, None, None]
    mean = scaled.mean(axis=0)

    def distance(generators):
        total = 0.0
        for t in range(T):
            # Behind the rotation a gradient is turned as the representation is.
            target = scaled[t] @ rotation(turned[t]).T
            total += jnp.sum((mean @ rotation(generators[t]).T - target) ** 2)
        return total

    slopes = direction.grads.heads[GENERATOR]
    np.testing.assert_allclose(slopes, jax.grad(distance)(turned), rtol=1e-3, atol=1e-5)
    step = turned - 1e-2 * slopes / np.abs(slopes).max()
    assert distance(step) < distance(turned)
