"""Options of methods: numbers of Python, NumPy and JAX, traced ones, and schedules."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import smto
from mtl_jax.types import InputError, Params
from tests.smto.cases import LIFTED, OPTIONS, SIZES, WEIGHTS, jit, make

LIFT: Any = smto.lift  # of methods that a type checker does not know
T, P, UPDATES = 3, 4, 3
RNG = np.random.default_rng(0)
GRADS = jnp.float32(RNG.normal(size=(UPDATES, T, P)))
LOSSES = jnp.float32(np.exp(RNG.normal(size=(UPDATES, T))))
KEYS = jax.random.split(jax.random.key(0), UPDATES)
STATIC = ["tasks_per_step", "rescale", "times_tasks", "rays", "annealing"]
STATIC += ["through_heads"]
"""Numbers that the program depends on."""


def numbers(name) -> dict[str, Any]:
    """Choose other values than the defaults for a method's options that are numbers."""
    chosen = {
        option: value
        for option, value in {**smto.options(name), **OPTIONS.get(name, {})}.items()
        if isinstance(value, int | float) and option not in STATIC
    }
    return {
        option: value + 1 if isinstance(value, int) else 0.75 * value or 0.25
        for option, value in chosen.items()
    }


NUMBERS = {name: numbers(name) for name in smto.SMTOS if numbers(name)}


def update_all(method):
    """Return directions ``[S, P]`` of a few updates."""
    optimizer = LIFT(method, T)

    def step(state, batch):
        grads, losses, key = batch
        direction, state = optimizer.update(grads, state, losses=losses, key=key)
        if isinstance(method, smto.LossWeighting) and method.after_update:
            told = method.after_update(losses**2, state.method)
            state = state._replace(method=told)
        return state, direction

    state = optimizer.init(jnp.zeros(P))
    return jax.lax.scan(step, state, (GRADS, LOSSES, KEYS))[1]


def perturbed(method):
    grads = Params(GRADS[0], GRADS[1])

    def grads_at(offset):
        return jax.tree.map(lambda g, o: jnp.sin(g + o), grads, offset)

    def losses_at(offset):
        return jnp.cos(grads_at(offset).shared).sum(axis=1)

    given = LOSSES[0], grads, grads_at, losses_at, method.init(T), KEYS[0]
    return method.update(*given)[0].direction


def at_representation(method):
    return method.update(GRADS[:1], GRADS, method.init(T), KEYS[0])[0]


def rotated(method):
    state = method.init(T)
    for grads in GRADS:
        turns = jnp.zeros((T, P, P))
        (weights, _), _, state = method.update(grads[:, None], turns, state, None)
    return weights


def preferred(method):
    return jax.vmap(lambda key: method.update(T, method.init(T), key)[0])(KEYS)


def penalised(method):
    return method.penalty(GRADS.swapaxes(0, 1)[:, :, None])  # an update is an example


RUNS = {
    smto.Perturbation: perturbed,
    smto.Cotangent: at_representation,
    smto.Rotation: rotated,
    smto.Regularizer: penalised,
    smto.PreferenceSampler: preferred,
}


def directions(method):
    """Return what a method of any family makes of a few problems."""
    return RUNS.get(type(method), update_all)(method)


@pytest.mark.parametrize("name", NUMBERS)
def test_traced_options_are_as_good_as_known_ones(name):
    chosen = NUMBERS[name]
    expected = jit(lambda: directions(make(name, **chosen)))()
    actual = jit(lambda options: directions(make(name, **options)))(chosen)
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)
    default = {**smto.options(name), **OPTIONS.get(name, {})}
    assert any(default[option] != value for option, value in chosen.items())


KINDS = [np.float64, np.float32, jnp.float32, jnp.bfloat16, np.array]
WHOLE = [np.int64, np.int8, jnp.int32, np.array]


@pytest.mark.parametrize("name", NUMBERS)
def test_scalars_of_numpy_and_jax_are_numbers(name):
    for option, value in NUMBERS[name].items():
        for kind in WHOLE if isinstance(value, int) else KINDS:
            make(name, **{option: kind(value)})
            with pytest.raises(InputError, match=option):
                make(name, **{option: kind(-value)})
            pair: Any = {option: np.stack([kind(value)] * 2)}
            with pytest.raises(InputError, match=option):
                make(name, **pair)


