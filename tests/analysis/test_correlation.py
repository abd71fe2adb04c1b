import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mtl_jax import analysis
from mtl_jax.analysis.correlation import Rows, kendall, sign_agreement, spearman
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame

SEEDS = (0, 1, 2)


def pairs(contrast, gap, tasks="abc", seeds=SEEDS, bins=4, setting="s", **columns):
    """Tabulate like contrasts, from functions of (task, i, j, bin)."""
    index = pd.MultiIndex.from_product(
        [list(tasks), seeds, seeds, range(bins)],
        names=["task", "st_seed", "mt_seed", "bin"],
    )
    table = index.to_frame(index=False).assign(setting=setting, factor="f", **columns)
    keys = [(tasks.index(t), i, j, b) for t, i, j, b in index]
    table["contrast"] = [float(contrast(*key)) for key in keys]
    table["gap"] = [float(gap(*key)) for key in keys]
    return table.assign(comparable=True)


def noise(seed):
    rng = np.random.default_rng(seed)
    return lambda *_: rng.normal()


def by_statistic(table, **options):
    statistics = analysis.correlate(table, **options)
    assert not statistics["statistic"].duplicated().any()
    return statistics.set_index("statistic")


def test_values_are_those_of_scipy_with_ties():
    table = pairs(noise(0), noise(1))
    table["contrast"] = table["contrast"].round(1)
    table["gap"] = (table["gap"] + table["contrast"]).round(1)
    statistics = by_statistic(table)["value"]
    x, y = table["contrast"], table["gap"]
    assert statistics["spearman"] == pytest.approx(stats.spearmanr(x, y)[0])
    assert statistics["kendall"] == pytest.approx(stats.kendalltau(x, y)[0])
    signed = (x != 0) & (y != 0)
    expected = (np.sign(x) == np.sign(y))[signed].mean()
    assert statistics["sign_agreement"] == pytest.approx(expected)


def test_weights_are_those_of_the_resample_built_row_by_row():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40)).round(1)
    pair = rng.permutation(np.repeat(np.arange(8), 5))
    weights = rng.multinomial(8, np.full(8, 1 / 8), size=20).astype(float)
    rows = Rows(x, y, pair)
    statistics = [f(weights, rows) for f in (spearman, kendall, sign_agreement)]
    for r, weight in enumerate(weights):
        each = np.repeat(np.arange(40), weight[pair].astype(int))
        a, b = x[each], y[each]
        signed = a * b != 0
        expected = [
            stats.spearmanr(a, b)[0],
            stats.kendalltau(a, b)[0],
            (a * b > 0)[signed].mean(),
        ]
        np.testing.assert_allclose([f[r] for f in statistics], expected, atol=1e-12)


def test_a_resample_in_which_all_are_alike_has_no_rank():
    x = np.repeat([0.1, 0.3, 0.7], 7)
    rows = Rows(x, np.random.default_rng(0).normal(size=21), np.repeat([0, 1, 2], 7))
    for alike in ([3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]):
        weights = np.array([alike, [1.0, 1.0, 1.0]])
        for statistic in (spearman, kendall):
            assert np.isnan(statistic(weights, rows)).tolist() == [True, False]


@pytest.mark.parametrize(("sign", "agreement"), [(1, 1), (-1, 0)])
def test_perfect_and_reversed(sign, agreement):
    value = lambda t, i, j, b: t + i / 3 + j / 9 + b / 30 - 1.31  # noqa: E731
    statistics = by_statistic(pairs(value, lambda *key: sign * value(*key) ** 3))
    for name in ("spearman", "kendall"):
        row = statistics.loc[name, ["value", "low", "high"]].tolist()
        assert row == pytest.approx([sign] * 3)
    assert statistics.loc["sign_agreement", "value"] == agreement
    assert statistics.loc["sign_agreement_of_means", "value"] == agreement
    assert set(statistics["clusters"]) == {"tasks and seeds", "none"}


def test_no_correlation():
    """Draw constants for runs at random: rows are many, runs are few."""
    rng = np.random.default_rng(3)
    effect = rng.normal(size=(2, 8, 3, 3))
    x, y = (lambda t, i, j, b, e=e: e[t, i, j] + b / 1e3 for e in effect)
    statistics = by_statistic(pairs(x, y, tasks="abcdefgh"))
    for name, nothing in {"spearman": 0, "kendall": 0, "sign_agreement": 0.5}.items():
        low, high = statistics.loc[name, ["low", "high"]]
        assert low < nothing < high and high - low > 0.2


