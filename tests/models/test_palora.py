"""PaLoRA: adapters by hand, the start, and a front that one model learns."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mtl_jax import models, smto
from mtl_jax.models.adapted import as_trunk
from mtl_jax.models.palora import PaLoRA, adapted, draw
from mtl_jax.models.preference import tell
from mtl_jax.smto import strategies
from mtl_jax.smto.preference import lattice
from mtl_jax.training.step import init_state, tasks_at
from mtl_jax.types import ONE_INPUT, Batch, InputError, ModelState, Params
from tests import tiny

T, RANK, ALPHA = 3, 2, 1.5
SHARES = np.array([0.5, 0.25, 0.25], np.float32)


def moved(tree, seed=1):
    """Numbers alike in all leaves, so that no `up` is 0."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), tree
    )


@pytest.mark.parametrize("shape", [(5, 7), (3, 3, 4, 6), (1, 3, 4, 2)])
def test_a_kernel_by_hand(shape):
    params = moved(
        {"layer": {"kernel": jnp.zeros(shape), "bias": jnp.zeros(shape[-1])}}
    )
    adapters = moved(draw(jax.random.key(0), params, T, RANK))
    told = adapted(params, adapters, jnp.asarray(SHARES), ALPHA / RANK)
    down, up = (np.asarray(leaf, np.float64) for leaf in adapters["layer"]["kernel"])
    h, w, inputs, outputs = (1, 1, *shape)[-4:]
    assert down.shape == (T, RANK * h, inputs * w)
    assert up.shape == (T, outputs * h, RANK * h)
    kernel = np.asarray(params["layer"]["kernel"], np.float64)
    expected = kernel.reshape(h, w, inputs, outputs).copy()
    for t in range(T):
        product = (up[t] @ down[t]).reshape(outputs, inputs, h, w)
        for o, i, a, b in np.ndindex(product.shape):
            expected[a, b, i, o] += ALPHA / RANK * SHARES[t] * product[o, i, a, b]
    actual = np.asarray(told["layer"]["kernel"]).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert told["layer"]["bias"] is params["layer"]["bias"]


def test_adapters_start_as_a_torch_layer_and_nothing():
    params = {
        "a": {"kernel": jnp.zeros((3, 5, 4, 6))},
        "b": {"kernel": jnp.zeros((9, 2))},
    }
    adapters = draw(jax.random.key(0), params, T, 8)
    for name, bound in (("a", 20**-0.5), ("b", 1 / 3)):
        down, up = adapters[name]["kernel"]
        assert not up.any()
        assert 0.9 * bound < np.abs(down).max() <= bound
        assert abs(down.std() - bound / 3**0.5) < 0.1 * bound


ENCODERS: Any = {
    "mlp": (models.make("mlp", widths=(6, 7)), (4, 5)),
    "cnn": (models.make("cnn", channels=(3,), hidden=7), (4, 4, 4, 1)),
    "resnet": (models.make("resnet", widths=(4,), blocks=(1,)), (4, 8, 8, 3)),
    "linen": (as_trunk(nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(3)])), (4, 5)),
    "mtan": (models.make("mtan", widths=(4,), blocks=(2,)), (4, 8, 8, 3)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_it_starts_as_its_encoder_bit_for_bit_and_goes_its_own_way(name):
    encoder, shape = ENCODERS[name]
    trunk = models.make("palora", encoder=encoder, rank=RANK).for_tasks(T)
    x = jax.random.normal(jax.random.key(1), shape)
    variables = trunk.init(jax.random.key(0), x, train=False)
    params, state = variables["params"], dict(variables)
    state.pop("params")
    inner = {k: v["encoder"] for k, v in variables.items() if k != "preference"}

    @jax.jit
    def features(params, state, shares):
        told = {"params": params, **tell(state, shares)}
        return trunk.apply(told, x, False)

    plain = jax.jit(lambda inner: encoder.apply(inner, x, False))(inner)
    for shares in (SHARES, np.eye(T, dtype=np.float32)[0]):
        jax.tree.map(
            np.testing.assert_array_equal,
            features(params, state, jnp.asarray(shares)),
            plain,
        )
    changed = {**params, "adapters": moved(params["adapters"])}
    seen = [features(changed, state, jnp.asarray(ray)) for ray in np.eye(T, dtype="f")]
    leaves = [jax.tree.leaves(each)[-1] for each in seen]
    assert all(np.abs(leaves[0] - other).max() > 1e-3 for other in leaves[1:])
    effective = adapted(params["encoder"], changed["adapters"], jnp.eye(T)[1], 1 / RANK)
    by_hand = encoder.apply({**inner, "params": effective}, x, False)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        seen[1],
        by_hand,
    )
    seen_as: Any = features
    assert seen_as._cache_size() == 1  # for all preferences


