import numpy as np
import pytest
from scipy.stats import t

from mtl_jax.analysis.simultaneous import bands, path_length


def test_a_curve_of_one_shape_needs_no_more_than_a_point():
    """Let seeds differ by a constant: then all points are one."""
    curve = np.array([-1.0, 0.5, 0.5])[:, None] + np.zeros((3, 20))
    value, low, high = bands([curve])[0]
    expected = t.ppf(0.975, 2) * np.std(curve[:, 0], ddof=1) / 3**0.5
    np.testing.assert_allclose(high - value, expected)
    assert path_length(curve) == pytest.approx(0, abs=1e-6)
    pointwise = bands([curve], simultaneous=False)[0]
    np.testing.assert_allclose([value, low, high], pointwise)


def test_bonferroni_is_the_widest():
    curve = np.random.default_rng(0).normal(size=(5, 20))
    value, _, high = bands([curve])[0]
    limit = t.ppf(1 - 0.025 / 20, 4) * np.std(curve, axis=0, ddof=1) / 5**0.5
    reach = high - value
    assert (reach <= limit * (1 + 1e-6)).all()
    _, _, single = bands([curve], simultaneous=False)[0]
    assert (reach > single - value).all()


def test_points_that_few_seeds_reach():
    curve = np.random.default_rng(0).normal(size=(3, 4))
    curve[1:, 3] = np.nan
    value, low, _ = bands([curve])[0]
    assert np.isfinite(value).all()
    assert np.isnan(low).tolist() == [False, False, False, True]
