import numpy as np
import pandas as pd
import pytest

from mtl_jax.analysis.aggregates import aggregates, epochs, training_loss
from mtl_jax.analysis.deltas import deltas
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame

PROBE = [4.0, 2.0, 1.0, 0.5]


def points(epochs_of_points, updates):
    """Make the records of a curve that was looked at after so many epochs."""
    steps = [round(updates * epoch) for epoch in epochs_of_points]
    df = frame(curve("single", np.ones(len(steps)), steps=steps))
    return df.assign(epoch=df["step"] / updates)


@pytest.mark.parametrize(
    ("looked_at", "kept"),
    [
        ([0, 0.1, 0.3, 1, 1.7, 2, 3], [1, 2, 3]),
        ([0, 1, 2, 4], [1, 2, 4]),  # no epoch 3: all
        ([0, 0.5, 5, 10, 15], [5, 10, 15]),
        ([0, 1, 5, 10, 15, 20], [5, 10, 15, 20]),  # 1 is of the dense ones
        ([0, 0.2, 0.4, 0.9], [0.2, 0.4, 0.9]),
        ([0], []),
    ],
)
def test_a_point_is_an_epoch_where_all_epochs_are_there(looked_at, kept):
    table = epochs(points(looked_at, 39.06))
    np.testing.assert_allclose(table["epoch"], kept, atol=0.5 / 39)


def of(df, aggregate="score", **options):
    table = aggregates(df, **options)
    return table[table["aggregate"] == aggregate]


def test_ties_of_validation_are_broken_by_its_loss_then_by_time():
    count = 13
    test = np.arange(count) / 100
    loss = np.linspace(2, 1, count)
    loss[4] = loss[5]
    accuracy = {"validation": [0.9] * (count - 1) + [0.8], "test": test}
    df = frame(curve("single", np.ones(count), accuracy=accuracy, validation=loss))
    (row,) = of(df).to_dict("records")
    # Of steps 1 to 12: 12 has a worse accuracy, 1 the highest loss of the others.
    assert row["value"] == pytest.approx(100 * test[2:12].mean())
    assert (row["points"], row["wanted"], row["unit"]) == (10, 10, "%")


def test_fewer_points_are_all_that_there_are():
    factors = {("fisher_trace", "task"): [9, 1, 2, 3]}
    df = frame(curve("single", PROBE, accuracy=[0, 0.1, 0.2, np.nan], factors=factors))
    (row,) = of(df).to_dict("records")
    assert (row["value"], row["points"]) == (pytest.approx(15), 2)
    (row,) = of(df, "fisher").to_dict("records")
    assert (row["value"], row["points"], row["wanted"]) == (2, 3, 20)
    assert not len(of(df, "sharpness"))


def test_a_score_of_which_less_is_better_and_a_task_without_a_score():
    mse = {"validation": [9, 1, 2, 3], "test": [9, 5, 6, 7]}
    df = frame(
        curve("single", PROBE, mse=mse), curve("single", PROBE, test=PROBE, task="b")
    )
    table = of(df).set_index("task")
    assert table.loc["a", ["name", "value", "unit"]].tolist() == ["mse", 6, ""]
    value = pytest.approx(3.5 / 3)
    assert table.loc["b", ["name", "value", "unit"]].tolist() == ["loss", value, "nats"]


def test_the_score_is_the_first_or_the_wanted_one():
    df = frame(curve("single", PROBE, accuracy=0.5, f1=0.25))
    assert of(df)["value"].tolist() == [50]
    assert of(df, score="f1")["value"].tolist() == [25]
    assert of(df, score="matthews")["value"].tolist() == [50]


def test_the_training_loss_is_that_of_all_data_where_all_curves_have_it():
    full = {"split": "train", "name": "loss", "value": 0.25}
    rows = [*curve("single", PROBE), *curve("multi", PROBE)]
    both = [{**row, **full} for row in rows if row["split"] == "test"]
    assert set(training_loss(frame(rows, both))["split"]) == {"train"}
    assert of(frame(rows, both), "minimum_loss")["value"].tolist() == [0.25, 0.25]
    single = [row for row in both if row["variant"] == "single"]
    assert set(training_loss(frame(rows, single))["split"]) == {"probe"}
    assert of(frame(rows, single), "minimum_loss")["value"].tolist() == [0.5, 0.5]


