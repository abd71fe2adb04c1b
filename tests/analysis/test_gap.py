import numpy as np
import pytest

from mtl_jax import analysis
from mtl_jax.analysis.matching import Line, at
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame, line, power_laws

FALL = np.linspace(2.0, -1.0, 7)  # log losses


def test_constant_gap_of_power_laws_is_exact():
    table = analysis.gap(frame(*power_laws({"a": 0.25, "b": -0.5}, seeds=(0, 1, 2))))
    assert len(table) == 2 * 3 * 3 * 20 and table["comparable"].all()
    for task, gap in {"a": 0.25, "b": -0.5}.items():
        rows = table[table["task"] == task]
        np.testing.assert_allclose(rows["gap"], gap, atol=1e-12)
        np.testing.assert_allclose(rows["st"], line(rows["log_loss"]), atol=1e-12)
        np.testing.assert_allclose(rows["mt"], line(rows["log_loss"]) + gap, atol=1e-12)


def test_grid_spans_what_all_curves_share():
    df = frame(
        curve("single", np.exp(FALL), seed=0),
        curve("single", np.exp(FALL[1:]), seed=1),
        curve("multi", np.exp(FALL - 0.1)),
    )
    grid = analysis.gap(df, points=5).query("st_seed == 0")["log_loss"]
    np.testing.assert_allclose(grid, np.linspace(FALL[1], FALL[-1], 5))


@pytest.mark.parametrize(
    ("name", "worse", "sign"),
    [("loss", 0.1, 1), ("accuracy", -0.1, -1), ("mse", 1, -1)],
)
def test_sign_when_mt_is_worse(name, worse, sign):
    values = line(FALL) if name == "loss" else 0.9 - 0.1 * FALL
    sides = [("single", values), ("multi", values + worse)]
    key = "test" if name == "loss" else name
    df = frame(*(curve(v, np.exp(FALL), **{key: values}) for v, values in sides))
    gaps = analysis.gap(df, name=name)["gap"]
    np.testing.assert_allclose(gaps, sign * abs(worse), atol=1e-12)


def test_validation_gap():
    df = frame(
        curve("single", np.exp(FALL), validation=line(FALL)),
        curve("multi", np.exp(FALL), validation=line(FALL) + 1),
    )
    assert np.allclose(analysis.gap(df, split="validation")["gap"], 1)
    assert np.allclose(analysis.gap(df)["gap"], 0)


def test_plateaus_count_with_their_mean():
    x = np.array([2.0, 1.0, 1.0, 1.0, 0.0])
    matched = at(
        np.array([2.0, 1.5, 1.0, 0.5, 0.0]), Line(x, np.array([8, 1, 2, 6, 0]))
    )
    np.testing.assert_allclose(matched, [8, 5.5, 3, 1.5, 0])


def test_training_loss_that_rises_in_between():
    log_loss = np.array([2.0, 0.5, 1.5, 0.0])  # pools to 2, 1, 1, 0
    df = frame(
        curve("single", np.exp(log_loss), test=[4.0, 1.0, 3.0, 0.0]),
        curve("multi", np.exp([2.0, 0.0]), test=[4.0, 0.0]),
    )
    table = analysis.gap(df, points=5)
    np.testing.assert_allclose(table["st"], [4, 3, 2, 1, 0])
    np.testing.assert_allclose(table["gap"], 0, atol=1e-12)


