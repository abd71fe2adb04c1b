import numpy as np
import pytest

from mtl_jax import analysis
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame

PROBE = [2.0, 1.0, 0.5]


def runs(variant, values, name="accuracy", **options):
    """Make one run per seed; its test value is right where validation is best."""
    best = {"accuracy": [0.0, 1.0, 0.0], "mse": [9.0, 0.0, 9.0]}[name]
    return [
        curve(
            variant,
            PROBE,
            seed=seed,
            **{name: {"validation": best, "test": [0.99, value, 0.99]}},
            **options,
        )
        for seed, value in enumerate(values)
    ]


def test_values_at_the_best_validation_point():
    df = frame(*runs("single", [0.5, 0.7]), *runs("multi", [0.6, 0.8, 0.7]))
    row = analysis.transfer(df).set_index("name").loc["accuracy"]
    assert row[["st", "mt", "difference"]].tolist() == pytest.approx([0.6, 0.7, 0.1])
    assert row["low"] < 0.1 < row["high"] and row["by"] == "accuracy"
    assert row["low"] >= -0.1 and row["high"] <= 0.3
    assert row[["st_seeds", "mt_seeds", "clusters"]].tolist() == [2, 3, "seeds"]
    # The loss is there too, at the same point, turned so that + is better.
    loss = analysis.transfer(df).set_index("name").loc["loss"]
    assert loss[["st", "mt", "difference", "by"]].tolist() == [1, 1, 0, "accuracy"]


def test_less_is_better_turns_the_sign():
    df = frame(*runs("single", [0.5], name="mse"), *runs("multi", [0.8], name="mse"))
    row = analysis.transfer(df).set_index("name").loc["mse"]
    expected = [0.5, 0.8, -0.3]
    assert row[["st", "mt", "difference"]].tolist() == pytest.approx(expected)
    assert np.isnan(row["low"]) and row["clusters"] == "none"


def test_every_variant_against_the_baseline():
    df = frame(
        *runs("single", [0.5]), *runs("multi", [0.6]), *runs("multi-pcgrad", [0.4])
    )
    table = analysis.transfer(df).query("name == 'accuracy'")
    assert table["variant"].tolist() == ["multi", "multi-pcgrad"]
    np.testing.assert_allclose(table["difference"], [0.1, -0.1])
    table = analysis.transfer(df, baseline="multi").query("name == 'accuracy'")
    assert table["variant"].tolist() == ["single", "multi-pcgrad"]
    np.testing.assert_allclose(table["difference"], [-0.1, -0.2])


def test_by_the_loss_where_told():
    df = frame(*runs("single", [0.5]), *runs("multi", [0.6]))
    row = analysis.transfer(df, by="loss").set_index("name").loc["accuracy"]
    assert row[["st", "by"]].tolist() == [0.99, "loss"]


def test_a_diverged_run_counts_until_then():
    df = frame(*runs("single", [0.5, 0.5]), *runs("multi", [0.6, 0.8], diverged=1))
    row = analysis.transfer(df).set_index("name").loc["accuracy"]
    assert row["mt"] == pytest.approx(0.7) and row["mt_diverged"] == 2
    assert row["st_diverged"] == 0


def test_a_task_without_test_values():
    df = frame(
        *runs("single", [0.5]),
        *runs("multi", [0.6]),
        *runs("single", [0.5], task="b"),
    )
    table = analysis.transfer(df).query("task == 'b'")
    assert not table["comparable"].any() and len(table) == 2
    assert table["reason"].tolist()[0] == "no test accuracy of 'multi'"
    (delta,) = analysis.delta_m(df).to_dict("records")
    assert np.isnan(delta["delta_m"]) and not delta["comparable"]
    assert delta["reason"] == "b: no test accuracy of 'multi'"