def test_nothing_counts_after_divergence():
    df = frame(curve("single", PROBE, accuracy=[0, 0.2, 0.4, 0.9], diverged=2))
    (row,) = of(df).to_dict("records")
    assert row["value"] == pytest.approx(30) and row["diverged"]


def study(single, multi, variant="multi", **options):
    curves = [
        curve(name, PROBE, accuracy=value, seed=seed, **options)
        for name, values in (("single", single), (variant, multi))
        for seed, value in enumerate(values)
    ]
    return frame(*curves)


def delta_of(df, **options):
    table = deltas(df, **options)
    (row,) = table[table["aggregate"] == "score"].to_dict("records")
    return row


def test_two_rules_of_a_delta():
    row = delta_of(study([0.5, 0.52, 0.54], [0.6, 0.62, 0.64]))
    assert (row["st"], row["mt"], row["delta"]) == pytest.approx((52, 62, 10))
    assert row["low"] == pytest.approx(10) and row["high"] == pytest.approx(10)
    assert row["significant"] and row["sense"] == 1 and row["change"] > 19
    # Paired, the seeds agree; the paper's rule sees two clouds that overlap.
    row = delta_of(study([0.5, 0.6, 0.7], [0.55, 0.65, 0.75]))
    assert row["low"] > 4.9 and not row["significant"] and row["sense"] == 0


def test_of_an_error_less_is_better():
    curves = [
        curve(name, PROBE, mse=value + seed / 10, seed=seed)
        for name, value in (("single", 1.0), ("multi", 3.0))
        for seed in (0, 1, 2)
    ]
    row = delta_of(frame(*curves))
    assert [row["delta"], row["low"], row["high"]] == pytest.approx([-2, -2, -2])
    assert row["significant"] and row["sense"] == -1 and row["change"] < 0


def test_few_seeds_have_no_interval_and_say_so():
    row = delta_of(study([0.5], [0.6]))
    assert np.isnan(row["low"]) and not row["significant"]
    assert row["reason"] == "1 common seed, fewer than 2"
    row = delta_of(study([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]))
    assert row["delta"] == row["low"] == row["high"] == 0 and not row["significant"]


def test_a_change_against_zero_is_not_defined():
    row = delta_of(study([0.0, 0.0], [0.6, 0.7]))
    assert np.isnan(row["change"]) and row["reason"] == "the baseline is 0"


def test_smtos_are_held_against_the_sum_of_their_group():
    curves = [
        curve(variant, PROBE, accuracy=value, seed=seed)
        for variant, value in (
            ("multi", 0.5),
            ("multi:a/b", 0.6),
            ("multi-pcgrad:a/b", 0.7),
            ("multi-pcgrad", 0.8),
        )
        for seed in (0, 1)
    ]
    table = deltas(frame(*curves), "multi").query("aggregate == 'score'")
    against = table.set_index("variant")["baseline"].to_dict()
    assert against["multi-pcgrad:a/b"] == "multi:a/b"
    assert against["multi-pcgrad"] == "multi"


def test_of_a_variant_with_a_target_only_the_target_counts():
    df = frame(
        *(curve(v, PROBE, accuracy=0.5, task=t) for t in "ab"
          for v in ("single", "multi:a/b"))
    )  # fmt: skip
    grouped = df["variant"] == "multi:a/b"
    df = df.assign(
        target=np.where(grouped, "a", ""), group=np.where(grouped, "a/b", "")
    )
    assert deltas(df)["target"].unique().tolist() == ["a"]
    assert set(deltas(df)["group"]) == {"a/b"}


def test_several_rates_must_be_chosen_first():
    df = pd.concat([study([0.5], [0.6]), study([0.5], [0.6], rate=0.1)])
    assert len(of(df)) == 4
    with pytest.raises(InputError, match="2 pairs of learning rate"):
        deltas(df)
