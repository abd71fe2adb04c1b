"""Options of optimizers: what would diverge or fail later is refused by its name."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax.training.optimizers import make_optimizer
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
        ("sdg", {}, "optimizer 'sdg' is not one of: adam, adamw, sgd; .* 'sgd'"),
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
