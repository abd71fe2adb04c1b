"""Mini-batches of a probe: nothing is lost, and errors are those of a mean."""

import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.metrics import probe

BATCH = {"x": jnp.arange(14.0).reshape(7, 2), "y": jnp.arange(7)}


@pytest.mark.parametrize("size", [1, 2, 7, 10])
def test_batches_hold_every_example_once(size):
    mean = probe.mean_batches(lambda b: b["x"].mean(axis=0), BATCH, size)
    np.testing.assert_allclose(mean, BATCH["x"].mean(axis=0), rtol=1e-6)
    _, rows = probe.mean_and_rows(lambda b: ((), b["y"] * 2), BATCH, size)
    np.testing.assert_array_equal(rows, BATCH["y"] * 2)
    values, sizes = probe.map_batches(lambda b: b["y"].sum(), BATCH, size)
    assert values.sum() == 21 and sizes.sum() == 7


def test_standard_error_is_that_of_a_mean():
    values = jnp.array([1.0, 2.0, 6.0, 7.0])
    mean, error = probe.mean_and_error(values, jnp.full(4, 16.0))
    np.testing.assert_allclose(mean, 4.0)
    np.testing.assert_allclose(error, np.std(values, ddof=1) / 2, rtol=1e-6)
    assert jnp.isnan(probe.mean_and_error(values[:1], jnp.ones(1))[1])
