"""Methods in all precisions: x64 on and off, and gradients of any scale.

What an update returns is finite or skipped and counted, and in the dtypes that it was
given; the state keeps those of its start, so that `lax.scan` takes it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import smto
from tests.smto.cases import LIFTED, jit, make, run

LIFT: Any = smto.lift  # of methods that a type checker does not know
T, SIZE, UPDATES = 3, 5, 3
METHODS = pytest.mark.parametrize("name", LIFTED)
RNG = np.random.default_rng(3)
GRADS = RNG.normal(size=(UPDATES, T, SIZE)) * np.array([0.5, 1, 2])[:, None]
LOSSES = np.exp(RNG.normal(size=(UPDATES, T)))
# Exactly representable in every dtype, so that all compute on the same numbers.
GRADS = np.asarray(jnp.asarray(GRADS, jnp.float8_e4m3fn).astype(jnp.float32))
TOLERANCES: dict[Any, float] = {jnp.bfloat16: 0.01, jnp.float16: 2e-3}


def scanned(name, dtype):
    """Return directions ``[S, P]`` and the last state, of updates in one scan."""
    optimizer: Any = LIFT(make(name), T)

    def step(state, given):
        grads, losses, key = given
        rows = {"w": grads[:, :2], "b": grads[:, 2:]}
        direction, state = optimizer.update(rows, state, losses=losses, key=key)
        return state, direction

    @jit
    def steps(grads, losses, keys):
        params = {"w": jnp.zeros(2, dtype), "b": jnp.zeros(SIZE - 2, dtype)}
        return jax.lax.scan(step, optimizer.init(params), (grads, losses, keys))

    keys = jax.random.split(jax.random.key(0), UPDATES)
    state, direction = steps(jnp.asarray(GRADS, dtype), jnp.asarray(LOSSES), keys)
    assert direction["w"].dtype == direction["b"].dtype == dtype
    joined = jnp.concatenate([direction["w"], direction["b"]], axis=1)
    return np.asarray(joined.astype(jnp.float32)), jax.device_get(state)


@METHODS
def test_every_dtype_gives_the_direction_of_float32(name):
    expected, state = scanned(name, jnp.float32)
    assert state.skipped == 0 and np.isfinite(expected).all()
    size = np.linalg.norm(expected, axis=1, keepdims=True)

    def check(dtype):
        direction, after = scanned(name, dtype)
        error = np.abs(direction - expected) / np.where(size > 0, size, 1)
        assert error.max() < TOLERANCES.get(dtype, 1e-3), (dtype, error.max())
        working = np.float64 if dtype == jnp.float64 else np.float32
        floats = [
            leaf
            for leaf in jax.tree.leaves(after)
            if np.issubdtype(leaf.dtype, np.floating)
        ]
        assert {leaf.dtype for leaf in floats} == {np.dtype(working)}

    check(jnp.bfloat16)
    check(jnp.float16)
    with jax.enable_x64(True):
        check(jnp.float64)
        check(jnp.float32)


def test_bfloat16_keeps_what_conflicts_with_nobody():
    angle = np.pi - 0.05
    rows = np.zeros((2, 64))
    rows[0, ::2], rows[1, ::2] = 1, np.cos(angle)
    rows[1, 1::2] = np.sin(angle)
    grads = jnp.asarray(rows, jnp.bfloat16)
    optimizer: Any = LIFT(smto.make("upgrad"), 2)
    direction, state = jit(optimizer.update)(grads, optimizer.init(grads[0]))
    exact = np.asarray(grads.astype(jnp.float32), np.float64)
    returned = np.asarray(direction.astype(jnp.float32), np.float64)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(returned)
    np.testing.assert_allclose(state.cosines, exact @ returned / lengths, atol=1e-5)
    assert np.asarray(state.cosines).min() > 0


@pytest.mark.parametrize("name", ["uw", "imtl_l", "imtl"])
def test_a_loss_that_stays_0_has_a_weight_that_is_finite(name):
    grads = np.broadcast_to(np.eye(3)[None, None] * (1, 1, 0), (400, 1, 3, 3))
    learned = run(name, grads, [[[1.0, 2.0, 0.0]]], learning_rate=0.25)
    assert np.isfinite(learned.direction).all() and not learned.state.skipped.any()
    assert np.isfinite(learned.state.weights).all()


def test_small_gradients_of_float16_have_their_bargain():
    # 1 / |g| is beyond float16, which the direction is not
    grads = jnp.array([[3e-6, 1e-6], [1e-6, 3e-6]], jnp.float16)
    optimizer: Any = LIFT(smto.make("nash_mtl"), 2)
    direction, state = jit(optimizer.update)(grads, optimizer.init(grads[0]))
    np.testing.assert_allclose(direction.astype(jnp.float32), [0.5**0.5] * 2, rtol=2e-3)
    assert int(state.skipped) == 0


def test_a_direction_beyond_the_dtype_is_skipped_and_counted():
    grads = jnp.full((2, 3), 6e4, jnp.float16)
    optimizer: Any = LIFT(smto.make("sum"), 2)
    direction, state = jit(optimizer.update)(
        grads, optimizer.init(grads[0]), losses=jnp.ones(2)
    )
    np.testing.assert_array_equal(direction, np.zeros(3))
    assert int(state.skipped) == 1


# Steps of these weights go with the gradients' squared lengths, in their source.
OF_LENGTHS = {"moco", "modo", "gradnorm"}
# Directions of a length of their own.
NORMED = {"nash_mtl", "fairgrad", "momentum_config"}


@METHODS
def test_directions_are_free_of_scale_over_float32(name):
    updates = 1 if name in OF_LENGTHS else UPDATES
    grads, losses = GRADS[:updates, None], LOSSES[:updates, None]
    if name in OF_LENGTHS - {"gradnorm"}:
        reference = None
    else:
        reference = run(name, grads, losses).direction[:, 0]
    for scale in (1e-34 if name != "momentum_config" else 1e-20, 1e19, 1e34):
        scaled = run(name, np.float32(scale) * grads, losses)
        assert not scaled.state.skipped.any()
        assert np.isfinite(scaled.direction).all()
        if reference is None:
            continue
        power = 0 if name in NORMED else 1
        direction = scaled.direction[:, 0].astype(np.float64) / scale**power
        size = np.linalg.norm(reference, axis=-1, keepdims=True)
        np.testing.assert_allclose(direction / size, reference / size, atol=1e-3)


@pytest.mark.parametrize("name", ["mgda", "upgrad", "imtl_g", "config"])
def test_lengths_may_differ_over_float32(name):
    # Tasks of lengths 1e-30 and 1: the direction is that of the exact problem.
    short, long = np.array([3e-30, 0, 0]), np.array([0.6, 0.8, 0])
    rows = np.stack([short, long])[None, None]
    update = run(name, rows)
    inner = update.direction[0, 0, :3].astype(np.float64) @ np.stack([short, long]).T
    if name == "mgda":  # the point of least norm is the short gradient, to rounding
        np.testing.assert_allclose(
            update.direction[0, 0, :3] / 6e-30, [1, 0, 0], atol=1e-4
        )
    else:
        assert (inner > 0).all()
    assert update.state.residual[0, 0] <= smto.TOLERANCE


def test_a_direction_that_overflows_on_its_way_is_skipped():
    # 2 g_1 is beyond float32; the sum of all would not be.
    grads = jnp.array([[3e38], [3e38], [-3e38]])
    optimizer: Any = LIFT(smto.make("fixed", weights=(2.0, 1.0, 2.0)), 3)
    direction, state = jit(optimizer.update)(
        grads, optimizer.init(grads[0]), losses=jnp.ones(3)
    )
    np.testing.assert_array_equal(direction, np.zeros(1))
    assert int(state.skipped) == 1


@pytest.mark.parametrize("name", ["uw", "imtl_l"])
def test_a_method_forgets_losses_beyond_its_range(name):
    optimizer: Any = LIFT(make(name, 2), 2)
    grads = jnp.eye(2)

    @jit
    def update(state, losses):
        return optimizer.update(grads, state, losses=losses)

    state = optimizer.init(grads[0])
    for loss in (3e38, 3e38, 3e38):
        _, state = update(state, jnp.array([loss, 1.0]))
    assert np.isfinite(state.method.s).all()
    direction, after = update(state, jnp.ones(2))
    assert np.isfinite(direction).all() and int(after.skipped) == int(state.skipped)


def test_gradnorm_goes_on_after_a_negative_loss():
    losses = np.ones((4, 1, 2))
    losses[1, 0, 0] = -0.1
    update = run("gradnorm", np.broadcast_to(np.eye(2), (4, 1, 2, 2)), losses)
    assert not update.state.skipped.any() and np.isfinite(update.state.weights).all()


@pytest.mark.parametrize("name", ["sum", "upgrad", "pcgrad"])
def test_norm_and_cosines_are_of_a_direction_that_nearly_cancels(name):
    rows = np.array([[1000, 0.1], [-1000, 0.1]])
    update = run(name, rows[None, None])
    direction = update.direction[0, 0, :2].astype(np.float64)
    norm = np.linalg.norm(direction)
    np.testing.assert_allclose(update.state.norm[0, 0], norm, rtol=1e-5)
    cosines = rows @ direction / norm / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(update.state.cosines[0, 0], cosines, atol=1e-6)


def test_norm_of_a_direction_close_to_the_end_of_the_range():
    update = run("sum", 1e38 * np.eye(2)[None, None])
    np.testing.assert_allclose(update.state.norm[0, 0], np.sqrt(2) * 1e38, rtol=1e-5)


@pytest.mark.parametrize("name", ["si", "gls"])
@pytest.mark.parametrize("scale", [1e-32, 1.0, 2e37])
def test_weights_of_losses_are_free_of_their_scale(name, scale):
    weights = run(name, np.eye(2)[None, None], scale * np.array([[[1.0, 0.5]]]))
    ratio = np.divide(*weights.state.weights[0, 0, ::-1].astype(np.float64))
    np.testing.assert_allclose(ratio, 2, rtol=1e-5)


def test_a_task_that_is_dropped_is_dropped_from_the_samples():
    grads = jnp.eye(3).at[1, 1].set(jnp.nan)
    optimizer: Any = LIFT(smto.make("sdmgrad"), 3, "drop")
    direction, state = jit(optimizer.update)(
        jnp.eye(3), optimizer.init(grads[0]), losses=jnp.ones(3), samples=(grads, grads)
    )
    assert int(state.skipped) == 0 and float(state.weights[1]) == 0
    assert np.isfinite(direction).all() and float(direction[1]) == 0