@pytest.mark.parametrize(
    ("multi", "reason"),
    [
        (
            curve("multi", np.exp(FALL - 3.5)),
            r"no overlap .* ST from 7.389 to 0.3679, MT",
        ),
        (curve("multi", np.exp(FALL - 3)), "no overlap"),  # touching in one point
        (curve("multi", np.full(5, 2.0)), "no overlap"),
        (curve("multi", np.exp(FALL), diverged=6), "'multi': 1 of 1 diverged"),
        (curve("multi", [1.0, 0.0]), "no sound curve of 'multi'"),
        (curve("multi", np.exp(FALL), task="b"), "no curve of 'multi'"),
        (curve("multi", np.exp(FALL), test=np.nan), "no test loss along .* of MT"),
    ],
)
def test_what_is_not_comparable_stays_in_the_table(multi, reason):
    df = frame(curve("single", np.exp(FALL)), multi)
    pairs, curves, summary = (
        f(df).query("task == 'a'")
        for f in (analysis.gap, analysis.gap_curve, analysis.gap_summary)
    )
    for table in (pairs, curves, summary):
        assert not table["comparable"].any()
        assert table["reason"].str.contains(reason, regex=True).all()
    assert (len(pairs), len(curves), len(summary)) == (1, 1, 4)
    assert np.isnan(pairs["gap"]).all() and np.isnan(summary["value"]).all()
    setting = analysis.gap_summary(df).query("task == ''")
    assert set(setting["reason"]) == {"no task is comparable"}


def test_a_variant_that_another_setting_lacks():
    curves = power_laws({"a": 0.1})
    curves += power_laws({"a": 0.1}, variants=("single",), setting="other")
    summary = analysis.gap_summary(frame(*curves)).query("task == 'a'")
    assert summary.groupby("setting")["comparable"].all().to_dict() == {
        "other": False,
        "s": True,
    }


def test_a_diverged_seed_is_left_out_and_counted():
    curves = power_laws({"a": 0.25}, seeds=(0, 1))
    curves.append(curve("multi", np.exp(FALL[:2]), test=9.0, seed=2, diverged=1))
    means = analysis.gap_curve(frame(*curves)).query("task == 'a'")
    np.testing.assert_allclose(means["gap"], 0.25)
    assert means["mt_seeds"].unique() == 2 and means["mt_diverged"].unique() == 1
    assert means["st_diverged"].unique() == 0


def test_values_missing_at_some_points_are_bridged():
    test = line(FALL) + 0.25
    test[[0, 3]] = np.nan
    df = frame(
        curve("single", np.exp(FALL), test=line(FALL)),
        curve("multi", np.exp(FALL), test=test),
    )
    table = analysis.gap(df)
    np.testing.assert_allclose(table["gap"], 0.25)
    assert table["log_loss"].max() == FALL[1]


def test_mean_of_a_bin_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    curves = [
        curve(v, np.exp(FALL + shift), test=rng.normal(size=7), seed=seed, task=task)
        for v in ("single", "multi")
        for seed in range(3)
        for shift, task in enumerate("ab")
    ]
    df = frame(*curves)
    pairs, means = analysis.gap(df), analysis.gap_curve(df)
    expected = pairs.groupby(["task", "bin"])["gap"].mean()
    np.testing.assert_allclose(means.query("task != ''")["gap"], expected)
    over_tasks = means.query("task == ''")
    np.testing.assert_allclose(over_tasks["gap"], expected.groupby("bin").mean())
    assert over_tasks["log_loss"].isna().all() and set(over_tasks["tasks"]) == {2}
    assert ((means["low"] <= means["gap"]) & (means["gap"] <= means["high"])).all()
    assert set(over_tasks["clusters"]) == {"tasks and seeds"}
    assert set(means.query("task == 'a'")["clusters"]) == {"seeds"}


def test_a_setting_averages_its_comparable_tasks():
    curves = power_laws({"a": 0.25, "b": -0.5})
    curves += [curve(v, [b, b / 2], task="c") for v, b in (("single", 1), ("multi", 9))]
    means = analysis.gap_curve(frame(*curves)).query("task == ''")
    np.testing.assert_allclose(means["gap"], -0.125)
    assert means["comparable"].all() and set(means["tasks"]) == {2}


