"""Conflict: closed forms, identities, scale, and noise that cancels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import metrics
from mtl_jax.gradients.gramian import gramian


@pytest.fixture
def grads():
    rng = np.random.default_rng(0)
    return {
        "w": jnp.asarray(rng.normal(size=(4, 3, 2)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=(4, 5)), jnp.float32),
    }


def rows(grads):
    return np.concatenate([np.asarray(g).reshape(4, -1) for g in grads.values()], 1)


def test_definitions(grads):
    actual = metrics.conflict(gramian(grads).entries)
    matrix = rows(grads)
    norms = np.linalg.norm(matrix, axis=1)
    cosines = matrix @ matrix.T / np.outer(norms, norms)
    pairs = cosines[np.triu_indices(4, 1)]
    alike = 2 * np.outer(norms, norms) / np.add.outer(norms**2, norms**2)
    expected = {
        "cosines": cosines,
        "norms": norms,
        "mean_cosine": pairs.mean(),
        "min_cosine": pairs.min(),
        "negative_fraction": (pairs < 0).mean(),
        "magnitude_similarity": alike[np.triu_indices(4, 1)].mean(),
        "unit_mean": np.linalg.norm((matrix / norms[:, None]).mean(axis=0)),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(actual, name), value, rtol=1e-4, atol=1e-6)
    # Its identity with the mean cosine.
    np.testing.assert_allclose(
        actual.unit_mean**2, 1 / 4 + 3 / 4 * actual.mean_cosine, rtol=1e-4
    )


def test_scale_of_a_task_moves_norms_only(grads):
    gram = gramian(grads).entries
    scale = jnp.diag(jnp.array([1e-3, 1.0, 10.0, 1e3]))
    plain, other = metrics.conflict(gram), metrics.conflict(scale @ gram @ scale)
    np.testing.assert_allclose(plain.cosines, other.cosines, rtol=1e-4)
    np.testing.assert_allclose(plain.unit_mean, other.unit_mean, rtol=1e-4)
    assert other.magnitude_similarity < plain.magnitude_similarity


def test_one_task_and_a_zero_gradient_give_nan_not_a_number():
    alone = metrics.conflict(jnp.ones((1, 1)))
    assert jnp.isnan(alone.mean_cosine) and jnp.isnan(alone.negative_fraction)
    zero = metrics.conflict(jnp.diag(jnp.array([1.0, 0.0])))
    assert jnp.isnan(zero.mean_cosine) and jnp.isnan(zero.negative_fraction)


def test_orthogonal_gradients_do_not_conflict():
    assert metrics.conflict(jnp.eye(2)).negative_fraction == 0


def test_split_half_cosines_are_the_formula_symmetrised():
    first, second = jnp.array([[1.0, 0], [0.6, 0.8]]), jnp.array([[1.0, 1], [0, 1]])
    cosines = metrics.split_half_cosines(first, second)
    cross = first @ second.T  # 1 0; 1.4 .8
    expected = (cross[0, 1] + cross[1, 0]) / 2 / jnp.sqrt(cross[0, 0] * cross[1, 1])
    np.testing.assert_allclose(cosines, [[1, expected], [expected, 1]], rtol=1e-5)


def test_split_halves_are_free_of_the_noise_that_shrinks_cosines(key):
    # Two tasks at cosine .8, drowned in noise; whole gradients say far less.
    signal = jnp.zeros((2, 400)).at[0, 0].set(5.0).at[1, :2].set(jnp.array([4.0, 3.0]))

    def once(key):
        noise = 0.3 * jax.random.normal(key, (2, 2, 400))
        first, second = signal + noise[0], signal + noise[1]
        debiased = metrics.split_half_cosines({"g": first}, {"g": second})[0, 1]
        return debiased, gramian((first + second) / 2).cosines[0, 1]

    debiased, plain = jax.lax.map(once, jax.random.split(key, 400))
    assert abs(debiased.mean() - 0.8) < 0.02
    assert plain.mean() < 0.72


def test_halves_that_disagree_give_nan():
    first, second = jnp.array([[1.0], [1.0]]), jnp.array([[-1.0], [1.0]])
    cosines = metrics.split_half_cosines(first, second)
    assert jnp.isnan(cosines[0, 1]) and cosines[1, 1] == 1


def test_direction_cosines(grads):
    update = jax.tree.map(lambda g: g[2], grads)
    cosines = metrics.direction_cosines(grads, update)
    np.testing.assert_allclose(cosines[2], 1, rtol=1e-5)
    np.testing.assert_allclose(cosines, gramian(grads).cosines[2], rtol=1e-4)


def test_curvature_of_a_quadratic_is_its_second_order_term():
    curvatures = jnp.array([[1.0, 3.0], [2.0, 0.0]])  # [T, P]
    losses = lambda p: curvatures @ p**2 / 2  # noqa: E731
    params, step = jnp.array([1.0, -1.0]), jnp.array([0.1, 0.2])
    curvature = metrics.multi_task_curvature(
        losses(params), losses(params + step), curvatures * params[None], step
    )
    np.testing.assert_allclose(curvature, curvatures @ step**2, rtol=1e-4)


def test_affinity_is_what_a_step_on_one_task_does_to_another():
    targets = jnp.array([[1.0, 0.0], [-1.0, 2.0], [3.0, 3.0]])
    losses = lambda p: ((p[None] - targets) ** 2).sum(axis=1)  # noqa: E731
    params = jnp.array([0.2, 0.1])
    grads = jax.jacobian(losses)(params)
    gains = metrics.affinity(losses, params, grads, 0.1)
    for i in range(3):
        after = losses(params - 0.1 * grads[i])
        np.testing.assert_allclose(gains[i], 1 - after / losses(params), rtol=1e-5)
    assert not np.allclose(gains, gains.T)
