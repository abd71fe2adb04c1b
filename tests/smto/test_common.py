"""What holds for every multi-task optimizer of the table."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import smto
from mtl_jax.types import InputError

T, P = 3, 7
WEIGHTS = (0.5, 2.0, 1.25)
RANDOM = {"rlw", "pcgrad"}
REDUCED = [name for name in smto.SMTOS if "reduction" in smto.options(name)]
# What the direction of T copies of g is, as a multiple of g; all else gives T.
LENGTHS = {
    "mean": 1.0,
    "fixed": sum(WEIGHTS),
    "cagrad": T * (1 + 0.4) / (1 + 0.4**2),
}
METHODS = pytest.mark.parametrize("name", smto.SMTOS)


def options(name, weights=WEIGHTS):
    return {"weights": weights} if name == "fixed" else {}


@functools.cache
def method(name, num_tasks=T, weights=WEIGHTS):
    return smto.lift(smto.make(name, **options(name, weights)), num_tasks)


@functools.cache
def update(name, num_tasks=T, weights=WEIGHTS) -> Any:
    """Jitted: one compilation serves most tests of this file."""
    chosen = method(name, num_tasks, weights)
    return jax.jit(
        lambda grads, state, losses, key: chosen.update(
            grads,
            state,
            losses=losses,  # type: ignore[call-arg]
            key=key,
        )
    )


LOSSES = np.array([0.5, 2.0, 1.0], np.float32)


def jacobian(seed=0):
    """Some of the gradients are in conflict."""
    return np.random.default_rng(seed).normal(size=(T, P)).astype(np.float32)


def start(name) -> Any:
    return method(name).init(jnp.zeros(P))


def direction(name, grads, key, losses=LOSSES):
    return update(name)(grads, start(name), losses, key)[0]


@METHODS
def test_permuting_tasks_permutes_weights(name, key):
    order = np.array([1, 2, 0])
    draws = 2000 if name in RANDOM else 1
    keys = jax.random.split(key, 2 * draws).reshape(2, draws)

    def weights(rows, keys):
        permuted = update(name, weights=tuple(np.array(WEIGHTS)[rows]))
        args = jacobian()[rows], start(name), LOSSES[rows]
        return np.asarray(jax.vmap(lambda k: permuted(*args, k)[1].weights)(keys))

    # Of random methods the means, within five standard errors.
    found = weights(order, keys[0])
    expected = weights(np.arange(T), keys[1])[:, order]
    variance = (found.var(axis=0) + expected.var(axis=0)) / draws
    difference = np.abs(found.mean(axis=0) - expected.mean(axis=0))
    np.testing.assert_array_less(difference, 5 * np.sqrt(variance) + 1e-4)


@METHODS
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_direction_scales_with_the_gradients(name, scale, key):
    expected = direction(name, jacobian(), key)
    found = direction(name, np.float32(scale) * jacobian(), key) / scale
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@METHODS
def test_one_task_gets_its_gradient_back(name, key):
    chosen, grad = method(name, 1, (1.0,)), jacobian()[:1]
    state = chosen.init(jnp.zeros(P))
    found, state = update(name, 1, (1.0,))(grad, state, LOSSES[:1], key)
    length = LENGTHS["cagrad"] / T if name == "cagrad" else 1
    np.testing.assert_allclose(found, length * grad[0], rtol=1e-6)
    assert state.weights.shape == (1,)


@METHODS
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_equal_gradients_give_their_sum(name, scale, key):
    grad = np.float32(scale) * jacobian()[0]
    found = direction(name, np.tile(grad, (T, 1)), key)
    np.testing.assert_allclose(found, LENGTHS.get(name, T) * grad, rtol=1e-5)


@pytest.mark.parametrize("name", REDUCED)
def test_reductions_differ_by_the_number_of_tasks(name, key):
    mean: Any = smto.lift(smto.make(name, reduction="mean"), T)
    found, _ = jax.jit(mean.update)(jacobian(), start(name), losses=LOSSES, key=key)
    np.testing.assert_allclose(T * found, direction(name, jacobian(), key), rtol=1e-5)


def with_rows(**rows):
    """The Jacobian with rows ``g0``, ``g1``, ``g2`` replaced."""
    found = jacobian()
    for name, row in rows.items():
        found[int(name[1])] = row
    return found


G0, G1, _ = jacobian()
EDGES = {
    "all zero": with_rows(g0=0, g1=0, g2=0),
    "one zero": with_rows(g1=0),
    "two zero": with_rows(g1=0, g2=0),
    "opposed": with_rows(g1=-3 * G0),
    "twins": with_rows(g1=G0),
    "Pareto-stationary": with_rows(g2=-G0 - G1),
    "unlike norms": with_rows(g0=1e-4 * G0, g1=1e4 * G1),
    "huge": np.float32(1e10) * jacobian(),
}


@METHODS
@pytest.mark.parametrize("edge", EDGES)
def test_edges_are_finite_and_bounded(name, edge, key):
    found, state = update(name)(EDGES[edge], start(name), LOSSES, key)
    assert np.isfinite(found).all() and np.isfinite(state.weights).all()
    lengths = np.linalg.norm(np.asarray(EDGES[edge], np.float64), axis=1)
    # No method here makes a direction longer than what its tasks could ask for.
    assert np.linalg.norm(np.asarray(found, np.float64)) <= 2 * T * lengths.max()


@METHODS
def test_zero_gradients_give_zero(name, key):
    np.testing.assert_array_equal(direction(name, EDGES["all zero"], key), 0)


@METHODS
def test_pytree_is_its_ravelled_matrix(name, key):
    matrix = jacobian()
    grads = {"a": matrix[:, :4].reshape(T, 2, 2), "b": (matrix[:, 4], matrix[:, 5:])}
    found, state = update(name)(grads, start(name), LOSSES, key)
    assert jax.tree.map(jnp.shape, found) == {"a": (2, 2), "b": ((), (2,))}
    expected, other = update(name)(matrix, start(name), LOSSES, key)
    np.testing.assert_allclose(ravel_pytree(found)[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.weights, other.weights, rtol=1e-4, atol=1e-5)


@METHODS
def test_vmap_over_runs_is_a_loop(name, key):
    runs, keys = range(3), jax.random.split(key, 3)
    grads = np.stack([jacobian(seed) for seed in runs])
    losses = np.stack([(run + 1) * LOSSES for run in runs])
    states = jax.tree.map(lambda leaf: np.stack([leaf] * 3), start(name))
    found = jax.vmap(update(name))(grads, states, losses, keys)
    looped = [update(name)(grads[r], start(name), losses[r], keys[r]) for r in runs]
    expected = jax.tree.map(lambda *rows: jnp.stack(rows), *looped)
    jax.tree.map(
        lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-5),
        found,
        expected,
    )


@METHODS
def test_second_call_does_not_compile(name, key):
    compiled = update(name)
    _, state = compiled(jacobian(), start(name), LOSSES, key)
    before = compiled._cache_size()
    compiled(jacobian(1), state, 2 * LOSSES, jax.random.key(1))
    assert compiled._cache_size() == before


@METHODS
def test_state_keeps_its_structure(name, key):
    before = start(name)
    _, after = update(name)(jacobian(), before, LOSSES, key)
    assert isinstance(after, smto.SmtoState)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert jax.tree.map(jax.typeof, before) == jax.tree.map(jax.typeof, after)
    np.testing.assert_array_equal(before.weights, 1)


@METHODS
def test_direction_keeps_dtypes(name, key):
    grads = {"a": jacobian(), "b": jacobian().astype(jnp.bfloat16)}
    found, _ = update(name)(grads, start(name), LOSSES, key)
    assert (found["a"].dtype, found["b"].dtype) == (jnp.float32, jnp.bfloat16)


@METHODS
def test_without_jit_and_with_extra_arguments_nothing_changes(name, key):
    eager: Any = method(name).update
    found, _ = eager(
        jacobian(), start(name), None, losses=LOSSES, key=key, value=3, value_fn=abs
    )
    expected = direction(name, jacobian(), key)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@METHODS
def test_key_decides(name):
    def draw(seed):
        return direction(name, jacobian(), jax.random.key(seed))

    np.testing.assert_array_equal(draw(1), draw(1))
    distinct = {np.asarray(draw(seed)).tobytes() for seed in range(8)}
    assert (len(distinct) > 1) == (name in RANDOM)


@METHODS
def test_chains_with_an_optimizer(name, key):
    params = {"w": jnp.ones(P)}
    optimizer: Any = optax.chain(method(name), optax.adam(0.1))
    updates, _ = jax.jit(optimizer.update)(
        {"w": jacobian()}, optimizer.init(params), params, losses=LOSSES, key=key
    )
    plain: Any = optax.adam(0.1)
    grads = {"w": direction(name, jacobian(), key)}
    expected, _ = plain.update(grads, plain.init(params), params)
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-4, atol=1e-6)


@METHODS
@pytest.mark.parametrize("shape", [(T - 1, P), (T + 1,), ()], ids=str)
def test_wrong_number_of_tasks(name, shape, key):
    chosen: Any = method(name)
    grads = {"good": jacobian(), "bad": jnp.ones(shape)}
    with pytest.raises(InputError) as error:
        chosen.update(grads, start(name), losses=LOSSES, key=key)
    assert f"shape {shape}" in str(error.value)
    assert "3 tasks" in str(error.value) and "num_tasks" in str(error.value)


def test_random_weights_sum_to_one_and_are_fair(key):
    weighting: Any = smto.make("rlw", reduction="mean")
    weights = jax.vmap(lambda k: weighting.update(LOSSES, (), k)[0])(
        jax.random.split(key, 10_000)
    )
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    error = weights.std(axis=0) / 100
    np.testing.assert_array_less(np.abs(weights.mean(axis=0) - 1 / T), 4 * error)
    # softmax of normals, and neither one-hot nor uniform: of two, a logistic-normal
    draws = np.random.default_rng(0).normal(size=(10_000, T))
    reference = np.exp(draws) / np.exp(draws).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(weights.std(axis=0), reference.std(axis=0), rtol=0.03)


@pytest.mark.parametrize(
    ("name", "chosen", "words"),
    [
        ("mdga", {}, ["'mdga'", "mgda", "cagrad"]),
        ("cagrad", {"d": 1}, ["cagrad", "'d'", "c, rescale, reduction"]),
        ("sum", {"reduction": "sum"}, ["sum", "'reduction'", "none"]),
        ("cagrad", {"c": -0.1}, ["c is -0.1", "0 or more"]),
        ("cagrad", {"c": float("nan")}, ["c is nan"]),
        ("cagrad", {"c": float("inf")}, ["c is inf"]),
        ("cagrad", {"rescale": 3}, ["rescale 3", "(0, 1, 2)"]),
        ("fixed", {"weights": (1.0, -1.0)}, ["(1.0, -1.0)", "not negative"]),
        ("fixed", {"weights": (1.0, float("nan"))}, ["nan", "finite"]),
        *[(name, {"reduction": "avg"}, ["'avg'", "sum, mean"]) for name in REDUCED],
    ],
)
def test_bad_options(name, chosen, words):
    with pytest.raises(InputError) as error:
        smto.make(name, **chosen)
    assert all(word in str(error.value) for word in words)


def test_unknown_method_has_no_options():
    with pytest.raises(InputError, match="'mdga'"):
        smto.options("mdga")


def test_fixed_weights_must_fit_the_tasks():
    with pytest.raises(InputError, match="2 weights .* for 3 tasks"):
        smto.lift(smto.make("fixed", weights=(1.0, 2.0)), T).init(jnp.zeros(P))
