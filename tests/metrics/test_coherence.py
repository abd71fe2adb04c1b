"""Coherence: closed forms, the definition written out, and estimators that agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import metrics
from mtl_jax.types import InputError


def linear(params, batch):
    """Return a loss whose per-example gradients are the examples."""
    return jnp.mean(batch @ params)


ZERO = jnp.zeros(6)


@pytest.fixture
def gradients():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(40, 6)) + 0.5, jnp.float32)


def test_definition(gradients):
    mean = gradients.mean(axis=0)
    expected = (mean @ mean) / (gradients**2).sum(axis=1).mean()
    coherence = metrics.m_coherence(linear, ZERO, gradients, batch_size=16)
    np.testing.assert_allclose(coherence.alpha, expected, rtol=1e-5)
    np.testing.assert_allclose(coherence.alpha_m, 40 * expected, rtol=1e-5)
    assert coherence.near_zero == 0


def test_copies_of_one_example_and_orthogonal_ones():
    copies = metrics.m_coherence(linear, ZERO, jnp.ones((12, 6)))
    np.testing.assert_allclose(copies[:2], (1, 12), rtol=1e-6)
    orthogonal = metrics.m_coherence(linear, ZERO, 3 * jnp.eye(6))
    np.testing.assert_allclose(orthogonal[:2], (1 / 6, 1), rtol=1e-6)


def test_zero_gradients_are_told():
    coherence = metrics.m_coherence(linear, ZERO, jnp.zeros((4, 6)))
    assert jnp.isnan(coherence.alpha) and coherence.near_zero == 1
    half = metrics.m_coherence(linear, ZERO, jnp.eye(6).at[3:].set(0))
    assert half.near_zero == 0.5


def test_near_zero_is_a_millionth_of_the_mean_length():
    gradients = jnp.array([[1e-7], [1e-5], [1]])
    coherence = metrics.m_coherence(linear, jnp.zeros(1), gradients)
    np.testing.assert_allclose(coherence.near_zero, 1 / 3, rtol=1e-6)


def test_batches_of_one_example_have_its_coherence_exactly(gradients):
    # Of six examples, as what few of them add to noise is no small part.
    few = gradients[:6]
    noise = metrics.noise_scale(linear, ZERO, few, batch_size=1)
    expected = metrics.m_coherence(linear, ZERO, few).alpha
    np.testing.assert_allclose(noise.alpha, expected, rtol=1e-4)


def test_two_batch_sizes_estimate_the_population(key):
    # Over many probes: ``|G|^2``, the trace of the covariance, and so alpha.
    center = jnp.full(6, 0.3)

    @jax.jit
    def once(key):
        probe = center[None] + jax.random.normal(key, (64, 6))
        actual = metrics.noise_scale(linear, ZERO, probe, batch_size=8)
        return actual.squared_norm, actual.noise

    squared, noise = jax.lax.map(once, jax.random.split(key, 400))
    for values, expected in ((squared, center @ center), (noise, 6.0)):
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(400)


@pytest.mark.parametrize("batch_size", [4, 7])  # with and without a remainder
def test_two_batch_sizes_estimate_the_coherence_of_the_probe(batch_size, key):
    # Over all orders of one probe, and with an honest standard error.
    center = jnp.full(6, 0.3)
    probe = center[None] + jax.random.normal(key, (64, 6))

    @jax.jit
    def once(key):
        shuffled = jax.random.permutation(key, probe)
        return metrics.noise_scale(linear, ZERO, shuffled, batch_size=batch_size)

    exact = metrics.m_coherence(linear, ZERO, probe).alpha
    noise = jax.lax.map(once, jax.random.split(key, 400))
    spread = noise.alpha.std()
    assert abs(noise.alpha.mean() - exact) < 4 * spread / np.sqrt(400) + 0.002
    covariance = ((probe - probe.mean(axis=0)[None]) ** 2).sum() / 63
    error = noise.noise.std() / np.sqrt(400)
    assert abs(noise.noise.mean() - covariance) < 4 * error
    assert spread < noise.standard_error.mean() < 2 * spread  # on the safe side


def test_groups_of_parameters_are_those_groups_alone(gradients):
    def groups(a, b):
        return jnp.stack([jnp.vdot(a, b), jnp.vdot(a[:2], b[:2])])

    def measured(metric, *args, **options):
        return jax.jit(lambda *args: metric(linear, *args, batch_size=16, **options))(
            *args
        )

    for metric in (metrics.m_coherence, metrics.noise_scale):
        both = measured(metric, ZERO, gradients, inner=groups)
        whole = measured(metric, ZERO, gradients)
        head = measured(metric, ZERO[:2], gradients[:, :2])
        for leaf, first, second in zip(both, whole, head, strict=True):
            np.testing.assert_allclose(leaf, (first, second), rtol=1e-4)


def test_batch_cosines(gradients):
    rows = np.asarray(gradients[:30].reshape(3, 10, 6).mean(axis=1))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = (unit @ unit.T)[np.triu_indices(3, 1)]
    cosines = metrics.batch_cosines(linear, ZERO, gradients[:38], batch_size=10)
    np.testing.assert_allclose(cosines, (pairs.mean(), pairs.min()), rtol=1e-5)


def test_stiffness_is_the_cosine_of_pairs(gradients):
    a, b = np.asarray(gradients[:5]), -np.asarray(gradients[5:12])
    pairs = metrics.stiffness(linear, ZERO, jnp.asarray(a), jnp.asarray(b))
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(pairs.cosines, a @ b.T / norms, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(pairs.signs, np.sign(a @ b.T))


def test_gsnr(gradients):
    constant = gradients.at[:, 0].set(2.0)  # left out: it never varies
    varying = np.asarray(constant)[:, 1:]
    expected = (varying.mean(axis=0) ** 2 / varying.var(axis=0)).mean()
    ratio = metrics.gsnr(linear, ZERO, constant, batch_size=16)
    np.testing.assert_allclose(ratio, expected, rtol=1e-4)


def test_gsnr_of_a_small_spread_around_a_large_mean(gradients):
    # A mean of squares less a squared mean would have no digit of it.
    near = 100 + 0.1 * gradients
    exact = np.asarray(near, np.float64)
    expected = (exact.mean(axis=0) ** 2 / exact.var(axis=0)).mean()
    ratio = metrics.gsnr(linear, ZERO, near, batch_size=16)
    np.testing.assert_allclose(ratio, expected, rtol=1e-3)


def test_bad_batch_sizes(gradients):
    with pytest.raises(InputError, match="batch_size 40 must be smaller than the 40"):
        metrics.noise_scale(linear, ZERO, gradients, batch_size=40)
    with pytest.raises(InputError, match="leaves 1 whole"):
        metrics.batch_cosines(linear, ZERO, gradients, batch_size=30)