def test_a_number_of_numpy_does_not_change_types():
    with jax.enable_x64(True):
        optimizer = LIFT(make("modo", gamma=np.float64(0.5)), T)
        state = optimizer.init(jnp.zeros(P, jnp.float32))
        _, after = jax.eval_shape(optimizer.update, GRADS[0], state)
    assert after.method.dtype == state.method.dtype == jnp.float32


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("momentum_config", "tasks_per_step", 1),
        ("cagrad", "rescale", 1),
        ("fairgrad", "times_tasks", True),
        ("palora", "rays", 2),
    ],
)
def test_what_the_program_depends_on_is_known(name, option, value):
    with pytest.raises(InputError, match=f"{option} is traced.*static_arg"):
        jax.eval_shape(lambda v: directions(smto.make(name, **{option: v})), value)
    for kind in (np.asarray, jnp.asarray):
        smto.make(name, **{option: kind(value)})


@pytest.mark.parametrize("value", [jnp.zeros(2), jnp.array(True), 1j * jnp.ones(())])
def test_what_is_traced_must_be_a_number(value):
    with pytest.raises(InputError, match="cagrad's c"):
        jax.eval_shape(lambda v: directions(make("cagrad", c=v)), value)
    with pytest.raises(InputError, match="update_every.*whole number"):
        jax.eval_shape(lambda v: directions(make("nash_mtl", update_every=v)), value)


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [("fixed", "weights", WEIGHTS), ("sampled", "sizes", SIZES)],
)
def test_numbers_of_the_tasks_may_be_traced(name, option, values):
    expected = directions(smto.make(name, **{option: values}))
    actual = jit(lambda v: directions(smto.make(name, **{option: v})))
    np.testing.assert_allclose(actual(jnp.float32(values)), expected, rtol=1e-5)
    np.testing.assert_allclose(actual(values), expected, rtol=1e-5)
    for wrong in (jnp.ones(2), jnp.ones((T, 1))):
        with pytest.raises(InputError, match="tasks"):
            actual(wrong)


def test_maps_over_an_option():
    values = jnp.array([0.4, 1.5])
    actual = jit(jax.vmap(lambda c: directions(smto.make("cagrad", c=c))))(values)
    for row, value in zip(actual, values.tolist(), strict=True):
        expected = jit(lambda v=value: directions(smto.make("cagrad", c=v)))()
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_without_smoothing_lengths_suffice_and_a_traced_beta_is_smoothed():
    assert isinstance(smto.make("dbmtl", beta=np.float32(0)), smto.GramianWeighting)
    expected = directions(smto.make("dbmtl", beta=0))
    actual = jit(lambda beta: directions(smto.make("dbmtl", beta=beta)))(0.0)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("limit", [0.0, 0.5, 1e3])
def test_a_traced_limit_of_0_is_none(limit):
    expected = directions(smto.make("nash_mtl", max_norm=limit))
    actual = jit(lambda limit: directions(smto.make("nash_mtl", max_norm=limit)))(limit)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_options_are_scheduled():
    def schedule(count):
        return 0.1 * count

    scheduled: Any = optax.inject_hyperparams(
        lambda c: optax.chain(LIFT(smto.make("cagrad", c=c), T), optax.sgd(1.0))
    )
    constant, moving = scheduled(c=0.4), scheduled(c=schedule)
    params = jnp.zeros(P)

    @jit
    def plain(c, grads):
        optimizer = LIFT(smto.make("cagrad", c=c), T)
        return optimizer.update(grads, optimizer.init(params))[0]

    state, update = moving.init(params), jit(moving.update)
    for grads, c in zip(GRADS, [0.0, 0.1, 0.2], strict=True):
        updates, state = update(grads, state, params)
        np.testing.assert_allclose(updates, -plain(c, grads), rtol=1e-4, atol=1e-5)
    state = constant.init(params)
    state.hyperparams["c"] = 0.7  # by hand, and without jit
    updates, _ = constant.update(GRADS[0], state, params)
    np.testing.assert_allclose(updates, -plain(0.7, GRADS[0]), rtol=1e-4, atol=1e-5)


def test_every_number_is_looked_at():
    assert {"dwa", "cagrad", "nash_mtl", "fmtl", "rotograd", "moco"} <= {*NUMBERS}
    assert {*LIFTED} - {*NUMBERS} == {
        *("sum", "mean", "fixed", "si", "rlw", "gls", "mgda", "pcgrad", "imtl_g"),
        *("aligned_mtl", "upgrad", "dualproj", "config", "reweighted"),
    }
