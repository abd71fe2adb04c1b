"""Fisher trace: estimators agree with the exact value, and it with Gauss-Newton."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import metrics
from mtl_jax.objectives.losses import BERNOULLI, DEPTH, GAUSSIAN, SEGMENTATION, SOFTMAX
from mtl_jax.types import InputError

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(50, 3)), jnp.float32)
PARAMS = {
    "w": jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32),
    "v": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32),
}


def many(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def single(params, x):
    return many(params, x)[:, 0]


CASES = [(SOFTMAX, many), (BERNOULLI, single), (GAUSSIAN, single)]
NAMES = ["softmax", "bernoulli", "gaussian"]


def traced(predict, objective, params, x, **options):
    """Compute the Fisher trace in one program."""

    def trace(params, x):
        return metrics.fisher_trace(predict, objective, params, x, **options)

    return jax.jit(trace)(params, x)


def gauss_newton_trace(objective, predict):
    """Compute it written out; of these likelihoods it is the Fisher information's."""

    @jax.jit
    def trace(params):
        flat, unravel = ravel_pytree(params)
        jacobian = jax.jacobian(lambda f: predict(unravel(f), X))(flat)
        outputs = predict(params, X)
        labels = jnp.zeros(len(X), jnp.int32)  # the Hessian does not depend on them

        def curvature(output, label):
            loss = lambda o: objective.example_loss(o[None], label[None])[0]  # noqa: E731
            return jnp.atleast_2d(jax.hessian(loss)(output))

        inner = jax.vmap(curvature)(outputs, labels)
        rows = jacobian.reshape(len(X), -1, flat.size)
        return jnp.einsum("nap,nab,nbp->", rows, inner, rows) / len(X)

    return float(trace(PARAMS))


@pytest.mark.parametrize(("objective", "predict"), CASES[:2], ids=NAMES[:2])
def test_exact_is_the_trace_of_gauss_newton(objective, predict, key):
    estimate = traced(predict, objective, PARAMS, X, key=key, estimator="exact")
    expected = gauss_newton_trace(objective, predict)
    np.testing.assert_allclose(estimate.value, expected, rtol=1e-4)


@pytest.mark.parametrize("estimator", ["minibatch", "per_example"])
@pytest.mark.parametrize(("objective", "predict"), CASES, ids=NAMES)
def test_sampled_estimators_are_unbiased(objective, predict, estimator, key):
    @jax.jit
    def once(key):
        return metrics.fisher_trace(
            predict, objective, PARAMS, X, key=key, estimator=estimator
        ).value

    values = jax.lax.map(once, jax.random.split(key, 300))
    error = values.std() / np.sqrt(len(values))
    expected = gauss_newton_trace(objective, predict)
    assert abs(values.mean() - expected) < 4 * error
    assert error < 0.1 * expected  # or the line above says nothing


def test_empirical_uses_the_labels_it_is_given(key):
    labels = jnp.asarray(RNG.integers(0, 3, len(X)))
    estimate = traced(
        many, SOFTMAX, PARAMS, X, key=key, targets=labels, estimator="empirical"
    )
    of_each = jax.vmap(
        jax.grad(lambda p, x, y: SOFTMAX.example_loss(many(p, x[None]), y[None])[0]),
        (None, 0, 0),
    )
    rows = jax.device_get(jax.jit(of_each)(PARAMS, X, labels))
    expected = sum((leaf**2).sum() for leaf in rows.values()) / len(X)
    np.testing.assert_allclose(estimate.value, expected, rtol=1e-4)


def test_vmapped_over_tasks_is_a_loop(key):
    keys = jax.random.split(key, 2)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), PARAMS)

    @jax.jit
    def trace(params, key):
        return metrics.fisher_trace(many, SOFTMAX, params, X, key=key).value

    together = jax.jit(jax.vmap(trace))(stacked, keys)
    for t in range(2):
        params = jax.tree.map(lambda leaf, t=t: leaf[t], stacked)
        np.testing.assert_allclose(together[t], trace(params, keys[t]), rtol=1e-4)


