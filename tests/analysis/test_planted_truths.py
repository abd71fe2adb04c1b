"""Rates at which verdicts are wrong, and at which they find what is there.

200 studies that nobody ran for every truth, seed and number of seeds. A rate that is
stated to be 5% may be 8% of 200: more would happen once in 30 such tests.
"""

from collections import Counter

import numpy as np
import pytest

from mtl_jax.analysis.claims import explanation, harm, persistence
from mtl_jax.analysis.claims import remedy as remedies
from tests.analysis.studies import affected, factor, gaps, remedy

STUDIES = 200
MOST_WRONG = 0.08
SEEDS = (3, 5)


def verdicts(judged):
    """Count the shares of the verdicts over all settings."""
    rng = np.random.default_rng(0)
    count = Counter(judged(rng)[-1].verdict for _ in range(STUDIES))
    return {name: number / STUDIES for name, number in count.items()}


def hold(shares, right="", least=0.0, wrong=()):
    """Expect the right verdict often enough, and a wrong one seldom."""
    assert shares.get(right, 0) >= least, shares
    for name in wrong:
        assert shares.get(name, 0) <= MOST_WRONG, shares


BOTH = ("supported", "contradicted")
TURNS = 20 * (-1.0) ** np.arange(6)  # of either sign
NONE = np.zeros(6)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
    ("early", "late", "size", "right", "least", "wrong"),
    [
        (TURNS, TURNS, 1.5, "supported", 0.95, ["contradicted"]),
        ([20, *NONE], [20, *NONE], 1.0, "supported", 0.9, ["contradicted"]),
        (TURNS, NONE, 0.7, "contradicted", 0.9, ["supported"]),  # it fades
        (NONE, TURNS, 0.7, "contradicted", 0.9, ["supported"]),  # it comes late
        (TURNS, -TURNS, 1.5, "contradicted", 0.95, ["supported"]),
        (NONE, NONE, 0.7, "contradicted", 0.9, ["supported"]),
        (NONE, NONE, 20, "inconclusive", 0.9, BOTH),  # no signal
        (TURNS, NONE, 10, "inconclusive", 0.8, BOTH),
        # What is there and no larger than the margin may be called either way, but not
        # absent.
        ([5.0], [5.0], 0.5, "supported", 0.9, ["contradicted"]),
    ],
)
def test_a_gap_that_opens_and_persists(early, late, size, right, least, wrong, seeds):
    shares = verdicts(
        lambda rng: persistence.judge(
            gaps(rng, early, late, seeds, size), ["s"], "multi", 5.0
        )
    )
    hold(shares, right, least, wrong)


def test_many_settings_do_not_add_up_to_a_gap():
    names = list("abcd")
    shares = verdicts(
        lambda rng: persistence.judge(
            [gap for s in names for gap in gaps(rng, NONE, NONE, 3, 20, s)],
            names,
            "multi",
            5.0,
        )
    )
    hold(shares, "inconclusive", 0.9, BOTH)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
    ("contrasts", "size", "right", "least", "wrong"),
    [
        # One of two factors or both against what is expected of them in some task.
        ([NONE + 0.5, NONE - 0.5], 2, "supported", 0.8, ["contradicted"]),
        ([NONE, NONE], 0.4, "supported", 0.8, ["contradicted"]),
        ([TURNS / 40, TURNS / 40], 2, "contradicted", 0.9, ["supported"]),
        ([TURNS / 40, NONE + 0.5], 2, "contradicted", 0.9, ["supported"]),
        # As expected in most tasks, unclear in the others.
        ([TURNS / 40, TURNS / 40], 8, "", 0, ["supported"]),
        # The smallest contrast that explains.
        ([np.sign(TURNS) * np.log(1.05)] * 2, 2, "", 0, ["supported"]),
        ([NONE, NONE], 40, "", 0, BOTH),  # no signal
    ],
)
def test_factors_that_explain_or_do_not(contrasts, size, right, least, wrong, seeds):
    shares = verdicts(
        lambda rng: explanation.judge(
            [
                factor(rng, TURNS, contrast, seeds, size, name=str(k))
                for k, contrast in enumerate(contrasts)
            ],
            ["s"],
            "multi",
            5.0,
        )
    )
    hold(shares, right, least, wrong)