def two_tasks(seeds=2):
    """Take a: accuracy .5 to .6 (+20%), mse .4 to .5 (-25%); b: .8 to .4 (-50%)."""
    curves = []
    for seed in range(seeds):
        for v, accuracy, mse, other in (
            ("single", 0.5, 0.4, 0.8),
            ("multi", 0.6, 0.5, 0.4),
        ):
            spread = (seed - (seeds - 1) / 2) / 10
            scores = {"accuracy": accuracy + spread, "mse": mse}
            curves.append(curve(v, PROBE, seed=seed, task="a", **scores))
            curves.append(curve(v, PROBE, seed=seed, task="b", accuracy=other))
    return frame(*curves)


def test_delta_m_by_hand():
    (row,) = analysis.delta_m(two_tasks()).to_dict("records")
    assert row["delta_m"] == pytest.approx(((20 - 25) / 2 - 50) / 2)
    assert row["low"] < row["delta_m"] < row["high"] and row["tasks"] == 2
    assert row["clusters"] == "seeds" and row["comparable"]
    (row,) = analysis.delta_m(two_tasks(), over_tasks=True).to_dict("records")
    assert row["clusters"] == "tasks and seeds" and row["low"] < -45
    (row,) = analysis.delta_m(two_tasks(seeds=1)).to_dict("records")
    assert row["delta_m"] == pytest.approx(((20 - 25) / 2 - 50) / 2)
    assert np.isnan(row["low"]) and row["clusters"] == "none"


def test_delta_m_of_the_loss_where_there_is_no_score():
    df = frame(curve("single", PROBE, test=0.5), curve("multi", PROBE, test=0.4))
    (row,) = analysis.delta_m(df).to_dict("records")
    assert row["delta_m"] == pytest.approx(20)


def test_delta_m_of_negative_scores_keeps_its_sign():
    df = frame(*runs("single", [-0.5]), *runs("multi", [-0.4]))
    (row,) = analysis.delta_m(df).to_dict("records")
    assert row["delta_m"] == pytest.approx(20)


def test_delta_m_is_not_defined_against_zero():
    df = frame(*runs("single", [0.0]), *runs("multi", [0.6]))
    (row,) = analysis.delta_m(df).to_dict("records")
    assert np.isnan(row["delta_m"]) and row["reason"].endswith("of ST is 0")


def with_zeros(zeros, seeds=5):
    """Make ST's accuracy of a 0 in some seeds, MT's better, and b worse by 50 %."""
    curves = []
    for seed in range(seeds):
        alone = 0.0 if seed < zeros else 0.3
        for v, a, b in (("single", alone, 0.8), ("multi", 0.3, 0.4)):
            curves.append(curve(v, PROBE, seed=seed, task="a", accuracy=a))
            curves.append(curve(v, PROBE, seed=seed, task="b", accuracy=b))
    return frame(*curves)


def test_delta_m_of_a_resample_against_zero_is_not_that_of_the_other_tasks():
    """Leave Delta_m undefined where ST of a is 0: it is not the -50 % of b."""
    (few,) = analysis.delta_m(with_zeros(2)).to_dict("records")  # (2/5)^5 = 1 %
    assert few["comparable"] and not few["reason"]
    # From an ST of all .3 (0 and -50 %) to one of .06 (400 and -50 %).
    assert few["low"] == pytest.approx(-25) and few["high"] == pytest.approx(175)
    (many,) = analysis.delta_m(with_zeros(4)).to_dict("records")  # (4/5)^5 = 33 %
    assert many["delta_m"] == pytest.approx((400 - 50) / 2) and many["comparable"]
    assert np.isnan(many["low"]) and np.isnan(many["high"])
    assert "a: in 3" in many["reason"] and "a mean of ST is 0" in many["reason"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "alone"}, "baseline 'alone'; the records are of: single, multi"),
        ({"split": "tset"}, "no values of split 'tset'"),
    ],
)
def test_input_errors(options, message):
    df = frame(*runs("single", [0.5]), *runs("multi", [0.6]))
    for function in (analysis.transfer, analysis.delta_m):
        with pytest.raises(InputError, match=message):
            function(df, **options)
    with pytest.raises(InputError, match="nothing to hold against"):
        analysis.transfer(frame(*runs("single", [0.5])))