@pytest.mark.parametrize("constant", ["contrast", "gap"])
def test_a_constant_has_no_rank(constant):
    table = pairs(noise(0), noise(1))
    table[constant] = 0.1 + 0.2 * np.ones(len(table)) + 1e-17
    statistics = by_statistic(table)
    for name in ("spearman", "kendall"):
        assert np.isnan(statistics.loc[name, "value"]) and np.isnan(
            statistics.loc[name, "low"]
        )
        assert statistics.loc[name, "reason"] == f"{constant} is constant"
    assert statistics.loc["sign_agreement", "reason"] == ""  # but it has a sign
    table[constant] = 0.0
    statistics = by_statistic(table)
    assert statistics["value"].isna().all()
    assert statistics.loc["sign_agreement", "reason"] == "no observation has two signs"


@pytest.mark.parametrize("kept", [0, 2])
def test_too_few_observations(kept):
    table = pairs(noise(0), noise(1))
    table.loc[kept:, "contrast"] = np.nan
    row = by_statistic(table).loc["spearman"]
    assert np.isnan(row["value"]) and row["missing"] == len(table) - kept
    assert row["reason"] == f"{kept} observations, fewer than 3"


def test_one_task_falls_back_to_seeds_and_says_so():
    statistics = by_statistic(pairs(noise(0), noise(1), tasks="a"))
    ranked = statistics.loc[["spearman", "kendall", "sign_agreement"]]
    assert set(ranked["clusters"]) == {"seeds"} and set(ranked["tasks"]) == {1}
    assert ranked["low"].notna().all() and set(ranked["interval"]) == {"bootstrap"}
    statistics = by_statistic(pairs(noise(0), noise(1), tasks="a", seeds=(0,)))
    ranked = statistics.loc[["spearman", "kendall", "sign_agreement"]]
    assert set(ranked["clusters"]) == {"none"} and set(ranked["interval"]) == {"none"}
    assert ranked["value"].notna().all() and ranked["low"].isna().all()
    statistics = by_statistic(pairs(noise(0), noise(1), seeds=(0,)))
    assert statistics.loc["spearman", "clusters"] == "tasks"


def test_tasks_are_resampled():
    """Make runs of a task alike; only other tasks would say otherwise."""
    statistics = by_statistic(
        pairs(lambda t, *_: -1 if t % 2 else 1, lambda *key: 1 + key[-1], tasks="abcd")
    ).loc["sign_agreement"]
    assert statistics[["low", "value", "high"]].tolist() == [0, 0.5, 1]


def test_sign_agreement_of_means_has_wilson_s_interval():
    # Of 9 units (task, MT seed), those of task a disagree.
    statistics = by_statistic(
        pairs(lambda t, *_: -1 if t == 0 else 1, lambda *key: 1 + key[-1])
    ).loc["sign_agreement_of_means"]
    wilson = stats.binomtest(6, 9).proportion_ci(method="wilson")
    assert statistics["value"] == 6 / 9 and statistics["observations"] == 9
    assert (statistics["low"], statistics["high"]) == (wilson.low, wilson.high)
    assert statistics["interval"] == "wilson"


def test_missing_and_not_comparable_are_counted():
    table = pairs(noise(0), noise(1))
    table.loc[:4, "contrast"] = np.nan
    lone = table.iloc[[0]].assign(task="d", comparable=False, gap=np.nan)
    statistics = by_statistic(pd.concat([table, lone]))
    assert set(statistics["missing"]) == {5} and set(statistics["not_comparable"]) == {
        1
    }
    assert statistics.loc["spearman", "observations"] == len(table) - 5


def test_macro_average_over_settings():
    up = pairs(noise(0), lambda *_: 0, setting="up")
    up["gap"] = up["contrast"]
    down = pairs(noise(1), lambda *_: 0, setting="down", bins=9)
    down["gap"] = -down["contrast"]
    odd = pairs(noise(2), noise(3), setting="odd")
    flat = pairs(noise(4), lambda *_: 0, setting="flat")
    statistics = analysis.correlate(pd.concat([up, down, odd, flat]))
    rho = statistics.query("statistic == 'spearman'").set_index("setting")
    assert rho.loc["", "value"] == pytest.approx(rho.loc["odd", "value"] / 3)
    assert rho.loc["", "settings"] == 3 and rho.loc["", "tasks"] == 12
    # Only the odd setting varies from resample to resample.
    width, odd_width = (rho.loc[s, "high"] - rho.loc[s, "low"] for s in ("", "odd"))
    assert width == pytest.approx(odd_width / 3, rel=1e-6)
    assert np.isnan(rho.loc["flat", "value"])


