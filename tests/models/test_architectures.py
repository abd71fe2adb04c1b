"""All architectures beyond hard sharing: what is shared, and what is a task's own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import mtl_jax
from configs import digits
from mtl_jax import Task, models, tree
from mtl_jax.gradients import task_gram
from mtl_jax.models.head import TASK, penalise, task_number
from mtl_jax.smto import GramianWeighting, strategies
from mtl_jax.smto.contract import exact, stateless
from mtl_jax.training.setting import from_dataset, make_setting, with_rotations
from mtl_jax.training.step import data_pool, take, tasks_at
from mtl_jax.types import InputError
from tests import small
from tests.models.architectures import (
    MLP,
    OPTIONS,
    B,
    T,
    dataset,
    setting,
    start,
    task,
)
from tests.tiny import by, close, train_loss

NAMES = list(OPTIONS)
TASKS: Any = np.arange(T)
ONE_INPUT = {"mmoe": False, "cgc": True, "dselect_k": True, "ple": False}
ONE_INPUT |= {"cross_stitch": False, "mtan": True}


def batch_of(made):
    rows: Any = np.stack(made.data.rows["train"])
    rows = rows[0] if made.data.one_input else rows
    return jax.tree.map(jnp.asarray, take(made, data_pool(made), rows, TASKS))


@pytest.mark.parametrize("name", NAMES)
def test_a_task_alone_starts_where_it_starts_in_company(name):
    made = setting(name)
    params, state = made.init(jax.random.key(0), TASKS)
    alone, its_state = made.init(jax.random.key(0), TASKS[2:])
    close(alone.shared, params.shared, rtol=0, atol=0)
    its = jax.tree.map(lambda leaf: leaf[2:], (params.heads, state.heads))
    close((alone.heads, its_state.heads), its, rtol=0, atol=0)
    numbers = jax.tree.leaves(state.heads.get(TASK, {}))
    assert len(numbers) == (name in ("ple", "cross_stitch"))
    for number in numbers:
        np.testing.assert_array_equal(number, TASKS)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_their_gramian_are_over_what_is_shared(name):
    """And those at the representation are pulled back to the same."""
    one_input = ONE_INPUT[name]
    made = setting(name, one_input=one_input)
    params, state = start(name, one_input=one_input)
    batch = batch_of(made)

    def weigh(gram, losses, state, key):
        del gram, state, key
        return exact(jnp.arange(1.0, len(losses) + 1)), ()

    at_representation = by(
        strategies.by_representation, GramianWeighting(stateless, weigh)
    )

    @jax.jit
    def measured(params, state):
        tasks = tasks_at(made, at_representation, params, state, batch)
        (losses, _), grads = tasks.grads()
        gram = task_gram(
            *(tasks.loss, params, tasks.inputs, tasks.input_axes), chunk=T, has_aux=True
        )[1]
        strategy = at_representation.strategy
        smto = strategy.init(params, T)
        pulled = strategy.step(tasks, smto, jax.random.key(0))
        alone = []
        for t in range(T):
            params_of, state_of = task(made, params, state, t)
            part = batch._replace(x=batch.x if one_input else batch.x[t], y=batch.y[t])
            loss = lambda p, s=state_of, b=part: train_loss(made, p, s, b)[0]  # noqa: E731
            alone.append(jax.value_and_grad(loss)(params_of))
        return losses, grads, gram, pulled.grads, alone

    losses, grads, gram, pulled, alone = measured(params, state)
    close(losses, jnp.stack([loss for loss, _ in alone]))
    for t, (_, by_hand) in enumerate(alone):
        close(jax.tree.map(lambda leaf, t=t: leaf[t], grads.shared), by_hand.shared)
        close(jax.tree.map(lambda leaf, t=t: leaf[t], grads.heads), by_hand.heads)
    flat = [leaf.reshape(T, -1) for leaf in jax.tree.leaves(grads.shared)]
    rows = np.concatenate(flat, axis=1).astype(float)
    by_hand = rows @ rows.T
    np.testing.assert_allclose(gram.entries, by_hand, rtol=1e-3, atol=1e-6)
    assert (np.abs(by_hand) > 1e-6).all()  # all tasks move what is shared
    weighted = tree.combine(jnp.arange(1.0, T + 1), grads.shared)
    close(pulled.shared, weighted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["mmoe", "dselect_k", "cgc"])
def test_inputs_have_no_slope_at_the_representation(name):
    """Nothing that is shared moves them: methods there must not see any."""
    made, (params, state) = setting(name), start(name)
    params, state = task(made, params, state, 1)
    batch = batch_of(made)

    @jax.jit
    def slopes(z):
        loss = lambda z: made.head_loss(params.heads, state.heads, z, batch.y[1])[0]  # noqa: E731
        return jax.grad(loss)(z)

    z, _ = made.represent(params.shared, state.trunk, batch.x[1])
    found = slopes(z)
    assert not found.inputs.any() and found.experts.any()


def test_penalties_are_of_training_only():
    made, (params, state) = setting("dselect_k"), start("dselect_k")
    params, state = task(made, params, state, 0)
    batch = batch_of(made)
    x, y = batch.x[0], batch.y[0]

    @jax.jit
    def both(params):
        loss, after = train_loss(made, params, state, batch._replace(x=x, y=y))
        outputs = made.predict(params, state, x)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        return loss, made.objective.example_loss(outputs, y).mean()

    training, evaluation = both(params)
    assert training > evaluation + 0.01


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_work_is_refused(name):
    made = setting(name)
    with pytest.raises(InputError, match="rotograd turns representations .B, D."):
        with_rotations(made)
    words = dataset()._replace(shared_output=True)
    with pytest.raises(InputError, match="share their output layer and have no heads"):
        from_dataset("words", words, made.trunk)


@pytest.mark.parametrize("name", ["mmoe", "dselect_k", "cgc"])
def test_gates_look_at_no_tokens(name):
    data = dataset()
    tokens: Any = (data.x * 9).astype(np.int32)
    with pytest.raises(InputError, match="gates of .* are linear in the inputs"):
        from_dataset("tokens", data._replace(x=tokens), setting(name).trunk)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mmoe", {"experts": 0}, "mmoe experts are .0,."),
        ("mmoe", {"expert": 2}, "did you mean 'experts'"),
        ("mmoe", {"encoder": "mpl"}, "model 'mpl' is not one of: cnn, deeplab"),
        ("mmoe", {"encoder": 3}, "the trunk is 3; pass a linen module"),
        ("cgc", {"specific": 0}, "cgc specific are"),
        ("ple", {"experts": 1.5}, "ple experts are"),
    ],
)
def test_bad_options(name, options, words):
    with pytest.raises(InputError, match=words):
        models.make(name, **options)


@pytest.mark.parametrize("name", ["mmoe", "cgc", "dselect_k"])
def test_experts_make_one_array(name):
    nested = models.make(name, encoder=models.make("mmoe", encoder=MLP))
    with pytest.raises(InputError, match="encoder.*one array"):
        from_dataset("nested", dataset(), nested)


def test_an_encoder_has_the_options_under_its_name():
    config: Any = digits.get_config()
    config.model.name = "mmoe"
    config.model.mmoe.update(experts=2, encoder="cnn")
    config.model.cnn.update(channels=(3,), hidden=9)
    made = make_setting(config)
    assert made.trunk.encoder.hidden == 9
    assert made.features.experts.shape == (1, 2, 9)


class Numbered(nn.Module):
    """A user's head that knows its task and adds a penalty."""

    width: int

    @nn.compact
    def __call__(self, z, train):
        if train:
            penalise(self, 10.0)
        return nn.Dense(self.width)(z) + 100 * task_number(self)


