"""Methods that take a preference, against dense computations in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import smto
from mtl_jax.types import InputError
from tests.smto import reference
from tests.smto.cases import LIFTED, SIZE, make, once, run

PREFERRING = [name for name in smto.SMTOS if "preference" in smto.options(name)]
DIRECTED = [name for name in PREFERRING if name in LIFTED]
"""Whose direction goes by the preference."""
OF_GRADIENTS = ("upgrad", "dualproj", "aligned_mtl", "config")
PREFERENCE = (1.0, 0.0, 3.0)
ROWS = np.random.default_rng(0).normal(size=(12, 3, SIZE))
ROWS[::2, 1] -= 0.8 * ROWS[::2, 0]
ROWS = ROWS * np.exp(np.random.default_rng(1).normal(size=(12, 3, 1)) / 2)


def close(actual, expected, tolerance=1e-4):
    sizes = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(actual / sizes, expected / sizes, atol=tolerance)


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_direction_of_a_preference(name):
    wanted = np.array([3, 0, 9]) / 4  # of mean 1
    dense = getattr(reference, name)
    directions = once(name, ROWS, preference=PREFERENCE).direction
    close(directions, np.stack([dense(rows, wanted) for rows in ROWS]))


@pytest.mark.parametrize("name", DIRECTED)
def test_only_ratios_count_and_equal_ones_change_nothing(name):
    losses = np.exp(np.random.default_rng(2).normal(size=(12, 3)))
    plain = once(name, ROWS, losses).direction
    np.testing.assert_allclose(
        once(name, ROWS, losses, preference=(7.0, 7.0, 7.0)).direction, plain, rtol=1e-5
    )


@pytest.mark.parametrize("name", DIRECTED)
def test_a_preference_may_be_traced(name):
    losses, rows = jnp.array([1.0, 2.0, 0.5]), jnp.asarray(ROWS[0], jnp.float32)

    def direction(preference):
        optimizer = smto.lift(make(name, preference=preference), 3)
        return optimizer.update(rows, optimizer.init(jnp.zeros(SIZE)), losses=losses)[0]

    rays = jnp.array([PREFERENCE, (1.0, 1.0, 1.0)])
    expected = [
        once(name, ROWS[:1], losses[None], preference=ray).direction[0]
        for ray in (PREFERENCE, ())
    ]
    stacked = jax.jit(jax.vmap(direction))(rays)
    close(np.asarray(stacked), np.stack(expected), 1e-5)


@pytest.mark.parametrize("name", PREFERRING)
@pytest.mark.parametrize(
    ("preference", "words"),
    [
        ((1.0, -1.0, 1.0), "not negative"),
        ((1.0, float("nan"), 1.0), "finite"),
        ((0.0, 0.0, 0.0), "not all of them 0"),
    ],
)
def test_a_preference_out_of_range(name, preference, words):
    with pytest.raises(InputError, match=words) as error:
        make(name, preference=preference)
    assert name in str(error.value)


@pytest.mark.parametrize("name", PREFERRING)
def test_a_preference_of_other_tasks(name):
    with pytest.raises(InputError, match="2 numbers, .* for 3 tasks"):
        make(name, preference=(1.0, 2.0)).init(3)


@pytest.mark.parametrize("tau", [0.02, 0.5])
def test_pcd(tau):
    directions = once("pcd", ROWS, tau=tau).direction
    close(directions, np.stack([reference.pcd(rows, tau) for rows in ROWS]))


def test_pcd_normalises_by_lengths_over_time():
    """Let the second gradient grow: it is measured by what it was before."""
    rows = np.array([[(1, 0), (0, 1)], [(1, 0), (0, 3)]], float)[:, None]
    state = run("pcd", rows, beta=0.5, tau=0.5).state.weights[:, 0]
    # v = (1 * 0.5 + 9) / 1.5 * 0.5: u_1 is 3 / sqrt(v) long, to be followed for half.
    length = 3 / ((0.25 + 4.5) / 0.75) ** 0.5
    expected = np.array([1, 0.5 * length / 3])
    expected = expected / np.hypot(1, 0.5 * length)
    np.testing.assert_allclose(state[1], expected, rtol=1e-5)


def test_pcd_drops_constraints_that_exclude_each_other():
    rows = [[(1, 0), (0, 1), (0, -2)]]
    outcome = once("pcd", rows)
    np.testing.assert_allclose(outcome.state.weights[0], (1, 0, 0), atol=1e-6)


def test_pcd_stays_without_a_primary_gradient():
    outcome = once("pcd", [[(0, 0), (0, 1)]])
    np.testing.assert_array_equal(outcome.direction, 0)
    assert (outcome.state.residual == 0).all()


def test_pcd_of_no_such_task():
    with pytest.raises(InputError, match="task 3, of 3 tasks; name one of 0 to 2"):
        make("pcd", primary=3).init(3)