def test_settings_are_resampled_apart():
    """Make two settings alike: their mean varies less than each."""
    tables = [pairs(noise(0), noise(1), setting=s) for s in ("one", "two")]
    statistics = analysis.correlate(pd.concat(tables))
    rho = statistics.query("statistic == 'spearman'").set_index("setting")
    single, both = (rho.loc[s, "high"] - rho.loc[s, "low"] for s in ("one", ""))
    assert 0.6 < both / single < 0.85


def test_what_task_and_bin_explain_can_be_left_out():
    """Let x and y go together by task and bin, and within them go against."""
    noise_of = {}

    def inner(*key):
        return noise_of.setdefault(key, np.random.default_rng(len(noise_of)).normal())

    def outer(t, _, __, b):
        return 10 * t + 3 * b**2

    table = pairs(lambda *k: outer(*k) + inner(*k), lambda *k: outer(*k) - inner(*k))
    assert by_statistic(table).loc["spearman", "value"] > 0.9
    statistics = by_statistic(table, within=("task", "bin"))
    rank = statistics.loc["spearman"]
    assert rank["value"] == pytest.approx(-1) and rank["high"] == pytest.approx(-1)
    assert set(statistics["within"]) == {"task, bin"}
    # Of one column alone, the residual is what the group's mean leaves.
    table["gap"] = [noise(k)() for k in range(len(table))]
    left = [
        table[v] - table.groupby("task")[v].transform("mean")
        for v in ("contrast", "gap")
    ]
    statistics = by_statistic(table, within=["task"])
    expected = stats.spearmanr(left[0], left[1])[0]
    assert statistics.loc["spearman", "value"] == pytest.approx(expected)
    # Nothing is left of what they explain.
    table["contrast"] = pairs(outer, outer)["contrast"]
    row = by_statistic(table, within=("task", "bin")).loc["spearman"]
    assert row["reason"] == "contrast is constant" and np.isnan(row["value"])


def test_a_setting_s_interval_does_not_depend_on_the_others():
    first, second = (pairs(noise(k), noise(9), setting=s) for k, s in enumerate("op"))
    alone, beside = (
        analysis.correlate(second),
        analysis.correlate(pd.concat([first, second])),
    )
    pd.testing.assert_frame_equal(
        alone, beside.query("setting == 'p'").reset_index(drop=True)
    )


def test_groups_and_columns():
    table = pd.concat([pairs(noise(0), noise(1), variant=v) for v in ("m", "n")])
    statistics = analysis.correlate(table)
    assert statistics[["variant", "factor"]].drop_duplicates().to_numpy().tolist() == [
        ["m", "f"],
        ["n", "f"],
    ]
    assert len(analysis.correlate(table, by=["bin"])) == 4 * 4
    assert len(analysis.correlate(table.query("variant == 'm'"), by=[])) == 4
    with pytest.raises(InputError, match="the table lacks curvature; it has: task"):
        analysis.correlate(table, x="curvature")


def test_same_seed_same_interval():
    table = pairs(noise(0), noise(1))
    first, again, other = (analysis.correlate(table, seed=s) for s in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(analysis.correlate(shuffled), first)


def test_from_records_to_the_correlation_that_was_put_in():
    """Make the gap of a task proportional to the log-ratio of a factor, by hand."""
    fall, curves = np.linspace(2, -1, 7), []
    for ratio, task in zip((-0.4, 0.1, 0.3), "abc", strict=True):
        for seed in SEEDS:
            factors = {("fisher_trace", "task"): np.exp(fall)}
            key = {"seed": seed, "task": task}
            curves.append(
                curve("single", np.exp(fall), test=fall, factors=factors, **key)
            )
            factors = {("fisher_trace", "task"): np.exp(fall + ratio * (3 + fall))}
            test = fall + 0.5 * ratio * (3 + fall)
            curves.append(
                curve("multi", np.exp(fall), test=test, factors=factors, **key)
            )
    table = analysis.correlate(analysis.contrasts(frame(*curves), points=7))
    assert table["value"].tolist() == pytest.approx([1] * 4, abs=1e-3)
    assert set(table["factor"]) == {"fisher_trace"} and set(table["setting"]) == {"s"}
