"""Sharpness: the closed form on quadratics, and its edge cases."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import metrics
from mtl_jax.metrics.sharpness import Ball, sharpness_in
from mtl_jax.types import InputError

H = jnp.array([[3.0, 1.0], [1.0, 2.0]])
THETA = jnp.array([0.5, -2.0])
RHO = 0.05


def quadratic(params, batch):
    """Compute ``b' t + t' H t / 2`` with the mean of the batch as ``b``."""
    return batch.mean(axis=0) @ params + params @ H @ params / 2


@pytest.fixture
def batch():
    return jnp.asarray(np.random.default_rng(0).normal(size=(10, 2)), jnp.float32)


STEPS: dict[tuple[str, bool], Any] = {
    ("l2", False): lambda g, _: g / jnp.linalg.norm(g),
    ("l2", True): lambda g, c: c**2 * g / jnp.linalg.norm(c * g),
    ("linf", False): lambda g, _: jnp.sign(g),
    ("linf", True): lambda g, c: c * jnp.sign(g),
}


@pytest.mark.parametrize(("norm", "adaptive"), STEPS)
def test_one_step_is_the_closed_form(batch, norm, adaptive):
    rises, duals = [], []
    for part in (batch[:4], batch[4:8], batch[8:]):  # the last one is smaller
        g = part.mean(axis=0) + H @ THETA
        d = RHO * STEPS[norm, adaptive](g, jnp.abs(THETA))
        rises.append(g @ d + d @ H @ d / 2)
        duals.append(g @ d / RHO)  # the dual norm: what the step attains
    rise = metrics.sharpness(
        quadratic, THETA, batch, rho=RHO, norm=norm, adaptive=adaptive, batch_size=4
    )
    weights = jnp.array([4, 4, 2])
    np.testing.assert_allclose(
        rise.value, np.average(rises, weights=weights), rtol=1e-4
    )
    np.testing.assert_allclose(
        rise.gradient, np.average(duals, weights=weights), rtol=1e-4
    )


def ascended(norm, adaptive, g, steps):
    """Return the highest rise of projected ascent, written out in float64."""
    h, theta = np.asarray(TWISTED, np.float64), np.asarray(POINT, np.float64)
    c = np.abs(theta) if adaptive else np.ones(2)

    def project(d):
        if norm == "linf":
            return np.clip(d, -WIDE * c, WIDE * c)
        return d * min(1, WIDE / np.linalg.norm(d / c))

    def rise(d):
        return g @ d + d @ h @ d / 2

    unit = STEPS[norm, adaptive]
    d = before = np.zeros(2)
    best = [rise(WIDE * np.asarray(unit(g, c)))]
    for i in range(steps):
        length = 2 * WIDE
        for reached in (1 / 2, 3 / 4):
            length *= 0.5 if i >= reached * steps else 1
        z = project(d + length * np.asarray(unit(g + h @ d, c)))
        share = 0.75 if i else 1
        d, before = project(d + share * (z - d) + (1 - share) * (d - before)), d
        best.append(rise(d))
    return best[0], max(best)


WIDE, POINT = 2.0, jnp.array([1.2, -0.9])
TWISTED = jnp.array([[1.0, 3.0], [3.0, 2.0]])
"""With these the gradient turns on the way, in every norm."""


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize(("norm", "adaptive"), STEPS)
def test_steps_are_those_of_the_ascent_written_out(batch, norm, adaptive, steps):
    rises = []
    for part in np.asarray(batch, np.float64).reshape(2, 5, 2):
        g = part.mean(axis=0) + np.asarray(TWISTED @ POINT)
        rises.append(ascended(norm, adaptive, g, steps))
    first, many = np.mean(rises, axis=0)
    loss_fn = lambda p, b: b.mean(axis=0) @ p + p @ TWISTED @ p / 2  # noqa: E731
    options: Any = {"rho": WIDE, "norm": norm, "adaptive": adaptive, "batch_size": 5}
    rise = metrics.sharpness(loss_fn, POINT, batch, steps=steps, **options)
    np.testing.assert_allclose(rise.value, many, rtol=1e-5)
    assert many > 1.5 * first  # or the first step is all that is compared


@pytest.mark.parametrize(("norm", "adaptive"), STEPS)
def test_more_steps_find_no_less(batch, norm, adaptive):
    single, many = (
        metrics.sharpness(
            quadratic, THETA, batch, rho=0.5, norm=norm, adaptive=adaptive, steps=steps
        )
        for steps in (1, 20)
    )
    assert many.value >= single.value - 1e-6


def test_many_steps_find_the_maximum_on_the_sphere(batch):
    # Against a dense search of the circle, where one step falls short.
    angles = np.linspace(0, 2 * np.pi, 20_001)
    d = 3.0 * np.stack([np.cos(angles), np.sin(angles)])
    g = np.asarray(batch.mean(axis=0) + H @ jnp.array([0.4, 0.3]))
    best = (g @ d + (d * (np.asarray(H) @ d)).sum(axis=0) / 2).max()
    args = (quadratic, jnp.array([0.4, 0.3]), batch)
    rise = metrics.sharpness(*args, rho=3.0, steps=50)
    np.testing.assert_allclose(rise.value, best, rtol=1e-3)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_zero_gradient_gives_zero_and_negative_curvature_may_be_negative(norm):
    flat = metrics.sharpness(
        lambda p, b: 0 * p.sum() + 0 * b.mean(), THETA, jnp.ones((4, 1)), norm=norm
    )
    assert flat.value == 0 and flat.gradient == 0
    theta = jnp.array([1e-3, 0.0])
    concave = metrics.sharpness(
        lambda p, b: -10 * p @ p + 0 * b.mean(),
        theta,
        jnp.ones((4, 1)),
        rho=1.0,
        norm=norm,
    )
    assert concave.value < 0  # kept raw


def test_adaptive_leaves_zero_parameters_where_they_are(batch):
    theta = jnp.array([0.0, -2.0])
    rise = metrics.sharpness(
        quadratic, theta, batch, rho=RHO, norm="linf", adaptive=True
    )
    g = batch.mean(axis=0) + H @ theta
    d = RHO * jnp.array([0.0, 2.0]) * jnp.sign(g)
    np.testing.assert_allclose(rise.value, g @ d + d @ H @ d / 2, rtol=1e-4)


def test_vmapped_over_tasks_is_a_loop_and_one_batch_has_no_error(batch):
    tasks = jnp.stack([batch, 2 * batch])
    together = jax.vmap(lambda b: metrics.sharpness(quadratic, THETA, b, rho=RHO))(
        tasks
    )
    for t in range(2):
        alone = metrics.sharpness(quadratic, THETA, tasks[t], rho=RHO)
        np.testing.assert_allclose(together.value[t], alone.value, rtol=1e-5)
        assert jnp.isnan(alone.standard_error)


@pytest.mark.parametrize("adaptive", [False, True])
def test_average_case_is_half_the_trace(batch, key, adaptive):
    # ``E[g' d + d' H d / 2] = rho^2 tr(C H C) / 2`` for normal noise.
    rise = metrics.average_sharpness(
        quadratic, THETA, batch, key=key, rho=3.0, draws=512, adaptive=adaptive
    )
    c = jnp.abs(THETA) if adaptive else jnp.ones(2)
    expected = 3.0**2 * (c**2 * jnp.diagonal(H)).sum() / 2
    assert abs(rise.value - expected) < 4 * rise.standard_error
    assert rise.standard_error < 0.2 * expected  # or the line above says nothing
    g = batch.mean(axis=0) + H @ THETA
    np.testing.assert_allclose(rise.gradient, jnp.linalg.norm(c * g), rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{"norm": "l1"}, {"rho": 0.0}, {"steps": 0}], ids=str
)
def test_bad_options(batch, options):
    with pytest.raises(InputError):
        metrics.sharpness(quadratic, THETA, batch, **options)


@pytest.mark.parametrize("steps", [1, 4])
def test_several_balls_are_each_alone(batch, steps):
    ones = jnp.ones(2)
    balls = [
        Ball("l2", ones),
        Ball("linf", jnp.abs(THETA)),
        Ball("l2", ones.at[0].set(0)),
    ]
    options = {"rho": RHO, "steps": steps, "batch_size": 4}
    together = sharpness_in(balls, quadratic, THETA, batch, **options)
    first = metrics.sharpness(quadratic, THETA, batch, norm="l2", **options)
    second = metrics.sharpness(
        quadratic, THETA, batch, norm="linf", adaptive=True, **options
    )
    third = metrics.sharpness(  # of the second coordinate, the first one fixed
        lambda p, b: quadratic(THETA.at[1].set(p[0]), b),
        THETA[1:],
        batch,
        norm="l2",
        **options,
    )
    for name in together._fields:
        alone = [getattr(ball, name) for ball in (first, second, third)]
        np.testing.assert_allclose(getattr(together, name), alone, rtol=1e-4)


def test_no_ball_is_told(batch):
    with pytest.raises(InputError, match="there is no ball"):
        sharpness_in([], quadratic, THETA, batch)
