"""Barriers and slices: closed forms, networks that are one, batch statistics."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.metrics import connectivity
from mtl_jax.types import InputError


class Point(NamedTuple):
    w: dict
    b: tuple


def point(x, y):
    return Point({"x": jnp.float32(x)}, (jnp.full((2, 1), y),))


BATCH = jnp.asarray(np.random.default_rng(0).normal(size=(10, 1)) + 1, jnp.float32)


def loss_fn(params, batch):
    """Compute a loss linear in the batch, whose mean is known, and quartic in ``x``."""
    x, y = params.w["x"], params.b[0][0, 0]
    return jnp.mean(batch) * (x**2 - 1) ** 2 + y


def test_barrier_is_the_highest_rise_above_the_chord():
    path = connectivity.barrier(
        loss_fn, point(-1, 0.0), point(1, 2.0), BATCH, points=31, batch_size=4
    )
    alphas = np.linspace(0, 1, 31)
    bumps = float(BATCH.mean()) * ((2 * alphas - 1) ** 2 - 1) ** 2
    np.testing.assert_allclose(path.coordinates, alphas, rtol=1e-6)
    np.testing.assert_allclose(path.losses, bumps + 2 * alphas, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(path.value, bumps.max(), rtol=1e-4)


def test_no_barrier_in_a_bowl_and_ends_are_the_solutions():
    bowl = lambda p, b: jnp.mean(b) * p.w["x"] ** 2  # noqa: E731
    first, second = point(0.3, 0.0), point(-7.1, 0.0)
    path = connectivity.barrier(bowl, first, second, BATCH)
    assert path.losses.shape == (30,) and path.value == 0
    for end, params in ((0, first), (-1, second)):
        np.testing.assert_allclose(path.losses[end], bowl(params, BATCH), rtol=1e-6)


def test_a_loss_on_the_way_that_is_not_finite_is_not_hidden():
    def broken(params, batch):
        return jnp.where(jnp.abs(params.w["x"]) < 0.5, jnp.nan, jnp.mean(batch) * 0)

    path = connectivity.barrier(broken, point(-1, 0.0), point(1, 0.0), BATCH)
    assert jnp.isnan(path.value) and jnp.isfinite(path.losses[jnp.array([0, -1])]).all()


def test_plane_goes_through_its_corners():
    corners = [point(0.2, 0.1), point(-1, 3.0), point(1.5, -2.0)]
    xs, ys = jnp.array([0.0, 1.0, -0.5]), jnp.array([0.0, 1.0])
    losses = connectivity.losses_at(
        loss_fn, corners, connectivity.plane(xs, ys), BATCH, batch_size=4
    )
    assert losses.shape == (3, 2)
    for at, corner in (((0, 0), 0), ((1, 0), 1), ((0, 1), 2)):
        expected = loss_fn(corners[corner], BATCH)
        np.testing.assert_allclose(losses[at], expected, rtol=1e-5)
    beyond = point(0.2 - 0.5 * -1.2 + 1.3, 0.1 - 0.5 * 2.9 - 2.1)
    np.testing.assert_allclose(losses[2, 1], loss_fn(beyond, BATCH), rtol=1e-4)


def test_line_goes_on_beyond_its_corners():
    weights = connectivity.line(jnp.array([-1.0, 0.5, 2.0]))
    losses = connectivity.losses_at(
        lambda p, b: p + 0 * jnp.mean(b),
        [jnp.array(1.0), jnp.array(3.0)],
        weights,
        BATCH,
    )
    np.testing.assert_allclose(losses, [-1, 2, 5], rtol=1e-6)


def normalized(params, statistics, x):
    """Apply a layer of batch norm between two linear ones."""
    mean, variance = statistics
    hidden = (x @ params["w"] - mean[None]) / jnp.sqrt(variance[None] + 1e-5)
    return jax.nn.relu(hidden) @ params["v"]


def test_statistics_are_recomputed_at_every_point_and_once():
    # Interpolated statistics are those of no network on the way.
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(24, 3)), jnp.float32)
    first, second = (
        {
            "w": jnp.asarray(rng.normal(size=(3, 5)), jnp.float32),
            "v": jnp.asarray(rng.normal(size=(5, 1)), jnp.float32),
        }
        for _ in range(2)
    )

    def with_statistics(params):
        hidden = x @ params["w"]
        return params, (hidden.mean(axis=0), hidden.var(axis=0))

    def loss_fn(point, batch):
        return jnp.mean(jnp.square(normalized(point[0], point[1], batch)))

    path = connectivity.barrier(
        loss_fn,
        first,
        second,
        x,
        points=7,
        refresh=chex.assert_max_traces(with_statistics, n=1),  # not once a mini-batch
        batch_size=10,
    )
    for alpha, loss in zip(path.coordinates, path.losses, strict=True):
        between = jax.tree.map(
            lambda a, b, alpha=alpha: (1 - alpha) * a + alpha * b, first, second
        )
        np.testing.assert_allclose(
            loss, loss_fn(with_statistics(between), x), rtol=1e-4
        )
    interpolated = connectivity.barrier(
        loss_fn,
        with_statistics(first),
        with_statistics(second),
        x,
        points=7,
        batch_size=10,
    )
    np.testing.assert_allclose(interpolated.losses[0], path.losses[0], rtol=1e-4)
    assert not np.allclose(interpolated.losses[1:-1], path.losses[1:-1], rtol=1e-2)


def test_bad_counts():
    with pytest.raises(InputError, match="points is 1"):
        connectivity.barrier(loss_fn, point(0, 0.0), point(1, 0.0), BATCH, points=1)
    with pytest.raises(InputError, match="for 2 corners"):
        corners = [point(0, 0.0), point(1, 0.0)]
        connectivity.losses_at(loss_fn, corners, jnp.ones((4, 3)), BATCH)
