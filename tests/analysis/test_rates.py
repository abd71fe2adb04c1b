import numpy as np
import pytest
from synthetic import curve, frame

from mtl_jax import analysis
from mtl_jax.types import InputError

PROBE = [2.0, 1.0, 0.5]


def sweep(values, variant="multi", name="accuracy", **options):
    """Two seeds per rate; a rate has the validation values given."""
    return [
        curve(variant, PROBE, rate=rate, seed=seed, run=10 * i + seed, **own, **options)
        for i, (rate, value) in enumerate(values.items())
        for seed in (0, 1)
        for own in [{name: [0.0, value, 0.0] if name != "mse" else [9.0, value, 9.0]}]
    ]


def test_first_of_the_best_points():
    df = frame(curve("single", PROBE, accuracy=[0.1, 0.9, 0.9], validation=[3, 2, 1]))
    (row,) = analysis.best_points(df).to_dict("records")
    assert (row["by"], row["step"], row["validation"]) == ("accuracy", 1, 0.9)
    (row,) = analysis.best_points(df, by="loss").to_dict("records")
    assert (row["by"], row["step"], row["validation"]) == ("loss", 2, 1)


def test_several_scores_leave_the_choice_to_the_loss():
    scores = {"accuracy": [0.1, 0.9, 0.3], "f1": [0.1, 0.2, 0.3]}
    df = frame(curve("single", PROBE, validation=[3, np.nan, 4], **scores))
    (row,) = analysis.best_points(df).to_dict("records")
    assert (row["by"], row["step"]) == ("loss", 0)  # NaN is never best


def test_no_point_after_divergence():
    df = frame(curve("single", PROBE, accuracy=[0.1, 0.2, 0.9], diverged=1))
    (row,) = analysis.best_points(df).to_dict("records")
    assert row["step"] == 1 and row["diverged"]


@pytest.mark.parametrize(("name", "best"), [("accuracy", 1e-2), ("mse", 1e-4)])
def test_rate_with_the_best_mean(name, best):
    values = {1e-4: 0.1, 1e-3: 0.5, 1e-2: 0.8}
    single = sweep({1e-3: 0.2}, variant="single", name=name)
    df = frame(*sweep(values, name=name), *single)
    table = analysis.rates(df)
    assert table[table["chosen"]][["variant", "learning_rate"]].to_numpy().tolist() == [
        ["multi", best],
        ["single", 1e-3],
    ]
    np.testing.assert_allclose(table["validation"], [*values.values(), 0.2])
    chosen = analysis.select_rates(df)
    assert set(chosen.query("variant == 'multi'")["learning_rate"]) == {best}
    assert list(chosen.columns) == list(df.columns)
    assert analysis.gap(chosen)["comparable"].all()
    with pytest.raises(InputError, match="select_rates"):
        analysis.gap(df)


def test_the_mean_is_over_tasks_and_seeds():
    tasks = {"a": {1e-3: 0.5, 1e-2: 0.6}, "b": {1e-3: 0.5, 1e-2: 0.3}}
    df = frame(*(c for task, v in tasks.items() for c in sweep(v, task=task)))
    table = analysis.rates(df)
    np.testing.assert_allclose(table["validation"], [0.5, 0.45])
    assert table["chosen"].tolist() == [True, False]
    assert table["runs"].tolist() == [2, 2]


def test_tasks_with_different_scores_are_judged_by_their_loss():
    df = frame(
        curve("multi", PROBE, accuracy=0.5, task="a"),
        curve("multi", PROBE, mse=0.5, task="b"),
    )
    assert analysis.rates(df)["by"].tolist() == ["loss"]


def test_every_setting_chooses_for_itself():
    curves = sweep({1e-3: 0.5, 1e-2: 0.6})
    curves += sweep({1e-3: 0.7, 1e-2: 0.6}, setting="other")
    chosen = analysis.select_rates(frame(*curves))
    assert chosen.groupby("setting")["learning_rate"].unique().map(list).to_dict() == {
        "s": [1e-2],
        "other": [1e-3],
    }


def test_a_rate_at_which_all_runs_diverged_comes_last():
    df = frame(*sweep({1e-3: 0.1}), *sweep({1e-1: 0.9}, diverged=1))
    table = analysis.rates(df)
    assert table["diverged"].tolist() == [0, 2]
    assert table["chosen"].tolist() == [True, False]


def test_the_marks_of_the_rate_come_along():
    df = frame(
        *sweep({1e-3: 0.1}),
        *sweep({1e-1: 0.9})[:1],
        *sweep({1e-1: 0.9}, diverged=1)[1:],
    )
    chosen = analysis.select_rates(df)
    assert set(chosen["learning_rate"]) == {0.1}
    assert (chosen["name"] == "diverged").sum() == 1


def test_batch_sizes_are_chosen_with_the_rate():
    curves = sweep({1e-3: 0.5}, batch_size=32) + sweep({1e-3: 0.6}, batch_size=64)
    assert set(analysis.select_rates(frame(*curves))["batch_size"]) == {64}


def test_no_validation():
    df = frame(curve("single", PROBE)).query("split != 'validation'")
    with pytest.raises(InputError, match="no 'loss' of split 'validation'"):
        analysis.select_rates(df)