def test_one_model_learns_the_front_of_a_toy_problem():
    """Losses ``|z - a|^2`` and ``|z - b|^2``: the front is the line between."""
    goals = jnp.array([[1.0, 0.0], [-1.0, 2.0]])
    trunk = PaLoRA(as_trunk(nn.Dense(2, use_bias=False)), 1, 1.0, 2)
    x = jnp.ones((1, 1))
    variables = trunk.init(jax.random.key(0), x, train=False)
    start, state = variables["params"], {
        name: value for name, value in variables.items() if name != "params"
    }  # fmt: skip

    def represent(shared, state, x):
        return trunk.apply({"params": shared, **state}, x, False), state

    def losses_of(shared, state):
        z = represent(shared, state, x)[0]
        return jnp.sum((z[0][None] - goals) ** 2, axis=1)

    def tasks_at(shared):
        return strategies.Tasks(
            represent=represent,
            head_loss=lambda _, head, z, goal: (jnp.sum((z[0] - goal) ** 2), head),
            params=Params(shared, jnp.zeros((2, 0))),
            model_state=ModelState(state, ()),
            batch=Batch(x, goals),
            axes=ONE_INPUT,
            task_map=jax.vmap,
            tell=tell,
        )

    method: Any = smto.make("palora", rays=4)
    strategy = strategies.by_preferences(method)
    adam = optax.adam(0.02)

    @jax.jit
    def trained(key):
        def step(carry, key):
            shared, opt, smto = carry
            outcome = strategy.step(tasks_at(shared), smto, key)
            updates, opt = adam.update(outcome.grads.shared, opt)
            shared = optax.apply_updates(shared, updates)
            return (shared, opt, outcome.smto), None

        init = start, adam.init(start), strategy.init(tasks_at(start).params, 2)
        (shared, *_), _ = jax.lax.scan(step, init, jax.random.split(key, 1500))
        return shared

    @jax.jit
    def front(shared, rays):
        return jax.vmap(lambda ray: losses_of(shared, tell(state, ray)))(rays)

    rays = np.array(lattice(10, 2), np.float32)
    reached = np.asarray(front(trained(jax.random.key(1)), rays), np.float64)
    assert (np.diff(reached[:, 0]) < 0).all() and (np.diff(reached[:, 1]) > 0).all()
    length = 8.0  # squared, between the goals
    known = length * np.stack([rays[:, 1] ** 2, rays[:, 0] ** 2], axis=1)
    np.testing.assert_allclose(reached, known, atol=0.02 * length)
    flat = np.asarray(front(start, rays))
    np.testing.assert_array_equal(flat, np.broadcast_to(flat[0], flat.shape))


@pytest.mark.parametrize("one_input", [False, True], ids=["own", "one"])
def test_gradients_are_the_mean_over_preferences_of_the_weighted_losses(one_input):
    """Against one differentiation of what is minimised, with batch statistics."""
    trunk: Any = models.make("palora", encoder=tiny.NORMALISED, rank=RANK)
    made = tiny.setting(trunk, one_input=one_input)
    rule = tiny.by(strategies.by_preferences, smto.make("palora", rays=2), True)
    state = init_state(made, rule, tiny.SEED, tiny.TASKS)
    shared = state.params.shared
    params = state.params._replace(
        shared={**shared, "adapters": moved(shared["adapters"])}
    )
    batch, key = tiny.batch(made), jax.random.key(3)
    method: Any = rule.strategy.method
    rays = method.update(T, method.init(T), key)[0]

    def loss(params, ray, t):
        heads = jax.tree.map(lambda leaf: leaf[t], params.heads)
        model_state = tiny.of_task(made, state.model_state, t)
        model_state = model_state._replace(trunk=tell(model_state.trunk, ray))
        x = batch.x if one_input else batch.x[t]
        of_task = batch._replace(x=x, y=batch.y[t])
        return tiny.train_loss(made, params._replace(heads=heads), model_state, of_task)

    @jax.jit
    def both(params):
        tasks = tasks_at(made, rule, params, state.model_state, batch)
        direction = rule.strategy.step(tasks, state.smto, key)

        def total(params):
            terms = [
                [ray[t] * loss(params, ray, t)[0] for t in range(T)] for ray in rays
            ]
            return sum(sum(of_ray) for of_ray in terms) / len(rays)

        moved = [loss(params, ray, 0)[1].trunk["batch_stats"] for ray in rays]
        return direction, jax.grad(total)(params), moved

    direction, expected, moved_to = both(params)
    tiny.close(direction.grads, expected, rtol=1e-3)
    np.testing.assert_allclose(direction.smto.weights, rays.mean(axis=0), rtol=1e-6)
    trunk = direction.model_state.trunk
    jax.tree.map(
        lambda leaf: np.testing.assert_allclose(leaf, 1 / T), trunk["preference"]
    )
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 2, *moved_to)
    first = trunk["batch_stats"]
    first = first if one_input else jax.tree.map(lambda leaf: leaf[0], first)
    tiny.close(first, mean)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 0}, "palora rank are .0,."),
        ({"alpha": -1.0}, "alpha is -1.0; it must be a positive"),
        ({"encoder": 3}, "the trunk is 3"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        models.make("palora", **options)


def test_an_encoder_without_kernels_is_refused():
    pair = (lambda *_: jnp.ones(2), lambda params, x: x * params[None])
    trunk = models.make("palora", encoder=pair)
    with pytest.raises(InputError, match="no parameter 'kernel'"):
        trunk.init(jax.random.key(0), jnp.ones((1, 2)), train=False)
