from typing import Any

import numpy as np
import pytest

from mtl_jax.training import trajectory
from mtl_jax.types import InputError


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
@pytest.mark.parametrize("dense", [0, 4, 5000])
@pytest.mark.parametrize("count", [1, 20])
def test_points(steps, dense, count):
    points = trajectory.points(steps, dense, count)
    assert points[0] == 0 and points[-1] == steps
    assert (np.diff(points) > 0).all()
    early = np.arange(min(dense, steps) + 1)
    np.testing.assert_array_equal(points[: len(early)], early)
    assert len(points) <= len(early) + max(count, 2)  # the last step comes on top


def test_late_points_are_log_spaced():
    late = trajectory.points(10_000, dense=10, count=7)[10:]  # 10 to 10 000
    np.testing.assert_allclose(np.diff(np.log10(late)), 0.5, atol=0.01)


@pytest.mark.parametrize(
    ("steps", "dense", "count", "word"),
    [
        (0, 1, 1, "steps is 0"),
        (2**31, 1, 1, "steps is 2147483648; .* at most 2147483647"),
        (5, -1, 1, "dense is -1"),
        (5, 10**20, 1, "dense is 1000.* at most 1000000"),
        (5, 1, -1, "count -1"),
        (5, 1, 10**20, "count 1000.* at most 1000000"),
    ],
)
def test_numbers_out_of_range(steps, dense, count, word):
    with pytest.raises(InputError, match=word):
        trajectory.points(steps, dense, count)


def test_even_points_stand_beside_the_others():
    even = trajectory.points(1_000, dense=0, count=0, spacing=195.3)
    np.testing.assert_array_equal(even, [0, 195, 391, 586, 781, 976, 1_000])
    both = trajectory.points(1_000, dense=2, count=3, spacing=500)
    np.testing.assert_array_equal(both, [0, 1, 2, 45, 500, 1_000])


@pytest.mark.parametrize("every", [0.5, -3.0, np.inf])
def test_even_points_are_a_step_apart(every):
    with pytest.raises(InputError, match="trajectory.epochs puts points .* at least 1"):
        trajectory.points(10, 0, 1, every)


def test_boundaries_hold_points_and_chunks():
    points = np.array([0, 1, 2, 50, 70])
    found = trajectory.boundaries(points, steps=70, chunk=20)
    np.testing.assert_array_equal(found, [0, 1, 2, 20, 40, 50, 60, 70])
    assert np.diff(found).max() <= 20


def test_levels_reached_are_counted_over_tasks():
    lowest: Any = np.array([[0.5, 2.0], [1.0, np.inf]])
    assert trajectory.levels_reached(lowest, (1.0, 0.1)) == 2  # a level met is reached
    assert trajectory.levels_reached(lowest, (3.0, 0.5)) == 4
    assert trajectory.levels_reached(lowest, ()) == 0
