"""Models of anybody as trunks: what they compute, draw and keep."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from mtl_jax.models.adapted import as_trunk
from mtl_jax.types import InputError

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))
        return nn.Dropout(0.5, deterministic=not train)(x)


class Module(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.dense(x)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class OneExample:
    """As equinox's modules: a pytree that takes one example."""

    weight: Any
    steps: Any = dataclasses.field(default=2, metadata={"static": True})

    def __call__(self, x):
        return jnp.tanh(self.weight @ x)


def draw(key, x):
    return {"w": jax.random.normal(key, (x.shape[-1], 4))}


PAIR = (draw, lambda params, x: x @ params["w"])
MODULE = Module(nnx.Rngs(0))
MODELS = {
    "linen": Linen(),
    "nnx": MODULE,
    "nnx split": nnx.split(MODULE),
    "nnx class": Module,
    "nnx factory": lambda rngs: Module(rngs),
    "pair": PAIR,
    "pytree": OneExample(jnp.arange(12.0).reshape(4, 3) / 10),
}


def started(trunk, seed, task=0):
    keys = {"params": jax.random.key(seed), "dropout": jax.random.key(100 + task)}
    variables = dict(jax.jit(lambda: trunk.init(keys, X, train=False))())
    return variables.pop("params"), variables


@pytest.mark.parametrize("name", MODELS)
def test_trains_and_evaluates(name):
    trunk = as_trunk(MODELS[name])
    params, state = started(trunk, 0)

    def trained(params):
        variables = {"params": params, **state}
        return trunk.apply(variables, X, True, mutable=list(state))

    outputs, moved = jax.jit(trained)(params)
    assert outputs.shape == (6, 4)
    has_state = name.startswith(("linen", "nnx"))
    assert has_state == bool(jax.tree.leaves(moved))
    differs = jax.tree.map(lambda a, b: bool((a != b).any()), state, dict(moved))
    assert any(jax.tree.leaves(differs)) == has_state  # batch statistics
    evaluated = trunk.apply({"params": params, **state}, X, False)
    again = trunk.apply({"params": params, **state}, X, False)
    np.testing.assert_array_equal(evaluated, again)
    grads = jax.grad(lambda p: trained(p)[0].sum())(params)
    assert any(bool((leaf != 0).any()) for leaf in jax.tree.leaves(grads))


def test_nnx_computes_what_the_module_does():
    trunk = as_trunk(MODULE)
    params, state = started(trunk, 0)
    module = nnx.merge(*nnx.split(MODULE))
    module.eval()
    outputs: Any = trunk.apply({"params": params, **state}, X, False)
    np.testing.assert_allclose(outputs, module(X), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "is_one_model"),
    [("linen", False), ("nnx", True), ("nnx class", False), ("pair", False)]
    + [("pytree", True)],
)
def test_seeds_draw_what_brings_no_parameters(name, is_one_model):
    trunk = as_trunk(MODELS[name])
    first, second = (jax.tree.leaves(started(trunk, seed)[0]) for seed in (0, 1))
    same = all((a == b).all() for a, b in zip(first, second, strict=True))
    assert bool(same) == is_one_model


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_tasks_draw_masks_of_their_own(name):
    trunk = as_trunk(MODELS[name])
    params, _ = started(trunk, 0)
    outputs = []
    for task in (0, 1):
        _, state = started(trunk, 0, task)
        variables = {"params": params, **state}
        outputs.append(trunk.apply(variables, X, True, mutable=list(state))[0])
    assert ((outputs[0] == 0) != (outputs[1] == 0)).any()


@pytest.mark.parametrize("model", [3, "mlp", None, nn.Dense, (1, 2), lambda x: x])
def test_what_is_no_model(model):
    with pytest.raises(InputError, match="the trunk is .*; pass a linen module"):
        as_trunk(model)
