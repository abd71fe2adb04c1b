"""DSelect-k against its equations, by hand; its penalties, and what it comes to."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import models
from mtl_jax.models.dselect_k import SparseGate, smooth_step
from mtl_jax.models.head import PENALTIES
from mtl_jax.types import InputError
from tests.models.architectures import copy_of, dense, mlp, predicted, softmax


def step(t, gamma):
    cubic = -2 * t**3 / gamma**3 + 3 * t / (2 * gamma) + 0.5
    return np.where(t <= -gamma / 2, 0, np.where(t >= gamma / 2, 1, cubic))


def selectors_of(x, gate, *, experts, selected, gamma):
    """Weights ``[B, k, K]`` of every selector, bit by bit."""
    bits = int(np.ceil(np.log2(experts)))
    steps = step(dense(x, gate["bits"]).reshape(len(x), selected, bits), gamma)
    codes = list(itertools.product([0, 1], repeat=bits))[:experts]
    products = [
        np.prod([steps[..., i] if b else 1 - steps[..., i] for i, b in enumerate(c)], 0)
        for c in codes
    ]
    return np.stack(products, axis=-1)


def test_outputs_are_those_of_the_equations():
    for x, shared, head, outputs in predicted("dselect_k"):
        experts = [mlp(x, copy_of(shared["encoder"], k)) for k in range(3)]
        sizes = {"experts": 3, "selected": 2, "gamma": 1.0}
        selectors = selectors_of(x, head["gate"], **sizes)
        among = softmax(dense(x, head["gate"]["selectors"]))
        weights = (among[:, :, None] * selectors).sum(axis=1)
        mixed = sum(weights[:, k, None] * experts[k] for k in range(3))
        np.testing.assert_allclose(outputs, dense(mixed, head["head"]), 1e-4, 1e-5)


def gated(x, experts, *, gamma=0.7, entropy=0.3, seed=0) -> Any:
    gate = SparseGate(2, gamma, entropy)
    params = gate.init(jax.random.key(seed), x, experts)["params"]
    return gate, jax.tree.map(lambda leaf: 20 * leaf, params)


@pytest.mark.parametrize("experts", [3, 4])
def test_penalties(experts):
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    gate, params = gated(x, experts)
    variables = {"params": params}
    passed: Any = gate.apply(variables, x, experts, True, mutable=[PENALTIES])
    weights, said = passed
    sizes = {"experts": experts, "selected": 2, "gamma": 0.7}
    selectors = selectors_of(x, params, **sizes)
    entropies = -(selectors * np.log(selectors + 1e-6)).sum(axis=(1, 2))
    expected = [0.3 * entropies.mean()]
    if experts == 3:
        sums = selectors.sum(axis=2)
        assert (sums < 0.999).any()
        expected.append((1 / sums - 1).sum(axis=1).mean())
    np.testing.assert_allclose(said[PENALTIES]["value"], expected, rtol=1e-4)
    passed = gate.apply(variables, x, experts, False, mutable=[PENALTIES])
    quiet, nothing = passed
    np.testing.assert_array_equal(quiet, weights)
    assert not nothing


def test_a_gate_comes_to_as_few_experts_as_it_may_select():
    x = np.ones((1, 1), np.float32)
    gate, params = gated(x, 8, gamma=1.0, entropy=0.01)
    wanted = np.array([0, 0.25, 0, 0, 0, 0.75, 0, 0], np.float32)
    adam = optax.adam(0.05)

    @jax.jit
    def descended(params):
        def loss(params):
            weights = gate.apply({"params": params}, x, 8)[0]
            return ((weights - wanted) ** 2).sum()

        def body(carry, _):
            params, state = carry
            updates, state = adam.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        carry, _ = jax.lax.scan(body, (params, adam.init(params)), length=400)
        return gate.apply({"params": carry[0]}, x, 8)

    weights = np.asarray(descended(params))[0]
    assert (weights > 0).sum() <= 2  # the others are 0, not just small
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)


def test_a_smooth_step_is_flat_outside_and_smooth_at_its_ends():
    slopes = jax.vmap(jax.grad(lambda t: smooth_step(t, 2.0)))
    t = jnp.array([-3.0, -1.0, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(slopes(t), [0, 0, 0.75, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"selected": 5}, "selected 5 of 4 experts"),
        ({"gamma": 0.0}, "gamma is 0.0; it must be positive"),
        ({"entropy": -1.0}, "entropy is -1.0; it must be at least 0"),
    ],
)
def test_values_out_of_range(options, words):
    with pytest.raises(InputError, match=words):
        models.make("dselect_k", **options)
