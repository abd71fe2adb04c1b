"""Runs over the devices of this process; `test_devices` has more of them."""

import jax
import pytest

from mtl_jax.devices import run_axis


@pytest.mark.parametrize(
    ("runs", "devices"),
    [(1, 1), (2, 2), (3, 2), (9, 2)],
)
def test_mesh_uses_devices_that_have_something_to_do(runs, devices):
    assert run_axis.make(runs, jax.devices()).mesh.size == devices
