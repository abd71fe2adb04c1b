import numpy as np

from mtl_jax.analysis.bootstrap import (
    Pairs,
    draw,
    estimate,
    interval,
    strict_interval,
)


def pairs_of(st, mt):
    st, mt = np.asarray(st, float), np.asarray(mt, float)
    return Pairs(range(len(st)), range(len(mt)), mt[None] - st[:, None])


def test_interval_is_that_of_resamples_built_one_by_one():
    rng = np.random.default_rng(0)
    st, mt = rng.normal(size=5), rng.normal(size=4)
    interval = estimate([pairs_of(st, mt)], resamples=20_000)
    drawn = [rng.choice(mt, 4).mean() - rng.choice(st, 5).mean() for _ in range(20_000)]
    assert interval.value == mt.mean() - st.mean() or np.isclose(
        interval.value, mt.mean() - st.mean()
    )
    np.testing.assert_allclose(
        [interval.low, interval.high], np.percentile(drawn, [2.5, 97.5]), atol=0.03
    )


def test_coverage():
    """Find the truth inside for nearly 95% of experiments with ten seeds."""
    rng, trials = np.random.default_rng(0), 400
    hits = 0
    for _ in range(trials):
        st, mt = rng.normal(0, 1, size=10), rng.normal(0.5, 1, size=10)
        interval = estimate([pairs_of(st, mt)], resamples=300)
        hits += bool(interval.low <= 0.5 <= interval.high)
    assert 0.88 < hits / trials < 0.98


def test_a_run_of_many_tasks_is_resampled_once_for_all_of_them():
    """Keep apart what averages out from what an MT run does to all of its tasks."""
    mt = np.array([-1.0, 0.0, 1.0])
    alone = estimate([pairs_of(np.zeros(3), mt)])
    many = estimate([pairs_of(np.zeros(3), mt)] * 20)
    np.testing.assert_allclose(many.high - many.low, alone.high - alone.low, rtol=0.05)
    # Runs of single tasks are independent: they do.
    st = estimate([pairs_of(mt, np.zeros(3))] * 20)
    assert st.high - st.low < 0.5 * (alone.high - alone.low)


def test_interval_over_tasks():
    gaps = np.linspace(-1, 1, 9)
    interval = estimate([pairs_of([0, 0], [g, g]) for g in gaps])
    width = 2 * 1.96 * gaps.std() / 3
    np.testing.assert_allclose(interval.high - interval.low, width, rtol=0.1)
    fixed = estimate([pairs_of([0, 0], [g, g]) for g in gaps], over_tasks=False)
    assert fixed.low == fixed.high and fixed.clusters == "seeds"


def test_missing_pairs_do_not_count():
    values = np.array([[1.0, np.nan], [3.0, 2.0]])
    interval = estimate([Pairs((0, 1), (0, 1), values)])
    assert interval.value == 2 and interval.low >= 1 and interval.high <= 3
    nothing = estimate([Pairs((0, 1), (0, 1), np.full((2, 2), np.nan))])
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_what_can_be_resampled():
    def clusters(tasks, st, mt):
        return draw([range(st)] * tasks, [range(mt)] * tasks).clusters

    assert clusters(2, 2, 2) == "tasks and seeds"
    assert clusters(2, 1, 3) == "tasks"
    assert clusters(1, 2, 2) == "seeds"
    assert clusters(1, 1, 3) == clusters(1, 3, 1) == clusters(1, 1, 1) == "none"


def test_seeds_that_only_some_tasks_have():
    draws = draw([(0, 1), (0, 1)], [(3, 5), (5, 7)], resamples=50)
    np.testing.assert_array_equal(draws.mt[0][:, 1], draws.mt[1][:, 0])
    assert (draws.mt[0].sum(axis=1) != 2).any()  # three seeds are drawn from


def test_interval_needs_half_of_the_resamples():
    few = np.array([1.0, 2.0, np.nan, np.nan, np.nan])
    assert np.isnan(interval(few)).all()
    assert interval(np.append(few, [3.0, 4.0]))[0] > 1


def test_a_resample_that_has_nothing_of_a_task_is_none_of_the_others():
    """Give a 1 in its only pair, b always -9: their mean is -4 or not defined."""
    a = np.array([[1.0, np.nan], [np.nan, np.nan]])
    tasks = [Pairs((0, 1), (0, 1), values) for values in (a, np.full((2, 2), -9.0))]
    mean = estimate(tasks, over_tasks=False)
    np.testing.assert_array_equal(mean[:3], -4)
    # Of a task that nothing is known of, there is nothing to miss.
    tasks[0] = Pairs((0, 1), (0, 1), np.full((2, 2), np.nan))
    np.testing.assert_array_equal(estimate(tasks, over_tasks=False)[:3], -9)


def test_strict_interval_holds_wherever_the_undefined_lie():
    values = np.random.default_rng(0).normal(size=200)
    assert strict_interval(values) == tuple(interval(values))
    low, high = strict_interval(np.append(values[:197], [np.nan] * 3))
    for end in (-1e9, 1e9):
        inner = interval(np.append(values[:197], [end] * 3))
        assert low <= inner[0] and inner[1] <= high
    assert np.isfinite([low, high]).all()
    assert np.isnan(strict_interval(np.append(values[:190], [np.nan] * 10))).all()
    assert np.isnan(strict_interval(np.zeros(0))).all()
