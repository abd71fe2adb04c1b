"""Factors by name: their options, and their values on small tasks."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

from configs import default
from mtl_jax import gradients, metrics
from mtl_jax.metrics import factors
from mtl_jax.metrics.factors.contract import RunProbe, TaskProbe, in_each_scope
from mtl_jax.objectives.losses import SOFTMAX
from mtl_jax.types import Batch, InputError, Params

N, T, WIDTH = 21, 3, 4


@pytest.mark.parametrize("name", factors.FACTORS)
def test_fields_of_a_factor_are_the_options_of_its_factory(name):
    options = factors.options(name)
    assert inspect.Parameter.empty not in options.values()
    config: Any = default.get_config()
    assert config.factors[name].to_dict() == options


def test_a_factor_without_fields_is_made_with_the_defaults():
    task, run, path = factors.make(ConfigDict({"names": tuple(factors.FACTORS)}))
    assert [*task, *run, *path] == list(factors.FACTORS)


def test_an_unknown_factor_has_no_options():
    with pytest.raises(InputError, match="factor 'sharp' is not one of: sharpness_and"):
        factors.options("sharp")


def predict(params, x):
    return jnp.tanh(x @ params.shared["w"]) @ params.heads


def loss_fn(params, batch):
    return SOFTMAX.example_loss(predict(params, batch.x), batch.y).mean()


def a_task(examples=N, scale=1.0, **changes):
    """Make a task of three inputs, four features and three classes of four outputs."""
    rng = np.random.default_rng(0)
    w, heads, x = (
        jnp.asarray(rng.normal(size=size), jnp.float32)
        for size in ((3, 4), (4, WIDTH), (examples, 3))
    )
    probe = TaskProbe(
        loss_fn=lambda p, b: scale * loss_fn(p, b),
        predict=predict,
        objective=SOFTMAX,
        params=Params({"w": w}, heads),
        batch=Batch(x, jnp.asarray(rng.integers(0, 3, examples), jnp.int32)),
        key=jax.random.key(0),
    )
    return probe._replace(**changes)


def measured(name, probe, **options):
    """Measure a factor of a task, jitted."""
    factor = factors.TASK_FACTORS[name](**options)
    return jax.jit(lambda params: factor(probe._replace(params=params)))(probe.params)


def by_metric(probe, metric, **options):
    """Apply a metric of ``(loss_fn, params, batch)`` in both scopes, jitted."""
    return scoped(
        probe,
        lambda lift, params: metric(
            lambda p, b: probe.loss_fn(lift(p), b), params, probe.batch, **options
        ),
    )


def scoped(probe, f):
    """Apply a function of ``(lift, params)`` in both scopes, jitted."""
    both = jax.jit(lambda params: in_each_scope(probe._replace(params=params), f))
    return both(probe.params)


@functools.cache
def at_the_point():
    """Measure the task of `a_task` by metrics that make no steps from its point."""
    probe, expected = a_task(), {}
    for norm, dual in (("l2", "l2"), ("linf", "l1")):
        plain = by_metric(probe, metrics.sharpness, batch_size=8, norm=norm)
        expected[f"gradient_{dual}"] = (plain.gradient, None)
    # Batches of 8 are cut into small ones of 4, so they are those of the probe.
    covariance = by_metric(probe, metrics.gradient_covariance, batch_size=4)
    expected["gradient_covariance"] = covariance[:2]
    noise = by_metric(probe, metrics.noise_scale, batch_size=4)
    expected["coherence"] = noise[:2]
    expected["noise_scale"] = (noise.noise_scale, None)
    return expected


@pytest.mark.parametrize("steps", [1, 3])
def test_sharpness_and_covariance_are_the_metrics_of_both_scopes(steps):
    probe, options = a_task(), {"rho": 0.05, "steps": steps, "batch_size": 8}
    values = measured(
        "sharpness_and_covariance", probe, wide_rho=0.2, small_batch_size=4, **options
    )
    adaptive = {"norm": "linf", "adaptive": True}
    sharp = by_metric(probe, metrics.sharpness, **options, **adaptive)
    wide = by_metric(probe, metrics.sharpness, **{**options, "rho": 0.2}, **adaptive)
    expected = {
        "adaptive_sharpness_linf": sharp[:2],
        "adaptive_sharpness_linf_wide": wide[:2],
        "adaptive_gradient_l1": (sharp.gradient, None),
        **at_the_point(),
    }
    assert values.keys() == expected.keys()
    for name, (value, error) in expected.items():
        np.testing.assert_allclose(values[name].value, value, rtol=1e-4, err_msg=name)
        if error is not None:
            np.testing.assert_allclose(values[name].standard_error, error, rtol=1e-4)


def test_sharpness_and_coherence_are_both_of_them():
    probe = a_task()
    sizes = {"batch_size": 8, "small_batch_size": 4}
    values = measured("sharpness_and_coherence", probe, rho=0.05, **sizes)
    alone = measured("sharpness", probe, rho=0.05, batch_size=8)
    alone |= measured("coherence", probe, batch_size=4)
    assert values.keys() == alone.keys()
    for name, expected in alone.items():
        np.testing.assert_allclose(values[name].value, expected.value, rtol=2e-4)


def test_of_zero_gradients_there_is_no_sharpness_and_no_covariance():
    values = measured("sharpness_and_covariance", a_task(scale=0.0))
    undefined = {"coherence", "noise_scale"}
    for name in values.keys() - undefined:
        np.testing.assert_array_equal(values[name].value, (0, 0), err_msg=name)
    assert all(np.isnan(values[name].value).all() for name in undefined)


@pytest.mark.parametrize("examples", [2, 17, 20])
def test_a_probe_smaller_than_two_mini_batches_has_a_covariance(examples):
    probe = a_task(examples)
    values = measured("sharpness_and_covariance", probe)
    small = min(16, examples // 2)
    expected = by_metric(probe, metrics.gradient_covariance, batch_size=small)
    covariance = values["gradient_covariance"].value
    np.testing.assert_allclose(covariance, expected.trace, rtol=1e-4)
    assert np.isfinite(values["adaptive_sharpness_linf"].value).all()


def test_top_eigenvalue_is_that_of_the_dense_hessian_of_a_part():
    probe = a_task()
    values = measured("top_eigenvalue", probe, iterations=28, examples=9, batch_size=4)
    part = jax.tree.map(lambda leaf: leaf[:9], probe.batch)

    def top(lift, params):
        flat, unravel = ravel_pytree(params)
        dense = jax.hessian(lambda p: loss_fn(lift(unravel(p)), part))(flat)
        return jnp.linalg.eigvalsh(dense)[-1]

    expected = scoped(probe, top)
    np.testing.assert_allclose(
        values["hessian_top_eigenvalue"].value, expected, rtol=1e-4
    )
    assert (values["hessian_top_eigenvalue_bound"].value < 1e-3).all()


@pytest.mark.parametrize("width", [None, 3])
@pytest.mark.parametrize("pixels", [1, 2])
def test_logit_norm_is_that_of_the_outputs_of_the_task(width, pixels):
    def images(params, x):
        outputs = predict(params, x)
        return jnp.stack([(1 + pixel) * outputs for pixel in range(pixels)], axis=1)

    probe = a_task(predict=images, width=width and jnp.int32(width))
    values = measured("logit_norm", probe, batch_size=8)["logit_norm"]
    outputs = images(probe.params, probe.batch.x)[..., :width]
    norm = np.linalg.norm(outputs, axis=-1).mean()
    np.testing.assert_allclose(values.value, [norm] * 2, rtol=1e-5)
    assert (values.standard_error > 0).all()


def a_run(scales=(1.0, 1.0, 1.0), batch_size=5):
    """Make a run of tasks with their own inputs, whose losses are scaled."""
    rng = np.random.default_rng(1)
    normal = lambda *size: jnp.asarray(rng.normal(size=size), jnp.float32)  # noqa: E731
    params = Params({"w": normal(3, 4)}, normal(T, 4, WIDTH))
    labels = jnp.asarray(rng.integers(0, 3, (T, N)), jnp.int32)
    probe = Batch(
        (normal(T, N, 3), jnp.asarray(scales)[:, None] * jnp.ones((T, N))), labels
    )

    def of_task(params, batch):
        x, scale = batch.x
        return scale[0] * loss_fn(params, Batch(x, batch.y))

    def random_batch(key):
        rows = jax.random.permutation(key, N)[:batch_size]
        return jax.tree.map(lambda leaf: leaf[:, rows], probe)

    unused: Any = None
    return RunProbe(
        losses=unused,
        task_grads=lambda p, b: gradients.task_grads(of_task, p, b),
        update=unused,
        params=params,
        batches=unused,
        random_batch=random_batch,
        key=jax.random.key(3),
        learning_rate=unused,
    )


def test_gradient_similarity_is_the_mean_cosine_with_the_sum():
    run = a_run()
    factor = factors.RUN_FACTORS["gradient_similarity"](batches=4)
    values = jax.jit(lambda p: factor(run._replace(params=p)))(run.params).task
    cosines = []
    for key in jax.random.split(run.key, 4):
        grads = np.asarray(
            run.task_grads(run.params, run.random_batch(key))[1].shared["w"]
        )
        rows = grads.reshape(T, -1)
        total = rows.sum(axis=0)
        lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(total)
        cosines.append(rows @ total / lengths)
    similarity = values["gradient_similarity"]
    np.testing.assert_allclose(similarity.value, np.mean(cosines, axis=0), rtol=1e-4)
    error = np.std(cosines, axis=0, ddof=1) / 2
    measured_error: Any = similarity.standard_error
    np.testing.assert_allclose(measured_error, error, rtol=1e-3)


def test_gradient_similarity_without_noise_has_no_error():
    factor = factors.RUN_FACTORS["gradient_similarity"](batches=3)
    similarity = factor(a_run(batch_size=N)).task["gradient_similarity"]
    error: Any = similarity.standard_error
    np.testing.assert_allclose(error, 0, atol=1e-6)


def test_a_task_without_gradient_is_similar_to_nothing():
    factor = factors.RUN_FACTORS["gradient_similarity"](batches=3)
    values = factor(a_run(scales=(0.0, 1.0, 0.0))).task["gradient_similarity"].value
    np.testing.assert_allclose(values, (np.nan, 1, np.nan), rtol=1e-6)


def test_distance_from_start_is_the_norm_of_what_moved():
    rng = np.random.default_rng(0)
    start, now = (
        Params(
            {"w": rng.normal(size=(2, 5)), "b": rng.normal(size=(2,))},
            rng.normal(size=(2, T, 4)),
        )
        for _ in range(2)
    )
    distance = factors.PATH_FACTORS["distance_from_start"]()(start, now)
    values = distance["distance_from_start"].value
    for run in range(2):
        trunk = np.append(
            now.shared["w"][run] - start.shared["w"][run],
            now.shared["b"][run] - start.shared["b"][run],
        )
        for task in range(T):
            head = now.heads[run, task] - start.heads[run, task]
            expected = np.linalg.norm(np.append(trunk, head)), np.linalg.norm(trunk)
            np.testing.assert_allclose(values[run, task], expected)


def test_distance_of_tasks_without_heads_is_that_of_the_trunk():
    start = Params({"w": np.zeros((2, 3))}, {})
    now = Params({"w": np.full((2, 3), 2.0)}, {})
    distance = factors.PATH_FACTORS["distance_from_start"]()(start, now)
    values = np.asarray(distance["distance_from_start"].value)
    np.testing.assert_allclose(np.broadcast_to(values, (2, T, 2)), 2 * np.sqrt(3))
