import numpy as np
import pytest

from mtl_jax import analysis
from mtl_jax.analysis.matching import REACH
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame, line

FALL = np.linspace(2.0, -1.0, 7)


def pair(single, multi, name="fisher_trace", scope="task", **options):
    """Pair ST and MT along the same training losses, MT's test loss higher by .1."""
    return frame(
        *(
            curve(
                v, np.exp(FALL), test=line(FALL) + gap, factors={(name, scope): factors}
            )
            for v, factors, gap in (("single", single, 0), ("multi", multi, 0.1))
        ),
        **options,
    )


def test_log_ratio_at_the_same_training_loss():
    """Let factors be powers of the training loss, at other steps in MT."""
    late = np.linspace(2.0, -1.5, 12)
    df = frame(
        curve("single", np.exp(FALL), factors={("fisher_trace", "task"): np.exp(FALL)}),
        curve(
            "multi",
            np.exp(late),
            factors={("fisher_trace", "task"): 3 * np.exp(2 * late)},
        ),
    )
    table = analysis.contrasts(df)
    expected = np.log(3) + table["log_loss"]
    np.testing.assert_allclose(table["contrast"], expected, atol=1e-12)
    np.testing.assert_allclose(table["st"], np.exp(table["log_loss"]))
    np.testing.assert_allclose(table["mt"] / table["st"], np.exp(table["contrast"]))
    assert set(table["kind"]) == {"log ratio"} and set(table["missing"]) == {""}


def test_the_gap_is_that_of_the_gap_table():
    df = pair(np.exp(FALL), 2 * np.exp(FALL))
    np.testing.assert_allclose(analysis.contrasts(df)["gap"], analysis.gap(df)["gap"])
    keys = ["task", "seed", "bin"]
    assert analysis.contrasts(df)[keys].equals(analysis.gap(df)[keys])


def test_what_is_not_positive_is_missing_and_counted():
    multi = np.array([1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0])
    table = analysis.contrasts(pair(np.ones(7), multi), points=13)
    missing = (table["missing"] == "not positive").to_numpy()
    away = np.abs(table["log_loss"].to_numpy() - FALL[3])
    assert missing[away < 0.5].all()  # between the points beside the negative one
    assert not missing[away > REACH * 0.5].any()
    assert table["contrast"].isna().equals(table["missing"] != "")
    np.testing.assert_allclose(table["contrast"][~missing], 0, atol=1e-12)


def test_what_is_not_finite_is_missing():
    single = np.where(np.arange(7) == 1, np.inf, 1.0)
    table = analysis.contrasts(pair(single, np.ones(7)), points=7)
    assert table["missing"][0] == "not finite" and table["missing"][4] == ""
    assert np.isnan(table["contrast"][0])


def test_what_was_recorded_at_some_points_only():
    some = [None, None, 2.0, None, 2.0, 2.0, 2.0]
    table = analysis.contrasts(pair(np.ones(7), np.array(some, object)), points=6)
    assert table["missing"].tolist() == ["not recorded"] + 5 * [""]
    np.testing.assert_allclose(table["contrast"][1:], np.log(2))


def test_a_seed_without_the_factor():
    factors = {("fisher_trace", "task"): np.ones(7)}
    df = frame(
        curve("single", np.exp(FALL), factors=factors),
        curve("multi", np.exp(FALL), factors=factors),
        curve("single", np.exp(FALL), factors=factors, seed=1),
        curve("multi", np.exp(FALL), seed=1),
    )
    missing = analysis.contrasts(df).groupby("seed")["missing"].unique().map(list)
    assert missing.to_dict() == {0: [""], 1: ["not recorded"]}


def test_signed_factors_are_contrasted_by_difference():
    df = pair(np.full(7, -0.5), np.full(7, 0.25), "mean_cosine", "shared")
    table = analysis.contrasts(df, scope="shared")
    np.testing.assert_allclose(table["contrast"], 0.75)
    assert set(table["kind"]) == {"difference"}
    df = pair(np.full(7, -0.5), np.full(7, 0.25), "sharpness_l2")
    table = analysis.contrasts(df, ["sharpness_l2"], differences={"sharpness_l2"})
    np.testing.assert_allclose(table["contrast"], 0.75)


def test_factors_of_one_scope_that_both_variants_have():
    both = {("coherence", "task"): np.ones(7), ("fisher_trace", "shared"): np.ones(7)}
    df = frame(
        curve("single", np.exp(FALL), factors=both),
        curve("multi", np.exp(FALL), factors=both | {("mean_cosine", "shared"): 0.1}),
    )
    assert set(analysis.contrasts(df)["factor"]) == {"coherence"}
    assert set(analysis.contrasts(df, scope="shared")["factor"]) == {"fisher_trace"}
    with pytest.raises(
        InputError, match="no factor mean_cosine .*they hold: fisher_tr"
    ):
        analysis.contrasts(df, ["mean_cosine"], scope="shared")
    with pytest.raises(InputError, match="scope 'all' is not one of: task, shared"):
        analysis.contrasts(df, scope="all")
    with pytest.raises(InputError, match="no factor at all"):
        analysis.contrasts(df.query("split != 'probe' or name == 'loss'"))


def test_not_comparable_tasks_stay():
    df = pair(np.ones(7), np.ones(7))
    lone = frame(curve("single", np.exp(FALL), task="b"))
    table = analysis.contrasts(frame(df.to_dict("records"), lone.to_dict("records")))
    (row,) = table.query("task == 'b'").to_dict("records")
    assert not row["comparable"] and row["reason"] == "no curve of 'multi'"