def test_seeds_are_counted():
    curves = power_laws({"a": 0.1}, variants=("single",), seeds=(0, 1, 2))
    curves += power_laws({"a": 0.1}, variants=("multi",), seeds=(0, 1))
    curves += power_laws({"b": 0.1}, seeds=(0,))
    summary = analysis.gap_summary(frame(*curves)).query("statistic == 'mean'")
    columns = ["st_seeds", "mt_seeds", "tasks", "clusters"]
    assert summary.set_index("task")[columns].T.to_dict("list") == {
        "a": [3, 2, 1, "seeds"],
        "b": [1, 1, 1, "none"],
        "": [1, 1, 2, "tasks"],
    }


def test_a_single_seed_has_no_interval():
    df = frame(*power_laws({"a": 0.25}, seeds=(0,)))
    table = analysis.gap_curve(df)
    np.testing.assert_allclose(table["gap"], 0.25)
    assert table[["low", "high"]].isna().all(axis=None)
    assert set(table["clusters"]) == {"none"} and set(table["st_seeds"]) == {1}
    # Tasks can still be resampled.
    df = frame(*power_laws({"a": 0.25, "b": 0.75}, seeds=(0,)))
    table = analysis.gap_summary(df).query("task == '' and statistic == 'mean'")
    assert table[["value", "low", "high"]].round(9).to_numpy().tolist() == [
        [0.5, 0.25, 0.75]
    ]
    assert set(table["clusters"]) == {"tasks"}


def test_summary_of_a_gap_that_changes_its_sign():
    grid = np.linspace(1.0, -1.0, 21)
    sides = {"single": 0 * grid, "multi": grid}
    curves = [
        curve(v, np.exp(grid), test=test, seed=seed)
        for v, test in sides.items()
        for seed in (0, 1)
    ]
    summary = analysis.gap_summary(frame(*curves), points=21).query("task == 'a'")
    summary = summary.set_index("statistic")["value"].to_dict()
    expected = {"mean": 0, "early": 0.7, "late": -0.7, "sign_agreement": 0}
    assert summary == pytest.approx(expected, abs=1e-12)


def test_sign_agreement_counts_pairs_that_have_signs():
    tests = {0: [1.0, 1.0], 1: [1.0, -1.0], 2: [0.0, 0.0]}
    curves = [curve("single", [2.0, 1.0], test=0.0, seed=seed) for seed in (0, 1)]
    curves += [curve("multi", [2.0, 1.0], test=t, seed=s) for s, t in tests.items()]
    summary = analysis.gap_summary(frame(*curves), points=6)
    summary = summary.query("task == 'a' and statistic == 'sign_agreement'").iloc[0]
    assert (summary["value"], summary["low"], summary["high"]) == (0.5, 0, 1)
    # Identical curves: no sign at all, and no warning.
    curves = [curve(v, [2.0, 1.0], seed=s) for v in ("single", "multi") for s in (0, 1)]
    summary = analysis.gap_summary(frame(*curves)).set_index("statistic").loc["mean"]
    assert (summary[["value", "low", "high"]] == 0).all(axis=None)
    summary = analysis.gap_summary(frame(*curves)).query(
        "statistic == 'sign_agreement'"
    )
    assert summary[["value", "low", "high"]].isna().all(axis=None)


def test_same_seed_same_interval():
    rng = np.random.default_rng(1)
    curves = [
        curve(v, np.exp(FALL), test=rng.normal(size=7), seed=seed)
        for v in ("single", "multi")
        for seed in range(3)
    ]
    df = frame(*curves)
    first, again, other = (analysis.gap_summary(df, seed=s) for s in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)
    np.testing.assert_array_equal(first["value"], other["value"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"variant": "multi-pcgrad"},
            "'multi-pcgrad' .* must be two of .*single, multi",
        ),
        ({"baseline": "multi"}, "must be two of"),
        ({"name": "f1"}, "hold no 'f1' of split 'test'.*they hold: .*test loss"),
        ({"split": "tset"}, "hold no 'loss' of split 'tset'"),
        ({"points": 1}, "points is 1; a grid has at least 2"),
    ],
)
def test_input_errors(options, message):
    with pytest.raises(InputError, match=message):
        analysis.gap(frame(*power_laws({"a": 0.1})), **options)