def test_signs_by_chance_explain_nothing():
    """Draw clear contrasts of random sign: all six as expected once in 64 factors."""

    def judged(rng):
        signs = rng.choice([-1, 1], size=6)
        return explanation.judge(
            [factor(rng, TURNS, 0.5 * signs, 3, 1)], ["s"], "multi", 5.0
        )

    hold(verdicts(judged), "supported", 0.9, ["contradicted"])


def test_without_a_gap_there_is_nothing_to_explain():
    shares = verdicts(
        lambda rng: explanation.judge(
            [factor(rng, NONE, TURNS / 40, 3, 2)], ["s"], "multi", 5.0
        )
    )
    hold(shares, "not comparable", 0.9, BOTH)


MANY = (3, 10, 8, 40)


@pytest.mark.parametrize(
    ("sizes", "correlations", "right", "least", "wrong"),
    [
        (MANY, (0.8, 0, 0), "supported", 0.8, ["contradicted"]),
        (MANY, (0, 0, 0), "contradicted", 0.9, ["supported"]),
        (MANY, (0.8, 0.9, 0), "contradicted", 0.9, ["supported"]),
        (MANY, (0.8, 0, -0.9), "contradicted", 0.9, ["supported"]),
        (MANY, (0.8, 0.5, -0.5), "", 0, BOTH),  # at the margin
        ((3, 10, 8), (0.8, 0, 0), "inconclusive", 0.8, ["contradicted"]),
        ((3, 10, 8), (0.8, 0.9, 0), "contradicted", 0.5, ["supported"]),
        ((3, 3, 3), (0.8, 0, 0), "inconclusive", 0.9, BOTH),
        ((3, 3), (0, 0, 0), "", 0, ["supported"]),
        ((2, 3), (0.8, 0, 0), "not comparable", 1, BOTH),
    ],
)
def test_conflict_and_its_effects(sizes, correlations, right, least, wrong):
    settings = [f"s{place}" for place in range(len(sizes))]
    shares = verdicts(
        lambda rng: harm.judge(
            affected(rng, sizes, *correlations), settings, "multi", 0.5
        )
    )
    hold(shares, right, least, wrong)


@pytest.mark.parametrize("sizes", [(5,), (3, 3), (10,), (3, 10, 8)])
@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_intervals_of_correlations_cover(sizes, rho):
    true = np.arctanh(6 / np.pi * np.arcsin(rho / 2))  # of normal ranks
    rng = np.random.default_rng(1)
    shares = [
        harm.correlation(affected(rng, sizes, rho, 0, 0), "optimization").z
        for _ in range(2 * STUDIES)
    ]
    assert np.mean([z.low <= true <= z.high for z in shares]) >= 0.92


ZEROS = np.zeros(2)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
    ("helps", "change", "size", "right", "least", "wrong"),
    [
        # Of two SMTOs; in two settings.
        ([ZEROS, ZEROS - 1], 20, 0.08, "supported", 0.9, ["contradicted"]),
        ([ZEROS + 2, ZEROS], 20, 0.08, "contradicted", 0.9, ["supported"]),
        # Better in one setting alone is not reliable.
        ([np.array([2, -1]), ZEROS], 20, 0.08, "supported", 0.9, ["contradicted"]),
        ([ZEROS + 0.5, ZEROS - 1], 20, 0.1, "", 0, ["supported"]),  # at the margin
        ([ZEROS, ZEROS], 0, 0.08, "", 0, ["supported"]),  # nothing changes
        ([ZEROS, ZEROS], 20, 5, "inconclusive", 0.9, BOTH),  # no signal
    ],
)
def test_remedies_that_help_or_do_not(helps, change, size, right, least, wrong, seeds):
    shares = verdicts(
        lambda rng: remedies.judge(
            [
                remedy(rng, help, change, seeds, size, str(k))
                for k, help in enumerate(helps)
            ],
            ["s0", "s1"],
            5.0,
            0.5,
        )
    )
    hold(shares, right, least, wrong)


def test_one_of_many_remedies_is_not_best_by_chance():
    """Choose among ten that do nothing, in one setting, and all noisy."""
    shares = verdicts(
        lambda rng: remedies.judge(
            [remedy(rng, np.zeros(1), 20, 3, 5, str(k)) for k in range(10)],
            ["s0"],
            5.0,
            0.5,
        )
    )
    hold(shares, "inconclusive", 0.9, BOTH)
