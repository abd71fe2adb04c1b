"""Options of optimizers: what would diverge or fail later is refused by its name."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax.training import optimizers
from mtl_jax.training.optimizers import check_optimizer, make_optimizer
from mtl_jax.training.schedules import make_schedule
from mtl_jax.types import InputError


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {"b1": 1.5}, "optimizer.adam.b1 is 1.5; .* at least 0 and below 1"),
        ("adam", {"b2": 1.0}, "optimizer.adam.b2 is 1.0; .* below 1"),
        ("adam", {"b1": float("nan")}, "b1 is nan; .* at least 0"),
        ("adam", {"b1": True}, "b1 is True; .* at least 0"),
        ("adam", {"eps": 0.0}, "optimizer.adam.eps is 0.0; it must be above 0"),
        ("adamw", {"b2": -0.1}, "optimizer.adamw.b2 is -0.1; .* at least 0"),
        ("adamw", {"weight_decay": -1e-4}, "weight_decay is -0.0001; .* at least 0"),
        ("adamw", {"weight_decay": float("inf")}, "weight_decay is inf; .* finite"),
        ("sgd", {"momentum": 2}, "optimizer.sgd.momentum is 2; .* below 1"),
        ("sgd", {"momentun": 0.9}, "option of sgd 'momentun' .* mean 'momentum'"),
        ("sdg", {}, "optimizer 'sdg' is not one of: .*adamw, .*; did you mean 'sgd'"),
    ],
)
def test_what_is_out_of_range(name, options, message):
    with pytest.raises(InputError, match=message):
        make_optimizer(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("adam", {"b1": 0, "b2": 0.5, "eps": 1e-3}, optax.adam),
        ("adamw", {"weight_decay": 0.5}, optax.adamw),
        ("sgd", {"momentum": 0.5, "nesterov": True}, optax.sgd),
    ],
)
def test_what_is_in_range_is_passed_on(name, options, theirs):
    params, grads = jnp.arange(3.0), jnp.array([1.0, -2.0, 0.0])
    updates = []
    for optimizer in (make_optimizer(name, **options)(0.1), theirs(0.1, **options)):
        _, state = optimizer.update(grads, optimizer.init(params), params)
        updates.append(optimizer.update(grads, state, params)[0])
    np.testing.assert_array_equal(*updates)


def steps_of(optimizer: Any, count=3):
    params, grads = jnp.array([[1.0], [2.0]]), jnp.array([[3.0], [4.0]])
    state, updates = optimizer.init(params), []
    for _ in range(count):
        update, state = optimizer.update(grads, state, params)
        updates.append(np.asarray(update).ravel())
    return np.array(updates)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_defaults_are_those_of_optax(name):
    chosen = make_optimizer(name, **optimizers.options(name))(0.1)
    np.testing.assert_array_equal(
        steps_of(chosen), steps_of(optimizers.OPTIMIZERS[name](0.1))
    )


def test_momentum_is_the_heavy_ball():
    (first, second, third), grads = steps_of(make_optimizer("momentum")(0.1)), [3, 4]
    np.testing.assert_allclose(first, -0.1 * np.array(grads), rtol=1e-6)
    np.testing.assert_allclose(second, 1.9 * first, rtol=1e-6)
    np.testing.assert_allclose(third, 2.71 * first, rtol=1e-6)
    assert optimizers.options("momentum") == {"momentum": 0.9, "nesterov": False}


def test_schedule_and_clipping():
    schedule = make_schedule("linear", steps=4, warmup_steps=2, final_fraction=0.5)
    chosen = make_optimizer("sgd", schedule, clip_norm=1.0)(0.1)
    rates = np.array([0.0, 0.5, 1.0, 0.75])[:, None]
    np.testing.assert_allclose(
        steps_of(chosen, 4), -0.1 * rates * [0.6, 0.8], rtol=1e-6
    )


def test_decay_of_matrices_only():
    params: Any = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    chosen = make_optimizer("adamw", decayed="matrices", weight_decay=0.5)(0.1)
    zeros: Any = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    updates: Any
    updates, _ = chosen.update(zeros, chosen.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.05)
    np.testing.assert_array_equal(updates["bias"], 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cosin"}, "optimizer.schedule 'cosin' .*did you mean 'cosine'"),
        ({"warmup_steps": 10}, "warmup_steps is 10; .* below steps, 10"),
        ({"final_fraction": 2}, "final_fraction is 2; it must be 0 to 1"),
    ],
)
def test_schedule_out_of_range(options: Any, message):
    with pytest.raises(InputError, match=message):
        make_schedule(**{"name": "cosine", "steps": 10, **options})


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optax.adam(1e-3), "lambda rate: optax.adam"),
        (lambda rate: rate, "lambda rate: optax.adam"),
    ],
)
def test_what_is_no_optimizer(optimizer: Any, message):
    with pytest.raises(InputError, match=message):
        check_optimizer(optimizer, {"w": jnp.zeros(2)})


def test_mask_of_what_does_not_decay():
    with pytest.raises(InputError, match="adam has no weight decay to mask; .*adamw"):
        make_optimizer("adam", decayed="matrices")
