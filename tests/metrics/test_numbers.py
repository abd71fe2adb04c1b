"""Metrics on parameters of all types, with x64 and without, and of any scale."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.metrics.connectivity import losses_at
from mtl_jax.metrics.fisher import fisher_trace
from mtl_jax.objectives.losses import GAUSSIAN
from tests.metrics.metric_table import KEYS, table, task_of_run

METRICS = table(lambda p: p)
NAMES = pytest.mark.parametrize("name", METRICS)
ROUNDED = (
    "conflict",
    "split_half_cosines",
    "direction_cosines",
    "multi_task_curvature",
    "affinity",
    "linear_cka",
    "pairwise_cka",
)
"""Metrics of gradients or features, which whoever calls them has rounded."""
RESIDUAL = ("top_eigenvalue",)
"""Metrics whose second number is a difference of numbers of the first's size, so rounds
as these do."""


def snapped(leaf):
    """Round to numbers that bfloat16 and float16 hold."""
    leaf = np.asarray(leaf)
    return np.round(leaf * 8) / 8 if leaf.dtype == np.float32 else leaf


PARAMS, BATCH = jax.tree.map(snapped, task_of_run(0, 0)[:2])


def arguments(dtype):
    def cast(leaf):
        return jnp.asarray(leaf, dtype if leaf.dtype == np.float32 else leaf.dtype)

    return jax.tree.map(cast, (PARAMS, BATCH))


def scanned(metric):
    """Scan the metric over two keys, carrying what it returns."""

    def over_keys(params, batch):
        def step(carry, key):
            value = metric(params, batch, key)
            return jax.tree.map(jnp.add, carry, value), value

        like = jax.eval_shape(metric, params, batch, KEYS[0])
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        return jax.lax.scan(step, zeros, KEYS[:2])[1]

    return over_keys


TYPES = [(x64, kind) for x64 in (False, True) for kind in ("f2", "bf2", "f4", "f8")]
TYPES.remove((False, "f8"))
COMPILED = {(False, "bf2"), (True, "f2"), (True, "f8")}
"""Types that are compiled, of the narrow ones one with x64 and one without: they are
cast up, and have the same values. The rest is traced, which finds types that change in
a scan."""


@NAMES
def test_parameters_of_every_type_have_the_values_of_float32_in_float32(name):
    metric = scanned(jax.jit(METRICS[name]))  # traced once for the shapes and the scan
    expected = jax.jit(metric)(*arguments(jnp.float32))
    for x64, kind in TYPES:
        dtype = jnp.bfloat16 if kind == "bf2" else jnp.dtype(kind)
        with jax.enable_x64(x64):
            evaluate = jax.jit(metric) if (x64, kind) in COMPILED else None
            evaluate = evaluate or partial(jax.eval_shape, metric)
            actual = jax.tree.leaves(evaluate(*arguments(dtype)))
        wide = jnp.float64 if kind == "f8" else jnp.float32
        assert {leaf.dtype for leaf in actual} == {jnp.dtype(wide)}, (x64, kind)
        if (x64, kind) in COMPILED:
            share = 0.03 if name in ROUNDED and kind != "f8" else 5e-5
            leaves = jax.tree.leaves(expected)
            for f, e in zip(actual, leaves, strict=True):
                limit = share * np.abs(leaves[0] if name in RESIDUAL else e).max()
                np.testing.assert_allclose(f, e, rtol=0, atol=limit, err_msg=kind)


DEGREES = {
    "sharpness": 1,
    "sharpness_in": 1,
    "average_sharpness": 1,
    "hessian_operator": 1,
    "gauss_newton_operator": 1,
    "top_eigenvalue": 1,
    "power_iteration": 1,
    "trace": 1,
    "spectrum": [0, 1, 1],
    "m_coherence": 0,
    "noise_scale": [0, 0, 0, 2, 2],
    "gradient_covariance": 2,
    "batch_cosines": 0,
    "stiffness": 0,
    "gsnr": 0,
    "split_half_cosines": 0,
    "direction_cosines": 0,
    "multi_task_curvature": 1,
    "barrier": [1, 0, 1],
    "losses_at": 1,
}
"""By what power of the loss's scale the leaves of a metric grow."""


@pytest.mark.parametrize("name", DEGREES)
def test_scale_of_the_loss_is_that_of_the_metric(name):
    # Over the range of float32: the same numbers times a power of 2.

    @jax.jit
    def at_scale(scale):
        params, batch = arguments(jnp.float32)
        return jax.tree.leaves(table(lambda p: p, scale)[name](params, batch, KEYS[0]))

    expected = jax.device_get(at_scale(1.0))
    degrees = np.broadcast_to(DEGREES[name], len(expected))
    for power in (-90, -66, -45, 45, 66, 90):  # 8e-28 to 1e27
        for f, e, degree in zip(at_scale(2.0**power), expected, degrees, strict=True):
            if abs(power * degree) < 100:
                actual = np.asarray(f, np.float64) * 2.0 ** (-power * degree)
                limit = 1e-5 * np.abs(e).max()
                np.testing.assert_allclose(actual, e, rtol=0, atol=limit)


@pytest.mark.parametrize("estimator", ["minibatch", "per_example"])
def test_fisher_trace_and_its_error_grow_with_the_square_of_gradients(estimator):
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)

    @jax.jit
    def at_scale(scale):
        predict = lambda params, x: scale * (x @ params)  # noqa: E731
        args = predict, GAUSSIAN, jnp.zeros(3), x
        options: Any = {"key": KEYS[0], "estimator": estimator, "batch_size": 8}
        return fisher_trace(*args, **options)

    expected = np.array(at_scale(1.0))
    for power in (-50, -40, 40, 60):
        actual = np.array(at_scale(2.0**power), np.float64) * 4.0**-power
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_loss_in_a_narrow_type_is_averaged_in_float32():
    # Of 300 mini-batches of loss 1 + 1/128, bfloat16 would make another mean.
    batch = jnp.full((300, 1), 1 + 1 / 128, jnp.bfloat16)
    loss_fn = lambda params, batch: batch.mean().astype(jnp.bfloat16) * params  # noqa: E731
    losses = losses_at(
        loss_fn, [jnp.ones(()), jnp.ones(())], jnp.ones((1, 2)) / 2, batch, batch_size=1
    )
    np.testing.assert_allclose(losses, 1 + 1 / 128, rtol=1e-6)