def test_heads_of_a_user_are_on_top_of_the_gate_and_know_their_task():
    x: Any = np.random.default_rng(0).normal(size=(B, 2)).astype(np.float32)
    of_task = Task(train=(x, np.arange(B) % 2), objective="softmax")
    trunk = models.make("mmoe", experts=2, encoder=nn.Dense(3))
    made = mtl_jax.setting({"a": of_task, "b": of_task}, trunk, head=Numbered)

    @jax.jit
    def passes(key):
        params, state = made.init(key, jnp.arange(2))
        params, state = task(made, params, state, 1)
        z, _ = made.represent(params.shared, state.trunk, x)
        loss, _ = made.head_loss(params.heads, state.heads, z, jnp.zeros(B, int))
        return made.predict(params, state, x), loss

    outputs, loss = passes(jax.random.key(0))
    assert outputs.shape == (B, 2) and (outputs > 50).all()
    assert loss > 10


@pytest.mark.parametrize(
    ("name", "variants"),
    [
        ("mmoe", ("single", "multi-mgda-ub")),
        ("cross_stitch", ("single", "multi:digits_0+digits_2")),
    ],
)
def test_the_real_loop_trains_it(name, variants, tmp_path):
    run = small.run(
        tmp_path / "run",
        variants=variants,
        seeds=(0, 1),
        run_map="vmap",
        model__name=name,
        model__mlp__widths=(8, 8),
        factors__names=("gradient_similarity",) if name == "mmoe" else (),
        steps=6,
    )
    records: Any = run.records
    assert np.isfinite(records["value"]).all()
    losses = records[(records["name"] == "loss") & (records["split"] == "probe")]
    start = losses[losses["step"] == 0].groupby(["seed", "task"])["value"]
    assert (start.max() - start.min() < 1e-5).all()  # of single and multi alike
