"""Fingerprints: what computes the same is the same, and nothing else is."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import mtl_jax
from mtl_jax.objectives.losses import GAUSSIAN
from mtl_jax.training.fingerprint import of_optimizer, of_setting
from mtl_jax.types import InputError

X = np.random.default_rng(0).normal(size=(12, 3))
Y = X.sum(axis=1)


def linen(f):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return f(nn.Dense(4)(x))

    return Net()


class Module(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.dense(x))


def of_trunk(trunk, objective: Any = "gaussian", **options: Any):
    task = mtl_jax.Task(train=(X, Y), objective=objective)
    return of_setting(mtl_jax.setting({"a": task}, trunk, **options))


def scaled(factor):
    loss = lambda outputs, y: factor * GAUSSIAN.example_loss(outputs, y)  # noqa: E731
    return GAUSSIAN._replace(example_loss=loss)


SAME = {
    "linen": lambda: of_trunk(linen(nn.relu)),
    "nnx": lambda: of_trunk(Module(nnx.Rngs(0))),
    "pair": lambda: of_trunk((lambda *_: jnp.ones((3, 4)), lambda p, x: x @ p)),
    "objective": lambda: of_trunk(linen(nn.relu), scaled(2)),
    "optimizer": lambda: of_optimizer(lambda rate: optax.sgd(2 * rate)),
}
OTHER = {
    "linen": lambda: of_trunk(linen(nn.tanh)),
    "nnx": lambda: of_trunk(Module(nnx.Rngs(1))),
    "pair": lambda: of_trunk((lambda *_: jnp.zeros((3, 4)), lambda p, x: x @ p)),
    "objective": lambda: of_trunk(linen(nn.relu), scaled(3)),
    "optimizer": lambda: of_optimizer(lambda rate: optax.sgd(3 * rate)),
}


@pytest.mark.parametrize("name", SAME)
def test_what_computes_something_else_has_another(name):
    assert SAME[name]() == SAME[name]()
    assert SAME[name]() != OTHER[name]()


def test_tasks_of_unlike_kinds_and_one_input():
    tasks = {
        "a": mtl_jax.Task(train=(X, Y > 0)),
        "b": mtl_jax.Task(train=(X, Y), objective="gaussian"),
    }
    shared = {
        "a": mtl_jax.Task(train=Y > 0),
        "b": mtl_jax.Task(train=Y, objective="gaussian"),
    }
    trunk = linen(nn.relu)
    prints = [
        of_setting(mtl_jax.setting(tasks, trunk)),
        of_setting(mtl_jax.setting(shared, trunk, inputs={"train": X})),
    ]
    assert prints[0] != prints[1]


def test_a_workdir_does_not_go_on_with_another_model(tmp_path):
    options: Any = {"steps": 2, "seeds": (0,), "variants": ("multi",)}
    options |= {"workdir": tmp_path / "run", "factors__names": ()}
    task = mtl_jax.Task(train=(X, Y), objective="gaussian")
    first, second = (mtl_jax.setting({"a": task}, linen(f)) for f in (nn.relu, nn.tanh))
    mtl_jax.train(first, **options)
    with pytest.raises(InputError, match="another configuration: model.name was"):
        mtl_jax.train(second, **options)
    with pytest.raises(InputError, match="another configuration: optimizer.name was"):
        mtl_jax.train(first, optimizer=lambda rate: optax.sgd(rate), **options)
