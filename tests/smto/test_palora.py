"""Preferences that a model is told while it trains: their law, and how they spread."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import smto

T = 3
KEY = jax.random.key(0)


def draws(steps=4000, **options):
    method: Any = smto.make("palora", **options)
    state = method.init(T)
    return np.asarray(
        jax.vmap(lambda key: method.update(T, state, key)[0])(
            jax.random.split(KEY, steps)
        ),
        np.float64,
    )


@pytest.mark.parametrize("concentration", [0.5, 1.0, 4.0])
def test_rays_are_drawn_from_a_dirichlet_distribution(concentration):
    rays = draws(rays=2, concentration=concentration)
    assert rays.shape == (4000, 2, T) and (rays >= 0).all()
    np.testing.assert_allclose(rays.sum(axis=-1), 1, atol=1e-6)
    flat = rays.reshape(-1, T)
    total = concentration * T
    covariance = (np.eye(T) / T - 1 / T**2) / (total + 1)
    np.testing.assert_allclose(flat.mean(axis=0), 1 / T, atol=0.02)
    np.testing.assert_allclose(np.cov(flat.T), covariance, atol=0.1 * covariance.max())
    # Rays of a step are not those of another, nor each other.
    assert len(np.unique(flat[:, 0])) > 0.9 * len(flat)


def test_evenly_spaced_rays_spread_from_the_centre():
    """As the authors' `AnnealingSampler`, mul 5 and epsilon 0.01."""
    method: Any = smto.make("palora", rays=6, annealing=4)
    state, rays = method.init(2), []
    for _ in range(7):
        drawn, state = method.update(2, state, None)
        rays.append(np.asarray(drawn, np.float64))
    np.testing.assert_allclose(rays[0], 0.5)
    points = np.linspace(0.01, 0.99, 6)
    for step, progress in ((1, 0.25), (2, 0.5), (4, 1.0), (6, 1.0)):
        powers = np.stack([points, points[::-1]], axis=1) ** (5 * progress)
        expected = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(rays[step], expected, rtol=1e-5)


@pytest.mark.parametrize(("rays", "tasks", "count"), [(4, 3, 6), (6, 3, 6), (5, 4, 10)])
def test_of_many_tasks_at_least_as_many_rays(rays, tasks, count):
    method: Any = smto.make("palora", rays=rays, annealing=1)
    spread = np.asarray(method.update(tasks, jnp.int32(1), None)[0])
    assert spread.shape == (count, tasks)
    corners = np.eye(tasks)
    distance = np.abs(spread[:, None] - corners).max(axis=-1).min(axis=0)
    assert (distance < 1e-6).all()
