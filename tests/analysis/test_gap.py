import numpy as np
import pytest

from mtl_jax import analysis
from mtl_jax.analysis.gap import opening
from mtl_jax.analysis.matching import local_linear
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame, line, power_laws

FALL = np.linspace(2.0, -1.0, 7)  # log losses


def test_constant_gap_of_power_laws_is_exact():
    table = analysis.gap(frame(*power_laws({"a": 0.25, "b": -0.5}, seeds=(0, 1, 2))))
    assert len(table) == 2 * 3 * 20 and table["comparable"].all()
    table = table.dropna()
    for task, gap in {"a": 0.25, "b": -0.5}.items():
        rows = table[table["task"] == task]
        np.testing.assert_allclose(rows["gap"], gap, atol=1e-12)
        np.testing.assert_allclose(rows["st"], line(rows["log_loss"]), atol=1e-12)
        np.testing.assert_allclose(rows["mt"], line(rows["log_loss"]) + gap, atol=1e-12)
        np.testing.assert_allclose(rows["isotonic"], gap, atol=1e-12)


def pairs(*ends):
    """Pair runs of ST and MT, seed by seed, that end at these log losses."""
    return frame(
        *(
            curve(v, np.exp(np.linspace(2.0, end, 30)), seed=seed)
            for seed, end in enumerate(ends)
            for v in ("single", "multi")
        )
    )


def test_a_seed_that_stops_earlier_leaves_later_losses_to_the_others():
    df = pairs(-3.0, -2.0, -0.5)
    curve_ = analysis.gap_curve(df).query("task == 'a'")
    np.testing.assert_allclose(curve_["log_loss"].iloc[-1], -2.0)
    early, late = curve_[curve_["log_loss"] > -0.4], curve_[curve_["log_loss"] < -0.6]
    assert set(early["seeds"].iloc[1:]) == {3} and set(late["seeds"]) == {2}
    assert analysis.gap_curve(pairs(-3.0)).log_loss.min() == pytest.approx(-3.0)


def test_nothing_is_extrapolated_and_initialisation_is_left_out():
    grid = analysis.gap_curve(pairs(-1.0, -1.0)).query("task == 'a'")["log_loss"]
    assert grid.max() <= 2.0 + np.log(0.9) and grid.min() == pytest.approx(-1.0)


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


@pytest.mark.parametrize("count", [5, 50])
def test_local_regression_is_exact_on_a_line_in_any_order(count):
    rng = np.random.default_rng(0)
    x = np.append(rng.normal(size=count), [-4.0, 4.0])
    at = np.linspace(-4, 4, 9)
    np.testing.assert_allclose(local_linear(at, x, 2 - 3 * x), 2 - 3 * at, atol=1e-9)


def test_equal_losses_count_with_their_mean():
    x = np.array([2.0, 1.0, 1.0, 1.0, 0.0])
    at = local_linear(np.array([1.0]), x, np.array([8.0, 1, 2, 6, 4.0]))
    np.testing.assert_allclose(at, 3.0)


@pytest.mark.parametrize("noisy", ["single", "multi"])
def test_an_oscillating_loss_invents_no_gap(noisy):
    """Move along one curve; the isotonic check sees a gap, and says so."""
    rng = np.random.default_rng(0)
    fall = np.linspace(1.0, -4.0, 60)

    def run(variant, seed):
        log_loss = fall + (variant == noisy) * rng.normal(size=60)
        log_loss[0] = 2.0
        log_loss = np.minimum(log_loss, 2.0)
        test = 1 + 0.25 * np.exp(log_loss) + 0.02 * log_loss**2
        return curve(variant, np.exp(log_loss), test=test, seed=seed)

    df = frame(*(run(v, seed) for v in ("single", "multi") for seed in range(10)))
    rows = analysis.gap_curve(df).query("task == 'a'")
    assert abs(rows["gap"].mean()) < 0.005 < 0.03 < abs(rows["isotonic"].mean())
    assert rows["differs"].mean() > 0.5


def test_matchings_that_agree_say_nothing():
    assert not analysis.gap_curve(frame(*power_laws({"a": 0.1}))).differs.any()


