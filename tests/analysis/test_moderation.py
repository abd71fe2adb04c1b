import numpy as np
import pytest

from mtl_jax.analysis.interval import paired_t
from mtl_jax.analysis.moderation import _prior, _trigamma_inverse, moderated


def test_prior_of_variances_is_that_they_were_drawn_from():
    """Draw variances as Smyth does: scaled inverse chi-squared, then sampled."""
    rng = np.random.default_rng(0)
    true = 4.0 * 10 / rng.chisquare(10, size=20_000)
    sample = true * rng.chisquare(4, size=20_000) / 4
    common, d0 = _prior(sample, np.full(20_000, 4.0))
    assert common == pytest.approx(4.0, rel=0.02) and d0 == pytest.approx(10, rel=0.1)


def test_trigamma_inverse():
    assert _trigamma_inverse(np.pi**2 / 6) == pytest.approx(1.0)
    assert _trigamma_inverse(np.pi**2 / 2) == pytest.approx(0.5)
    assert _trigamma_inverse(1e-3) == pytest.approx(1000.5, rel=1e-3)


@pytest.mark.parametrize("units", [1, 2])
def test_few_units_keep_their_own_t(units):
    values = np.random.default_rng(0).normal(size=(units, 4))
    assert moderated([*values]) == [paired_t(row) for row in values]


def test_errors_come_closer_and_means_stay():
    values = np.random.default_rng(0).normal(size=(12, 3))
    alone, together = [paired_t(row) for row in values], moderated([*values])
    assert [a.value for a in alone] == [b.value for b in together]
    assert np.ptp([b.error for b in together]) < np.ptp([a.error for a in alone])
    assert all(b.df > a.df for a, b in zip(alone, together, strict=True))


def test_units_that_never_differ_stay_exact_and_lend_nothing():
    values = [*np.random.default_rng(0).normal(size=(5, 3))]
    without, with_ = moderated(values), moderated([*values, np.zeros(3)])
    assert with_[:5] == without and with_[5].error == 0
    chance = moderated([*values, np.full(3, 0.5)])[5]  # alike, but not 0
    assert chance.error > 0


def test_units_of_different_seeds():
    rng = np.random.default_rng(0)
    means = moderated([rng.normal(size=n) for n in (1, 2, 3, 5, 5)])
    assert np.isnan(means[0].error) and all(mean.error > 0 for mean in means[1:])
