"""Gradient covariance: the expectation over all partitions, and closed forms."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import metrics
from mtl_jax.metrics.covariance import covariance_of
from mtl_jax.types import InputError


def linear(params, batch):
    """Return a loss whose per-example gradients are the examples."""
    return jnp.mean(batch @ params)


ZERO = jnp.zeros(3)


@pytest.fixture
def gradients():
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 3)) + 0.5


def dense(gradients):
    """Compute the trace of the population's covariance and its squared mean."""
    mean = gradients.mean(axis=0)
    return ((gradients - mean) ** 2).sum(axis=1).mean(), mean @ mean


@pytest.mark.parametrize("drawn", [6, 5, 4, 3])  # of 6; 5 and 3 leave a remainder
@pytest.mark.parametrize("batch_size", [1, 2])
def test_it_is_unbiased_over_all_ways_to_draw_batches(gradients, drawn, batch_size):
    # Exactly: the mean over all orders of all draws is the population's.
    orders = np.array(list(itertools.permutations(range(6), drawn)))
    with jax.enable_x64(True):
        samples = jnp.asarray(gradients)[orders]
        sizes = {"batch_size": batch_size, "population": 6}
        estimate = partial(metrics.gradient_covariance, linear, jnp.zeros(3), **sizes)
        measured = jax.device_get(jax.jit(jax.vmap(estimate))(samples))
    trace, squared = dense(gradients)
    np.testing.assert_allclose(measured.trace.mean(), trace, rtol=1e-12)
    np.testing.assert_allclose(measured.squared_norm.mean(), squared, rtol=1e-12)


def test_of_single_examples_it_is_the_covariance(gradients):
    examples = jnp.asarray(gradients, jnp.float32)
    measured = metrics.gradient_covariance(linear, ZERO, examples, batch_size=1)
    trace, squared = dense(gradients)
    np.testing.assert_allclose(measured.trace, trace, rtol=1e-5)
    np.testing.assert_allclose(measured.squared_norm, squared, rtol=1e-5)


def test_equations_of_the_paper():
    # Eq. 12 and 13 as they are written, of 5 batches of 4 drawn from 50.
    squares, large, size, count, population = np.arange(3.0, 8), 2.5, 4, 20, 50
    a_b, a_l = ((population - z) / (population - 1) for z in (size, count))
    small = squares.mean()
    trace = (small - large) / (a_b / size - a_l / count)
    squared = (count / a_l * large - size / a_b * small) / (count / a_l - size / a_b)
    measured = covariance_of(
        jnp.sqrt(jnp.asarray(squares, jnp.float32)),
        jnp.sqrt(large),
        jnp.full(5, size, jnp.float32),
        population,
    )
    np.testing.assert_allclose(measured.trace, trace, rtol=1e-5)
    np.testing.assert_allclose(measured.squared_norm, squared, rtol=1e-5)


def test_it_does_not_depend_on_the_size_of_batches(key):
    # Closed form: gradients of variance 1 in each of 3 directions. Over 400 draws, with
    # a remainder, of a population that is practically infinite.
    @partial(jax.jit, static_argnums=1)
    def once(key, size):
        probe = 0.5 + jax.random.normal(key, (60, 3))
        return metrics.gradient_covariance(
            linear, ZERO, probe, batch_size=size, population=10**7
        )

    for size in (4, 16):
        measured = jax.lax.map(lambda k, n=size: once(k, n), jax.random.split(key, 400))
        for values, expected in (
            (measured.trace, 3.0),
            (measured.squared_norm, 3 * 0.25),
        ):
            assert abs(values.mean() - expected) < 4 * values.std() / 20
        assert measured.trace.std() < measured.standard_error.mean()  # the safe side
        if size == 4:  # 15 squared norms, each of variance 4 |G|^2 / B + 2 * 3 / B^2
            error = np.sqrt((4 * 0.75 / 4 + 6 / 16) / 15) / (1 / 4 - 1 / 60)
            np.testing.assert_allclose(measured.standard_error.mean(), error, rtol=0.05)


def test_copies_and_zero_gradients_have_none():
    copies = metrics.gradient_covariance(linear, ZERO, jnp.ones((8, 3)), batch_size=2)
    assert copies == (0, 0, 3)
    zero = metrics.gradient_covariance(linear, ZERO, jnp.zeros((8, 3)), batch_size=2)
    assert zero == (0, 0, 0)


def test_groups_of_parameters_are_those_groups_alone(gradients):
    def groups(a, b):
        return jnp.stack([jnp.vdot(a, b), jnp.vdot(a[:2], b[:2])])

    examples = jnp.asarray(gradients, jnp.float32)
    size: Any = {"batch_size": 4}
    both = metrics.gradient_covariance(linear, ZERO, examples, inner=groups, **size)
    whole = metrics.gradient_covariance(linear, ZERO, examples, **size)
    head = metrics.gradient_covariance(linear, ZERO[:2], examples[:, :2], **size)
    for leaf, first, second in zip(both, whole, head, strict=True):
        np.testing.assert_allclose(leaf, (first, second), rtol=1e-4)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"batch_size": 6}, "batch_size 6 must be smaller than the 6 examples"),
        ({"population": 5, "batch_size": 2}, "population 5 must be at least the 6"),
    ],
)
def test_bad_sizes(gradients, sizes, message):
    with pytest.raises(InputError, match=message):
        metrics.gradient_covariance(linear, ZERO, gradients, **sizes)