@pytest.mark.parametrize(
    ("multi", "reason"),
    [
        (curve("multi", np.exp(FALL - 3.5)), "no overlap .* ST from .* to 0.3679, MT"),
        (curve("multi", np.full(5, 2.0)), "no sound curve of 'multi'"),
        (curve("multi", np.exp(FALL), diverged=6), "'multi': 1 of 1 diverged"),
        (curve("multi", [1.0, 0.0]), "no sound curve of 'multi'"),
        (curve("multi", np.exp(FALL), task="b"), "no curve of 'multi'"),
        (curve("multi", np.exp(FALL), test=np.nan), "no test loss along .* of MT"),
        (curve("multi", np.exp(FALL), seed=1), "no seed of which both"),
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
    assert (len(pairs), len(curves), len(summary)) == (1, 1, 3)
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


def test_a_variant_with_a_target_serves_that_task_alone():
    rows = power_laws({"a": 0.1, "b": 0.2}, variants=("single", "multi:a/b"))
    df = frame(*rows)
    is_single = df["variant"] == "single"
    df["target"] = np.where(is_single, "", "a")
    df["group"] = np.where(is_single, "", "a/b")
    assert set(analysis.gap_curve(df, "multi:a/b")["task"]) == {"a", ""}


def test_a_diverged_seed_is_left_out_and_counted():
    curves = power_laws({"a": 0.25}, seeds=(0, 1))
    curves.append(curve("multi", np.exp(FALL[:2]), test=9.0, seed=2, diverged=1))
    means = analysis.gap_curve(frame(*curves)).query("task == 'a'")
    np.testing.assert_allclose(means["gap"], 0.25)
    assert means["mt_diverged"].unique() == 1 and means["st_diverged"].unique() == 0


def noisy(tasks="ab", seeds=3, gap=0.0, size=1.0):
    rng = np.random.default_rng(0)
    return frame(
        *(
            curve(
                v,
                np.exp(FALL),
                test=line(FALL) + gap * (v == "multi") + size * rng.normal(),
                seed=seed,
                task=task,
            )
            for v in ("single", "multi")
            for seed in range(seeds)
            for task in tasks
        )
    )


def test_means_are_those_of_the_pairs_of_equal_seeds():
    df = noisy()
    rows, means = analysis.gap(df), analysis.gap_curve(df)
    expected = rows.groupby(["task", "bin"])["gap"].mean()
    np.testing.assert_allclose(means.query("task != ''")["gap"], expected)
    over_tasks = means.query("task == ''")
    np.testing.assert_allclose(over_tasks["gap"], expected.groupby("bin").mean())
    assert ((means["low"] <= means["gap"]) & (means["gap"] <= means["high"])).all()
    assert set(over_tasks["tasks"]) == {2} and set(over_tasks["seeds"]) == {3}


def test_the_band_is_wider_than_the_interval_of_a_point():
    df = noisy("a")
    band = analysis.gap_curve(df).query("task == 'a'").iloc[-1]
    point = analysis.gap_summary(df).query("task == 'a' and statistic == 'late'")
    assert band["high"] - band["low"] >= (point["high"] - point["low"]).item() > 0


def test_a_single_seed_has_no_interval():
    table = analysis.gap_curve(frame(*power_laws({"a": 0.25}, seeds=(0,))))
    np.testing.assert_allclose(table["gap"], 0.25)
    assert table[["low", "high"]].isna().all(axis=None) and set(table["seeds"]) == {1}
    assert analysis.gap_summary(noisy("a", 1))["opens_at"].isna().all()


def test_where_a_gap_opens_with_step_and_epoch():
    rng = np.random.default_rng(0)
    fall = np.linspace(1.0, -5.0, 61)
    open_ = np.clip(-1.0 - fall, 0, 1)  # 0 above a loss of 1/e
    df = frame(
        *(
            curve(
                v,
                np.exp(fall),
                test=1 + (v == "multi") * open_ + 0.01 * rng.normal(),
                seed=seed,
            )
            for v in ("single", "multi")
            for seed in range(5)
        )
    )
    df["epoch"] = df["step"] / 10
    rows = analysis.gap_summary(df).query("task == 'a'")
    (at,), (step,), (epoch,) = (
        rows[name].unique() for name in ("opens_at", "opens_step", "opens_epoch")
    )
    assert np.exp(-1.7) < at < np.exp(-1.0)
    assert step == np.flatnonzero(np.exp(fall) <= at)[0] and epoch == step / 10
    none = analysis.gap_summary(noisy("a", 5))
    assert none["opens_at"].isna().all()


def test_an_opening_lasts_to_the_end_on_one_side():
    rows = analysis.gap_curve(noisy("a")).query("task == 'a'")
    rows = rows.assign(low=1.0, high=2.0)
    assert opening(rows) == pytest.approx(np.exp(rows["log_loss"].iloc[0]))
    assert np.isnan(opening(rows.assign(low=[*[1.0] * 19, -1.0])))
    turned = rows.assign(low=[-2.0, *[1.0] * 19], high=[-1.0, *[2.0] * 19])
    assert opening(turned) == pytest.approx(np.exp(rows["log_loss"].iloc[1]))


def test_early_and_late_are_of_the_part_in_which_a_gap_must_last():
    """Let MT be worse by minus the log loss: from a twentieth of the first loss on."""
    fall = np.linspace(0.0, -9.0, 91)
    df = frame(
        *(
            curve(v, np.exp(fall), test=5 - (v == "multi") * fall, seed=seed)
            for v in ("single", "multi")
            for seed in (0, 1)
        )
    )
    rows = analysis.gap_summary(df, points=90).query("task == 'a'")
    value = rows.set_index("statistic")["value"]
    assert value["mean"] == pytest.approx((-np.log(0.05) + 9) / 2, abs=0.1)
    assert value["early"] == pytest.approx(4.0, abs=0.1)
    assert value["late"] == pytest.approx(8.0, abs=0.1)


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
