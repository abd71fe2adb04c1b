"""A setting's initialisation and batch statistics, and one step of training on it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from configs import default
from mtl_jax.devices.axis_map import sequential
from mtl_jax.models.trunk import Trunk
from mtl_jax.training.setting import COMPUTE, from_dataset, load_dataset, make_setting
from mtl_jax.training.step import data_pool, init_state, train_chunk, train_step
from mtl_jax.types import ONE_INPUT, OWN_INPUTS, Batch, InputError, Params
from tests.tiny import (
    CLASSES,
    MLP,
    MOMENTUM,
    NORMALISED,
    RATE,
    SEED,
    TASKS,
    B,
    T,
    batch,
    close,
    dataset,
    method,
    of_task,
    setting,
    stepped,
    train_loss,
)


def statistics_of_a_pass(params, state, x):
    """Running statistics after one pass in training mode, by hand."""
    dense = params.shared["Dense_0"]
    features = np.asarray(x) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    old = state["batch_stats"]["BatchNorm_0"]
    new = {"mean": features.mean(axis=0), "var": features.var(axis=0)}
    mixed = {k: MOMENTUM * old[k] + (1 - MOMENTUM) * new[k] for k in new}
    return {"batch_stats": {"BatchNorm_0": mixed}}


METHODS = pytest.mark.parametrize(
    ("name", "lifted", "task_map"),
    [("sum", False, jax.vmap), ("mgda", True, jax.vmap), ("mgda", True, sequential)],
)


@METHODS
def test_own_inputs_have_own_statistics(name, lifted, task_map):
    one, chosen = setting(NORMALISED), method(name, lifted=lifted, task_map=task_map)
    before = init_state(one, chosen, SEED, TASKS)
    after, _ = stepped(one, chosen, before, batch(one))
    for t in TASKS:
        own = of_task(one, before.model_state, t).trunk
        expected = statistics_of_a_pass(before.params, own, batch(one).x[t])
        found = of_task(one, after.model_state, t).trunk
        close(found, expected, 1e-4, 1e-5)
    means = after.model_state.trunk["batch_stats"]["BatchNorm_0"]["mean"]
    assert len(np.unique(means, axis=0)) == T


@METHODS
def test_one_input_has_one_set_of_statistics(name, lifted, task_map):
    one = setting(NORMALISED, one_input=True)
    chosen = method(name, lifted=lifted, task_map=task_map)
    before = init_state(one, chosen, SEED, TASKS)
    after, _ = stepped(one, chosen, before, batch(one))
    old = before.model_state.trunk
    expected = statistics_of_a_pass(before.params, old, batch(one).x)
    close(after.model_state.trunk, expected, 1e-4, 1e-5)


def test_evaluation_uses_running_statistics_and_leaves_them():
    one = setting(NORMALISED, one_input=True)
    state = init_state(one, method(lifted=False), SEED, TASKS)
    params = Params(
        state.params.shared, jax.tree.map(lambda h: h[0], state.params.heads)
    )
    x = batch(one).x
    outputs = one.predict(params, state.model_state, x)
    assert outputs.shape == (B, CLASSES)
    # Example by example the same: nothing of the batch enters.
    alone = [one.predict(params, state.model_state, x[i : i + 1])[0] for i in range(2)]
    close(outputs[:2], jnp.stack(alone))
    # And not what training mode makes of them.
    moved = jax.tree.map(lambda leaf: leaf + 1, state.model_state)
    assert not np.allclose(one.predict(params, moved, x), outputs)
    loss, _ = train_loss(one, params, state.model_state, Batch(x, batch(one).y[0]))
    other = one.objective.example_loss(outputs, batch(one).y[0]).mean()
    assert abs(loss - other) > 1e-3


def test_init_depends_on_seed_and_task_only():
    one = setting(MLP)

    def init(seed, ids):
        return init_state(one, method(lifted=False), seed, ids).params

    multi, reverse = init(3, TASKS), init(3, TASKS[::-1])
    for t in TASKS:
        single = init(3, TASKS[t : t + 1])
        close(single.shared, multi.shared, rtol=0, atol=0)
        head = jax.tree.map(lambda leaf, t=t: leaf[t : t + 1], multi.heads)
        close(single.heads, head, rtol=0, atol=0)
    # A head goes with its task, not with its place.
    back = jax.tree.map(lambda leaf: leaf[::-1], reverse.heads)
    close(back, multi.heads, rtol=0, atol=0)
    kernels = multi.heads["kernel"]
    assert len(np.unique(kernels.reshape(T, -1), axis=0)) == T
    other = init(4, TASKS)
    assert not np.allclose(other.heads["kernel"], kernels)
    first = jax.tree.leaves(multi.shared)[-1], jax.tree.leaves(other.shared)[-1]
    assert not np.allclose(*first)


@pytest.mark.parametrize(
    ("one_input", "lifted"), [(False, False), (True, True)], ids=["own", "one"]
)
def test_one_task_is_a_plain_loop(one_input, lifted):
    one = setting(NORMALISED, one_input=one_input)
    chosen = method(lifted=lifted)
    task: Any = np.array([1])
    state = init_state(one, chosen, SEED, task)
    optimizer = chosen.optimizer(RATE)
    params = Params(
        state.params.shared, jax.tree.map(lambda h: h[0], state.params.heads)
    )
    stats = of_task(one, state.model_state, 0)

    @jax.jit
    def plain(params, stats, opt, batch):
        def loss_fn(params):
            return train_loss(one, params, stats, batch)

        (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt = optimizer.update(grads, opt)
        return optax.apply_updates(params, updates), stats, opt, loss

    step = jax.jit(lambda state, batch: train_step(one, chosen, state, batch, RATE))
    opt = optimizer.init(params)
    for k in range(4):
        both = batch(one, task, k % 2)
        alone = Batch(both.x if one_input else both.x[0], both.y[0])
        params, stats, opt, loss = plain(params, stats, opt, alone)
        state, losses = step(state, both)
        np.testing.assert_allclose(losses, np.asarray(loss)[None], rtol=1e-5)
    close(state.params.shared, params.shared, rtol=1e-4, atol=1e-6)
    heads = jax.tree.map(lambda leaf: leaf[0], state.params.heads)
    close(heads, params.heads, rtol=1e-4, atol=1e-6)
    close(of_task(one, state.model_state, 0), stats)
    assert state.step == 4 and state.diverged == -1


@pytest.mark.parametrize("one_input", [False, True], ids=["own", "one"])
@pytest.mark.parametrize("weighted_heads", [False, True], ids=["plain", "weighted"])
def test_one_backward_pass_is_the_lifted_path(one_input, weighted_heads):
    one = setting(NORMALISED, one_input=one_input)
    found = []
    for lifted in (False, True):
        chosen = method("rlw", lifted=lifted, weighted_heads=weighted_heads)
        state = init_state(one, chosen, SEED, TASKS)
        found.append(stepped(one, chosen, state, batch(one)))
    for (state, losses), (other, others) in [found]:
        # Cosines with the tasks' gradients are known where those are made.
        assert (
            np.isnan(state.smto.cosines).all() and np.isfinite(other.smto.cosines).all()
        )
        same = state.smto._replace(cosines=other.smto.cosines)
        close(state._replace(smto=same), other, rtol=1e-4, atol=1e-5)
        close(losses, others)
    assert len(np.unique(found[0][0].smto.weights)) == T


def test_weighted_heads_move_with_their_weights():
    one = setting(MLP)
    moves = {}
    for weighted in (False, True):
        chosen = method("mgda", lifted=True, weighted_heads=weighted)
        state = init_state(one, chosen, SEED, TASKS)
        after, _ = stepped(one, chosen, state, batch(one))
        weights = after.smto.weights
        moves[weighted] = jax.tree.map(
            lambda new, old: new - old, after.params.heads, state.params.heads
        )
    expected = weights[:, None] * moves[False]["bias"]
    np.testing.assert_allclose(moves[True]["bias"], expected, rtol=1e-3, atol=1e-6)


def test_a_run_that_diverges_keeps_its_last_state():
    one, chosen = setting(MLP), method(lifted=False)
    sound, _ = stepped(one, chosen, init_state(one, chosen, SEED, TASKS), batch(one))
    bad = batch(one)
    bad.x[1, 0, 0] = np.nan  # one number of one task
    stopped, losses = stepped(one, chosen, sound, bad)
    assert np.isnan(losses[1]) and stopped.diverged == 1
    close(stopped._replace(diverged=sound.diverged), sound, rtol=0, atol=0)
    again, _ = stepped(one, chosen, stopped, batch(one))
    close(again, stopped, rtol=0, atol=0)


def test_running_loss_is_an_exponential_mean():
    one, chosen = setting(MLP), method(lifted=False)
    state = init_state(one, chosen, SEED, TASKS)
    state, first = stepped(one, chosen, state, batch(one))
    close(state.running_loss, first)
    state, second = stepped(one, chosen, state, batch(one, step=1))
    close(state.running_loss, 0.9 * first + 0.1 * second)
    close(state.lowest_loss, jnp.minimum(first, state.running_loss))


def test_lowest_loss_is_kept_where_the_running_loss_rises():
    one, chosen = setting(MLP), method(lifted=False)
    start = init_state(one, chosen, SEED, TASKS)
    lowest = jnp.array([0.01, jnp.inf, 0.02])  # less, and more, than any loss here
    start = start._replace(step=start.step + 1, lowest_loss=lowest)
    start = start._replace(running_loss=jnp.ones(T))
    state, _ = stepped(one, chosen, start, batch(one))
    assert (state.running_loss > 0.02).all() and state.running_loss[0] != 1
    close(state.lowest_loss, lowest.at[1].set(state.running_loss[1]))


@pytest.mark.parametrize("one_input", [True, False])
def test_a_watched_way_has_cosines_at_the_step_that_is_looked_at(one_input):
    """Those of the gradients, which the strategy itself does not make task by task."""
    one = setting(MLP, one_input=one_input)
    watched = method(lifted=False)._replace(is_watched=True)
    state = init_state(one, watched, SEED, TASKS)
    step = jax.jit(
        lambda looked: train_step(one, watched, state, batch(one), RATE, looked)
    )
    expected, _ = stepped(one, method(lifted=True), state, batch(one))
    assert np.isfinite(expected.smto.cosines).all()
    close(step(True)[0].smto.cosines, expected.smto.cosines)
    assert np.isnan(step(False)[0].smto.cosines).all()


def test_runs_mapped_together_make_cosines_at_that_step_alone():
    """A condition that differs between runs would be a choice of what all compute."""
    one = setting(MLP)
    data: Any = jax.tree.map(jnp.asarray, data_pool(one))
    watched = method(lifted=False)._replace(is_watched=True)
    states = jax.tree.map(
        lambda leaf: jnp.stack([leaf] * 2), init_state(one, watched, SEED, TASKS)
    )

    def chunk(states, looked_at):
        rows = jnp.zeros((2, T, B), jnp.int32)
        return train_chunk(
            one, watched, states, rows, jnp.int32(2), RATE, TASKS, data, looked_at
        )

    mapped = jax.vmap(chunk, (0, None))
    assert " cond[" in str(jax.make_jaxpr(mapped)(states, True))


def test_chunk_is_steps_one_after_another():
    one, chosen = setting(MLP), method("rlw", lifted=False)
    start = init_state(one, chosen, SEED, TASKS)
    data: Any = jax.tree.map(jnp.asarray, data_pool(one))
    rows: Any = np.stack(one.data.rows["train"]).reshape(T, 2, B).swapaxes(0, 1)
    chunk: Any = jax.jit(
        lambda state, count: train_chunk(
            one, chosen, state, jnp.asarray(rows), count, RATE, TASKS, data
        )
    )
    state, losses = start, None
    for step in range(2):
        state, losses = stepped(one, chosen, state, batch(one, step=step))
    close(chunk(start, 2), (state, losses))
    none, losses = chunk(start, 0)
    close(none, start)
    assert np.isnan(losses).all() and chunk._cache_size() == 1
    frozen = start._replace(diverged=jnp.asarray(0, jnp.int32))
    after, losses = chunk(frozen, 2)
    close(after, frozen, rtol=0, atol=0)
    assert np.isnan(losses).all()  # no step was taken


def test_batch_axes_follow_the_targets():
    assert setting(MLP).batch_axes == OWN_INPUTS
    assert setting(MLP, one_input=True).batch_axes == ONE_INPUT


def test_images_become_numbers_up_to_one():
    data = dataset(one_input=False)
    images: Any = np.full((len(data.x), 2, 2, 1), 255, np.uint8)
    one = from_dataset("tiny", data._replace(x=images), MLP)
    params, state = one.init(jax.random.key(0), TASKS[:1])
    params = Params(params.shared, jax.tree.map(lambda h: h[0], params.heads))
    outputs = one.predict(params, state, images[:2])
    close(outputs, one.predict(params, state, jnp.ones((2, 2, 2, 1))))


def test_unknown_setting():
    with pytest.raises(InputError, match="'mnist' is not one of"):
        load_dataset("mnist")


@pytest.mark.parametrize("one_input", [False, True], ids=["own", "one"])
def test_training_in_bfloat16(one_input):
    full = setting(NORMALISED, one_input=one_input)
    data = dataset(one_input=one_input)
    half = from_dataset("tiny", data, NORMALISED, compute="bfloat16")
    chosen = method("mgda", lifted=True)
    start = init_state(half, chosen, SEED, TASKS)
    close(start, init_state(full, chosen, SEED, TASKS), rtol=0, atol=0)
    (wanted, exact), (found, losses) = (
        stepped(one, chosen, start, batch(one)) for one in (full, half)
    )
    for a, b in zip(*map(jax.tree.leaves, (wanted, found)), strict=True):
        assert a.dtype == b.dtype
    close(losses, exact, rtol=0.03, atol=0.03)
    assert not np.allclose(losses, exact, rtol=1e-6)
    params = Params(
        start.params.shared, jax.tree.map(lambda h: h[0], start.params.heads)
    )
    x = batch(full).x if one_input else batch(full).x[0]
    state = of_task(full, start.model_state, 0)
    # Evaluation, and what factors look at, are float32.
    same = full.predict(params, state, x)
    np.testing.assert_array_equal(half.predict(params, state, x), same)


class Embedded(Trunk):
    @nn.compact
    def __call__(self, x, train):
        del train
        return nn.Embed(7, 6)(x).mean(axis=1)


@pytest.mark.parametrize("compute", COMPUTE)
def test_whole_numbers_stay_whole(compute):
    data = dataset(one_input=False)
    tokens: Any = np.abs(data.x).astype(np.int32) % 7
    data = data._replace(x=tokens)
    one = from_dataset("tokens", data, Embedded(), compute=compute)
    chosen = method(lifted=False)
    start = init_state(one, chosen, SEED, TASKS)
    after, losses = stepped(one, chosen, start, batch(one))
    assert np.isfinite(losses).all() and after.diverged == -1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compute_dtype": "float16"}, "'float16' is not one of: float32, bfloat16"),
        ({"augmentations": ("flop",)}, "flip, crop, scale"),
    ],
)
def test_bad_options_of_training(changes, words):
    config: Any = default.get_config()
    config.update(changes)
    with pytest.raises(InputError, match=words):
        make_setting(config)


@pytest.mark.parametrize("one_input", [True, False])
@pytest.mark.parametrize("other", [-1, CLASSES])
def test_a_label_that_is_no_class_is_refused_at_the_door(one_input, other):
    data = dataset(one_input=one_input)
    row = data.rows["train"][1][0]
    y = data.y.copy()
    y[(row, 1) if one_input else row] = other
    rows = {
        "train": data.rows["train"],
        "test": tuple(r[:3] for r in data.rows["train"]),
    }
    told = rf"task 'b' of tiny \(train, {CLASSES} outputs\) holds {other} \(1 of 16"
    with pytest.raises(InputError, match=told):
        from_dataset("tiny", data._replace(y=y, rows=rows), MLP)
    rows["train"] = tuple(r[1:] for r in rows["train"])  # test examples count, too
    with pytest.raises(InputError, match=rf"task 'b' of tiny \(test, .*holds {other}"):
        from_dataset("tiny", data._replace(y=y, rows=rows), MLP)
