"""Runs over the devices of this process; `test_devices` has more of them."""

import jax
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


def test_records_of_shared_batches_are_equal_to_rounding(tmp_path):
    assert len(jax.local_devices()) == 2
    own = small.run(tmp_path / "own", variants=("multi",))
    shared = small.run(tmp_path / "shared", variants=("multi",), batch_devices=2)
    assert_frame_equal(own.records, shared.records, rtol=1e-5, atol=1e-5)
