"""Groups of tasks, epochs and a training loss to stop at, in runs end to end."""

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from mtl_jax.training import loop
from mtl_jax.types import InputError
from tests import small

GROUPS = ("single:digits_0", "multi:digits_0/each", "multi:digits_0+digits_1")
TARGET = "digits_0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with small.compiled_once(folder / "cache"):
        yield folder


@pytest.fixture(scope="module")
def grouped(folder):
    return small.run(
        folder / "grouped",
        variants=GROUPS,
        factors__names=("fisher_trace",),
        evaluate=("train", "test"),
    )


def test_records_say_the_group_and_its_target(grouped):
    df = grouped.records
    said = df[["variant", "group", "target"]].drop_duplicates().to_numpy().tolist()
    assert sorted(said) == [
        ["multi:digits_0+digits_1", "digits_0+digits_1", ""],
        ["multi:digits_0/digits_1", "digits_0/digits_1", "digits_0"],
        ["multi:digits_0/digits_2", "digits_0/digits_2", "digits_0"],
        ["single", "", ""],
    ]
    runs = df.groupby("variant")["run"].unique().map(sorted)
    assert all(numbers == [0, 1] for numbers in runs)  # one a seed


def test_groups_differ_by_their_auxiliary_tasks_only(grouped):
    df = grouped.records.query("name == 'loss' and split == 'train'")
    of_target = df[df["task"] == TARGET].pivot_table(
        index=["seed", "step"], columns="variant", values="value"
    )
    start = of_target.xs(0, level="step")
    np.testing.assert_allclose(start, start[["single"]].to_numpy() @ np.ones((1, 4)))
    later = of_target.xs(12, level="step")
    assert (later.nunique(axis=1) == 3).all()  # a+b is a/b, but for what is measured
    np.testing.assert_allclose(
        later["multi:digits_0+digits_1"], later["multi:digits_0/digits_1"], rtol=1e-5
    )


def test_factors_are_measured_of_the_target(grouped):
    of = grouped.records.query("name == 'fisher_trace'").groupby("variant")["task"]
    assert of.unique().map(list).to_dict() == {
        "single": [TARGET],
        "multi:digits_0/digits_1": [TARGET],
        "multi:digits_0/digits_2": [TARGET],
        "multi:digits_0+digits_1": [TARGET, "digits_1"],
    }


def test_epochs_count_steps_and_points(folder):
    made = small.run(
        folder / "epochs",
        variants=("single:digits_0",),
        epochs=1.5,
        trajectory__dense=0,
        trajectory__count=0,
        trajectory__epochs=0.5,
        evaluate=("train",),
    )
    df = made.records
    steps = sorted(df["step"].unique())
    rows = np.load(made.path / "splits.npz")
    epoch = max(rows[f"train/{task}"].size for task in range(3))
    epoch /= small.CHANGES["batch_size"]
    assert steps == [0, *(round(n * epoch / 2) for n in (1, 2, 3))]
    assert made.outcome.step == steps[-1]


@pytest.fixture(scope="module")
def stopping():
    changes = {"learning_rates": (1e-2,), "seeds": (0,), "steps": 300}
    return {
        **changes,
        "trajectory__count": 12,
        "variants": ("multi:digits_0/digits_1",),
    }


def test_training_stops_at_a_loss_of_what_counts(folder, stopping):
    whole = small.run(folder / "whole", **stopping)
    path = folder / "stopped"
    made = small.run(path, **stopping, stop_loss=0.3)
    assert made.outcome.step < 300 and made.outcome.signal is None
    assert_frame_equal(
        made.records, whole.records.query(f"step <= {made.outcome.step}")
    )
    # The auxiliary tasks are not waited for.
    patient = {**stopping, "variants": ("multi:digits_0+digits_1",)}
    later = small.run(folder / "all", **patient, stop_loss=0.3)
    assert later.outcome.step >= made.outcome.step
    again = small.run(path, **stopping, stop_loss=0.3)
    assert again.outcome.step == made.outcome.step
    assert f"is finished: step {made.outcome.step} of 300" in again.said[-1]


def test_a_stop_on_the_way_leaves_no_mark(folder, stopping, monkeypatch):
    path = folder / "resumed"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopSignal", small.Stopped)
        small.run(path, **stopping, stop_loss=0.3)
    small.run(path, **stopping, stop_loss=0.3)
    assert_frame_equal(
        small.sorted_records(path), small.sorted_records(folder / "stopped")
    )


@pytest.mark.parametrize("field", ["epochs", "stop_loss", "trajectory.epochs"])
def test_negative_numbers(tmp_path, field):
    with pytest.raises(InputError, match=f"{field} is -1.0; it must be a positive"):
        small.run(tmp_path / "new", **{field.replace(".", "__"): -1.0})
    assert not (tmp_path / "new").exists()
