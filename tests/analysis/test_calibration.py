"""The fast part of experiments/calibration.py, with room for chance."""

import numpy as np
import pytest

from experiments import calibration
from mtl_jax.analysis.moderation import moderated


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(("units", "spread"), [(1, 0.0), (3, 0.5), (8, 0.0), (20, 0.5)])
def test_moderated_intervals_cover(seeds, units, spread):
    rng = np.random.default_rng(0)
    held = [
        mean.low <= 0 <= mean.high
        for _ in range(1_200 // units)
        for mean in moderated(
            [*calibration.draw(rng, seeds, calibration.sizes(rng, units, spread))]
        )
    ]
    assert 0.91 <= np.mean(held) <= 0.985


def of(rows, counted):
    return {what: value for what, name, value in rows if name == counted}


def test_a_gap_that_opens_is_found_whatever_the_final_loss():
    rows = [*calibration.opening(20)]
    planted = [v for what, v in of(rows, "supported").items() if "20%" in what]
    assert len(planted) == 4 and min(planted) >= 0.9
    nothing = [v for what, v in of(rows, "supported").items() if " 0%" in what]
    assert max(nothing) <= 0.15  # of 20; .05 of 200


def test_matching_has_no_bias():
    biases = of(calibration.bias(20), "bias, % of ST's loss")
    assert len(biases) == 8 and max(map(abs, biases.values())) <= 0.6


def test_optimizers_that_do_not_help():
    rows = [*calibration.remedying(30)]
    supported = [*of(rows, "supported").values()]
    contradicted = [*of(rows, "contradicted").values()]
    assert supported[1] >= 0.5 and contradicted[3] >= 0.9
    assert max(supported[3:]) <= 0.1 and max(contradicted[:3]) <= 0.1


def test_conflict_over_auxiliary_sets():
    rows = [*calibration.harming(60)]
    supported = [*of(rows, "supported").values()]
    assert supported[0] >= 0.7 and max(supported[1:]) <= 0.12
