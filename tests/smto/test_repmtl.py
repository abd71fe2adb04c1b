"""Rep-MTL against dense matrices in float64, and its slopes against differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import smto
from mtl_jax.smto import strategies
from mtl_jax.smto.repmtl import saliency_alignment, saliency_entropy
from mtl_jax.types import ONE_INPUT, OWN_INPUTS, Batch, InputError, ModelState, Params

T, B, P, C, D, K = 3, 4, 2, 3, 5, 4
TSR, CSA, TAU = 0.7, 1.3, 0.5
RNG = np.random.default_rng(0)


def entropy(grads):
    """Of ``[T, B, P, C]``, place by place."""
    total, (_, examples, positions, _) = 0.0, grads.shape
    for b in range(examples):
        for p in range(positions):
            shares = np.abs(grads[:, b, p].mean(axis=-1))
            shares = shares / shares.sum()
            total -= sum(s * np.log(s) for s in shares if s > 0)
    return total / (examples * positions)


def alignment(grads, tau):
    """Of ``[T, B, P, C]``, with all matrices ``[C, C]``."""

    def flat(matrix):
        return matrix.ravel() / np.linalg.norm(matrix)

    tasks, examples = grads.shape[:2]
    mean = [grads[:, b].mean(axis=1).T for b in range(examples)]  # [C, T]
    anchors = [flat(a @ a.T) for a in mean]
    total = 0.0
    for t in range(tasks):
        for b in range(examples):
            of_task = flat(grads[t, b].T @ grads[t, b])
            others = [np.exp(anchors[b] @ anchors[k] / tau)
                      for k in range(examples) if k != b]  # fmt: skip
            positive = np.exp(anchors[b] @ of_task / tau)
            total -= np.log(positive / np.sum(others)) / examples
    return total


@pytest.mark.parametrize(
    "shape", [(3, 4, 2, 5), (2, 5, 6, 3), (3, 4, 1, 7), (2, 2, 4, 4)]
)
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_penalties_are_those_of_dense_matrices(shape, scale):
    grads = RNG.normal(size=shape)
    small = jnp.float32(scale * grads)
    both = smto.SMTOS["repmtl"](tsr=TSR, csa=CSA, temperature=TAU)
    assert isinstance(both, smto.Regularizer)
    expected = TSR * entropy(grads) + CSA * alignment(grads, TAU)
    np.testing.assert_allclose(both.penalty(small), expected, rtol=2e-5)
    np.testing.assert_allclose(saliency_entropy(small), entropy(grads), rtol=1e-5)
    aligned = saliency_alignment(jnp.float32(grads), TAU)
    np.testing.assert_allclose(aligned, alignment(grads, TAU), rtol=2e-5)


def test_limits_of_the_entropy():
    alike = jnp.ones((T, B, P, C))
    np.testing.assert_allclose(saliency_entropy(alike), np.log(T), rtol=1e-6)
    apart = jnp.zeros((T, B, P, C)).at[0].set(2.0)
    assert saliency_entropy(apart) == 0


def test_nothing_to_see_has_no_slope():
    """Of a task without labels, of an example alone, of nobody at all."""
    penalty: Any = smto.make("repmtl")
    grads = jnp.float32(RNG.normal(size=(T, B, P, C)))
    sloped = jax.jit(jax.value_and_grad(penalty.penalty))
    for seen in (grads.at[1].set(0), grads.at[:, 2].set(0), 0 * grads, grads[:, :1]):
        value, slope = sloped(seen)
        assert jnp.isfinite(value) and jnp.isfinite(slope).all()


def network(own_inputs):
    x = RNG.normal(size=(T, B, D) if own_inputs else (B, D))
    labels = np.eye(K)[RNG.integers(K, size=(T, B))]
    params = Params(
        {"kernel": RNG.normal(size=(D, P * C)), "bias": RNG.normal(size=P * C)},
        {"kernel": RNG.normal(size=(T, P * C, K))},
    )
    return params, x, labels


def objective(params, frozen, x, labels, penalised=1.0):
    """What is minimised, in NumPy; saliencies are those of the heads ``frozen``."""
    total, grads = 0.0, np.zeros((T, B, P, C))
    for t in range(T):
        inputs = x[t] if x.ndim == 3 else x
        z = np.tanh(inputs @ params.shared["kernel"] + params.shared["bias"])

        def logs(heads, z=z, t=t):
            logits = z @ heads["kernel"][t]
            return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

        total -= (labels[t] * logs(params.heads)).sum() / B
        slopes = (np.exp(logs(frozen)) - labels[t]) / B @ frozen["kernel"][t].T
        grads[t] = slopes.reshape(B, P, C)
    penalty = TSR * entropy(grads) + CSA * alignment(grads, TAU)
    return total + penalised * penalty


def represent(shared, state, x):
    z = jnp.tanh(x @ shared["kernel"] + shared["bias"][None])
    return z.reshape(len(x), P, C), state


def head_loss(head, state, z, y):
    logits = z.reshape(len(z), -1) @ head["kernel"]
    return -(y * jax.nn.log_softmax(logits)).sum(axis=1).mean(), state


@pytest.mark.parametrize("own_inputs", [False, True], ids=["one", "own"])
@pytest.mark.parametrize("through_heads", [True, False])
def test_directions_are_differences_of_the_objective(own_inputs, through_heads):
    params, x, labels = network(own_inputs)
    method: Any = smto.make(
        "repmtl", tsr=TSR, csa=CSA, temperature=TAU, through_heads=through_heads
    )
    strategy = strategies.by_regularizer(method)
    with jax.enable_x64(True):
        given = jax.tree.map(jnp.asarray, params)
        tasks = strategies.Tasks(
            represent=represent,
            head_loss=head_loss,
            params=given,
            model_state=ModelState((), ()),
            batch=Batch(jnp.asarray(x), jnp.asarray(labels)),
            axes=OWN_INPUTS if own_inputs else ONE_INPUT,
            task_map=jax.vmap,
        )
        state = strategy.init(given, T)
        found = jax.jit(lambda: strategy.step(tasks, state, jax.random.key(0)))()
        grads: Any = jax.tree.map(np.asarray, found.grads)
        losses = np.asarray(found.losses)
    rng, size = np.random.default_rng(1), 1e-5
    for part in ("shared", "heads"):
        for _ in range(4):
            way = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
            other = "heads" if part == "shared" else "shared"
            zero = jax.tree.map(np.zeros_like, getattr(way, other))
            way = way._replace(**{other: zero})
            values = []
            for sign in (1, -1):
                moved = jax.tree.map(lambda p, w, s=sign: p + s * size * w, params, way)
                frozen = moved.heads if through_heads else params.heads
                values.append(objective(moved, frozen, x, labels))
            expected = (values[0] - values[1]) / (2 * size)
            slopes = jax.tree.map(lambda g, w: (g * w).sum(), grads, way)
            actual = sum(jax.tree.leaves(slopes))
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        losses.sum(), objective(params, params.heads, x, labels, 0.0), rtol=1e-9
    )
    np.testing.assert_array_equal(found.smto.weights, 1)


def test_several_arrays_are_refused():
    params, x, labels = network(False)
    method: Any = smto.make("repmtl")
    strategy = strategies.by_regularizer(method)
    given = jax.tree.map(jnp.float32, params)
    tasks = strategies.Tasks(
        represent=lambda shared, state, x: ((represent(shared, (), x)[0],) * 2, state),
        head_loss=lambda head, state, z, y: head_loss(head, state, z[0], y),
        params=given,
        model_state=ModelState((), ()),
        batch=Batch(jnp.float32(x), jnp.float32(labels)),
        axes=ONE_INPUT,
        task_map=jax.vmap,
    )
    with pytest.raises(InputError, match="one array .* choose another model"):
        strategy.step(tasks, strategy.init(given, T), jax.random.key(0))