@pytest.mark.parametrize("estimator", ["minibatch", "per_example"])
@pytest.mark.parametrize("objective", [SEGMENTATION, DEPTH], ids=["pixels", "depth"])
def test_pixels_are_independent_and_masked(objective, estimator, key):
    # Tr F of the mean over valid pixels: the mean over pixels of each one's.
    images = X[:48].reshape(8, 6, 1, 3)  # of six pixels, the last two invalid
    segmentation = objective is SEGMENTATION
    valid = jnp.arange(6).reshape(1, 6, 1) < 4
    targets = jnp.where(valid, jnp.ones((8, 6, 1)), -1 if segmentation else 0)
    targets = targets.astype(jnp.int32) if segmentation else targets
    predict = many if segmentation else single_pixel
    options = {"estimator": estimator, "targets": targets, "batch_size": 4}

    @jax.jit
    def once(key):
        args = predict, objective, PARAMS, images
        return metrics.fisher_trace(*args, key=key, **options).value

    values = jax.lax.map(once, jax.random.split(key, 300))
    pixels = images[:, :4].reshape(-1, 3)
    if segmentation:
        expected = traced(
            many, SOFTMAX, PARAMS, pixels, key=key, estimator="exact"
        ).value
    else:  # a score of +-1
        rows = jax.vmap(jax.grad(lambda p, x: single(p, x[None])[0]), (None, 0))
        grads = jax.jit(rows)(PARAMS, pixels)
        expected = sum((leaf**2).sum() for leaf in grads.values()) / len(pixels)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) < 4 * error + 1e-5 * expected
    assert error < 0.1 * expected


def single_pixel(params, x):
    return many(params, x)[..., 0]


@pytest.mark.parametrize("estimator", ["minibatch", "per_example", "exact"])
def test_groups_of_parameters_add_up(estimator, key):
    def groups(a, b):
        return jnp.stack([jnp.vdot(a[name], b[name]) for name in ("w", "v")])

    options = {"key": key, "estimator": estimator}
    both = traced(many, SOFTMAX, PARAMS, X, inner=groups, **options)
    whole = traced(many, SOFTMAX, PARAMS, X, **options)
    np.testing.assert_allclose(both.value.sum(), whole.value, rtol=1e-5)
    each = traced(many, SOFTMAX, PARAMS, X, inner=groups, per_parameter=True, **options)
    np.testing.assert_allclose(each.value * 12, both.value, rtol=1e-5)
    np.testing.assert_allclose(each.standard_error * 12, both.standard_error, rtol=1e-4)


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (SOFTMAX, {"estimator": "true"}, "'true' is not one of: minibatch"),
        (SOFTMAX, {"estimator": "empirical"}, "pass targets"),
        (
            SOFTMAX,
            {"estimator": "empirical", "targets": -jnp.ones(len(X))},
            "targets holds -1.0 .50 of 50",
        ),
        (GAUSSIAN, {"estimator": "exact"}, "cannot be enumerated; use 'per_example'"),
    ],
)
def test_bad_options(objective, options, message, key):
    with pytest.raises(InputError, match=message):
        metrics.fisher_trace(many, objective, PARAMS, X, key=key, **options)


@pytest.mark.parametrize("estimator", ["minibatch", "per_example", "exact"])
def test_the_diagonal_adds_up_to_the_trace(estimator, key):
    args = many, SOFTMAX, PARAMS, X
    options = {"key": key, "estimator": estimator, "batch_size": 16}
    diagonal = metrics.fisher_diagonal(*args, **options)
    total = sum(leaf.sum() for leaf in diagonal.values())
    trace = metrics.fisher_trace(*args, **options).value
    np.testing.assert_allclose(total, trace, rtol=1e-5)
    shapes = jax.tree.map(jnp.shape, diagonal)
    assert shapes == jax.tree.map(jnp.shape, PARAMS)


def test_the_exact_diagonal_is_that_of_gauss_newton(key):
    flat, unravel = ravel_pytree(PARAMS)
    jacobian = jax.jacobian(lambda f: many(unravel(f), X))(flat)  # [N, C, P]
    chances = jax.nn.softmax(many(PARAMS, X))
    curvature = jax.vmap(lambda p: jnp.diag(p) - jnp.outer(p, p))(chances)
    expected = jnp.einsum("nap,nab,nbp->p", jacobian, curvature, jacobian) / len(X)
    diagonal = metrics.fisher_diagonal(
        many, SOFTMAX, PARAMS, X, key=key, estimator="exact"
    )
    np.testing.assert_allclose(ravel_pytree(diagonal)[0], expected, rtol=1e-4)
