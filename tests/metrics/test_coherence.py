"""Coherence: closed forms, the definition written out, and estimators that agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import metrics
from mtl_jax.types import InputError


def linear(params, batch):
    """A loss whose per-example gradients are the examples."""
    return jnp.mean(batch @ params)


ZERO = jnp.zeros(6)


@pytest.fixture
def gradients():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(40, 6)) + 0.5, jnp.float32)


def test_definition(gradients):
    mean = gradients.mean(axis=0)
    expected = (mean @ mean) / (gradients**2).sum(axis=1).mean()
    found = metrics.m_coherence(linear, ZERO, gradients, batch_size=16)
    np.testing.assert_allclose(found.alpha, expected, rtol=1e-5)
    np.testing.assert_allclose(found.alpha_m, 40 * expected, rtol=1e-5)
    assert found.near_zero == 0


def test_copies_of_one_example_and_orthogonal_ones():
    copies = metrics.m_coherence(linear, ZERO, jnp.ones((12, 6)))
    np.testing.assert_allclose(copies[:2], (1, 12), rtol=1e-6)
    orthogonal = metrics.m_coherence(linear, ZERO, 3 * jnp.eye(6))
    np.testing.assert_allclose(orthogonal[:2], (1 / 6, 1), rtol=1e-6)


def test_zero_gradients_are_told():
    found = metrics.m_coherence(linear, ZERO, jnp.zeros((4, 6)))
    assert jnp.isnan(found.alpha) and found.near_zero == 1
    half = metrics.m_coherence(linear, ZERO, jnp.eye(6).at[3:].set(0))
    assert half.near_zero == 0.5


def test_two_batch_sizes_estimate_the_population(key):
    """Over many probes: ``|G|^2``, the trace of the covariance, and so alpha."""
    center = jnp.full(6, 0.3)

    @jax.jit
    def once(key):
        probe = center[None] + jax.random.normal(key, (64, 6))
        return metrics.noise_scale(linear, ZERO, probe, batch_size=8)[2:]

    squared, noise = jax.lax.map(once, jax.random.split(key, 400))
    for values, expected in ((squared, center @ center), (noise, 6.0)):
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(400)


def test_both_estimators_of_alpha_agree_within_their_error(key):
    probe = 0.5 + jax.random.normal(key, (4096, 6))
    exact = metrics.m_coherence(linear, ZERO, probe).alpha
    estimate = metrics.noise_scale(linear, ZERO, probe, batch_size=64).alpha
    np.testing.assert_allclose(estimate, exact, rtol=0.1)


def test_batch_cosines(gradients):
    rows = np.asarray(gradients[:30].reshape(3, 10, 6).mean(axis=1))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = (unit @ unit.T)[np.triu_indices(3, 1)]
    found = metrics.batch_cosines(linear, ZERO, gradients[:38], batch_size=10)
    np.testing.assert_allclose(found, (pairs.mean(), pairs.min()), rtol=1e-5)


def test_stiffness_is_the_cosine_of_pairs(gradients):
    a, b = np.asarray(gradients[:5]), -np.asarray(gradients[5:12])
    found = metrics.stiffness(linear, ZERO, jnp.asarray(a), jnp.asarray(b))
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(found.cosines, a @ b.T / norms, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.signs, np.sign(a @ b.T))


def test_gsnr(gradients):
    constant = gradients.at[:, 0].set(2.0)  # left out: it never varies
    own = np.asarray(constant)[:, 1:]
    expected = (own.mean(axis=0) ** 2 / own.var(axis=0)).mean()
    found = metrics.gsnr(linear, ZERO, constant, batch_size=16)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_bad_batch_sizes(gradients):
    for size in (7, 40):
        with pytest.raises(InputError, match=f"batch_size {size} must divide the 40"):
            metrics.noise_scale(linear, ZERO, gradients, batch_size=size)
    with pytest.raises(InputError, match="leaves 1 whole"):
        metrics.batch_cosines(linear, ZERO, gradients, batch_size=30)
