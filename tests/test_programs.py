"""Runs over devices: what is found does not depend on how many there are."""

import jax
import numpy as np
import pytest
import small
from pandas.testing import assert_frame_equal

from mtl_jax import stack


@pytest.mark.parametrize(
    ("runs", "devices"),
    [(1, 1), (2, 2), (3, 2), (9, 2)],
)
def test_mesh_uses_devices_that_have_something_to_do(runs, devices):
    assert stack.make(runs).mesh.size == devices


def test_records_are_the_same_on_one_device_as_on_two(tmp_path, monkeypatch):
    # 9 single-task and 3 multi-task runs: neither divides by two.
    two = small.run(tmp_path / "two", seeds=(0, 1, 2))
    assert len(jax.local_devices()) == 2
    one_device = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: one_device)
    one = small.run(tmp_path / "one", seeds=(0, 1, 2))
    assert_frame_equal(one.records, two.records, check_exact=True)
    assert set(one.records["run"]) == set(range(9))
    states = [small.checkpoint_of(run.path)[0] for run in (one, two)]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(a, b)
