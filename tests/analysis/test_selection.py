import numpy as np
import pytest

from mtl_jax import analysis
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame

PROBE = [2.0, 1.0, 0.5]


def sweep(values, variant="multi", name="accuracy", **options):
    """Make two seeds per rate; a rate has the validation values given."""
    return [
        curve(
            variant, PROBE, rate=rate, seed=seed, run=10 * i + seed, **values, **options
        )
        for i, (rate, value) in enumerate(values.items())
        for seed in (0, 1)
        for values in [
            {name: [0.0, value, 0.0] if name != "mse" else [9.0, value, 9.0]}
        ]
    ]


def test_of_equal_points_the_one_of_the_lower_loss_then_the_first():
    losses = [0.5, 2, 1, 1, 3]
    probe = [4.0, 3.0, 2.0, 1.0, 0.5]
    accuracy = [0.1, 0.9, 0.9, 0.9, 0.9]
    df = frame(curve("single", probe, accuracy=accuracy, validation=losses))
    (row,) = analysis.best_points(df).to_dict("records")
    assert (row["by"], row["step"], row["validation"]) == ("accuracy", 2, 0.9)
    (row,) = analysis.best_points(df, by="loss").to_dict("records")
    assert (row["by"], row["step"]) == ("loss", 0)


def test_each_value_is_read_at_the_best_point_of_its_own():
    scores = {"accuracy": [0.1, 0.3, 0.2], "f1": [0.4, 0.2, 0.3]}
    df = frame(curve("single", PROBE, validation=[3, 2, 1], test=[7, 8, 9], **scores))
    table = analysis.best_values(df).set_index("name")
    assert table["step"].to_dict() == {"accuracy": 1, "f1": 0, "loss": 2}
    assert table["value"].to_dict() == {"accuracy": 0.3, "f1": 0.4, "loss": 9}
    table = analysis.best_values(df, by="f1").set_index("name")
    assert set(table["step"]) == {0} and set(table["by"]) == {"f1"}


def test_a_score_that_validation_lacks_is_read_at_the_best_loss():
    rows = curve("single", PROBE, validation=[3, 1, 2], accuracy=[0.1, 0.2, 0.3])
    rows = [r for r in rows if (r["name"], r["split"]) != ("accuracy", "validation")]
    table = analysis.best_values(frame(rows)).set_index("name")
    assert table.loc["accuracy", ["by", "value"]].tolist() == ["loss", 0.2]


def test_the_loss_chooses_where_told():
    df = frame(curve("single", PROBE, accuracy=[0.1, 0.9, 0.9], validation=[3, 2, 1]))
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
    table = analysis.candidates(df)
    assert table[table["chosen"]][["variant", "learning_rate"]].to_numpy().tolist() == [
        ["multi", best],
        ["single", 1e-3],
    ]
    np.testing.assert_allclose(table["validation"], [*values.values(), 0.2])
    chosen = analysis.select(df)
    assert set(chosen.query("variant == 'multi'")["learning_rate"]) == {best}
    assert list(chosen.columns) == list(df.columns)
    assert analysis.gap(chosen)["comparable"].all()
    with pytest.raises(InputError, match="analysis.select"):
        analysis.gap(df)


def test_the_mean_is_over_tasks_and_seeds():
    tasks = {"a": {1e-3: 0.5, 1e-2: 0.6}, "b": {1e-3: 0.5, 1e-2: 0.3}}
    df = frame(*(c for task, v in tasks.items() for c in sweep(v, task=task)))
    table = analysis.candidates(df)
    np.testing.assert_allclose(table["validation"], [0.5, 0.45])
    assert table["chosen"].tolist() == [True, False]
    assert table["runs"].tolist() == [2, 2]


def test_tasks_with_different_scores_are_judged_by_their_loss():
    df = frame(
        curve("multi", PROBE, accuracy=0.5, task="a"),
        curve("multi", PROBE, mse=0.5, task="b"),
    )
    assert analysis.candidates(df)["by"].tolist() == ["loss"]


def test_every_setting_chooses_for_itself():
    curves = sweep({1e-3: 0.5, 1e-2: 0.6})
    curves += sweep({1e-3: 0.7, 1e-2: 0.6}, setting="other")
    chosen = analysis.select(frame(*curves))
    assert chosen.groupby("setting")["learning_rate"].unique().map(list).to_dict() == {
        "s": [1e-2],
        "other": [1e-3],
    }


def test_a_rate_at_which_all_runs_diverged_comes_last():
    df = frame(*sweep({1e-3: 0.1}), *sweep({1e-1: 0.9}, diverged=1))
    table = analysis.candidates(df)
    assert table["diverged"].tolist() == [0, 2]
    assert table["chosen"].tolist() == [True, False]


def test_the_marks_of_the_rate_come_along():
    df = frame(
        *sweep({1e-3: 0.1}),
        *sweep({1e-1: 0.9})[:1],
        *sweep({1e-1: 0.9}, diverged=1)[1:],
    )
    chosen = analysis.select(df)
    assert set(chosen["learning_rate"]) == {0.1}
    assert (chosen["name"] == "diverged").sum() == 1


def test_batch_sizes_are_chosen_with_the_rate():
    curves = sweep({1e-3: 0.5}, batch_size=32) + sweep({1e-3: 0.6}, batch_size=64)
    assert set(analysis.select(frame(*curves))["batch_size"]) == {64}


def test_no_validation():
    df = frame(curve("single", PROBE)).query("split != 'validation'")
    with pytest.raises(InputError, match="no 'loss' of split 'validation'"):
        analysis.select(df)


def two_tasks(variant, **options):
    """Let task a do best at a rate of 1e-3, task b at 1e-2; b by more."""
    tasks = {"a": {1e-3: 0.5, 1e-2: 0.4}, "b": {1e-3: 0.3, 1e-2: 0.6}}
    return [
        {**row, "run": row["run"] + 100 * (task == "b" and variant == "single")}
        for task, values in tasks.items()
        for rows in sweep(values, variant, task=task, **options)
        for row in rows
    ]


def cells(df):
    rows = df[df["task"] != ""]
    return rows.groupby(["variant", "task"])["learning_rate"].unique().map(list)


def test_a_single_task_run_chooses_for_its_task_and_a_joint_one_for_all():
    df = frame(two_tasks("single"), two_tasks("multi"))
    table = analysis.candidates(df)
    assert table["task"].tolist() == ["", "", "a", "a", "b", "b"]
    np.testing.assert_allclose(table["validation"][:2], [0.4, 0.5])
    assert cells(analysis.select(df)).to_dict() == {
        ("multi", "a"): [1e-2],
        ("multi", "b"): [1e-2],
        ("single", "a"): [1e-3],
        ("single", "b"): [1e-2],
    }


def test_joint_runs_may_choose_for_every_task():
    df = frame(two_tasks("multi"), two_tasks("single"))
    kept = analysis.select(df, over="task")
    assert cells(kept)["multi"].to_dict() == {"a": [1e-3], "b": [1e-2]}
    assert analysis.gap(kept)["comparable"].all()
    with pytest.raises(InputError, match="over 'tasks' is not one of: model, task"):
        analysis.candidates(df, over="tasks")


def test_what_is_of_a_whole_run_is_kept_of_one_candidate():
    rows = two_tasks("multi") + [r for c in sweep({1e-3: 0.9, 1e-2: 0.1}, task="c")
                                 for r in c]  # fmt: skip
    like = {**rows[0], "task": "", "split": "train", "name": "direction_norm"}
    runs = {1e-3: 0, 1e-2: 10}
    whole = [{**like, "learning_rate": rate, "run": run} for rate, run in runs.items()]
    marks = [{**row, "name": "diverged", "step": 2} for row in whole]
    selected = analysis.select(frame(rows + whole + marks), over="task")
    kept = selected[selected["task"] == ""].set_index("name")["learning_rate"]
    assert kept[["direction_norm"]].tolist() == [1e-3]  # two of three tasks chose it
    assert sorted(kept["diverged"]) == [1e-3, 1e-2]


def test_marks_of_other_tasks_runs_stay_behind():
    mark = two_tasks("single")[-1]  # a run of task b at 1e-2: chosen
    other = two_tasks("single")[0]  # of task a at 1e-3: chosen
    unchosen = {**other, "learning_rate": 1e-2}
    marks = [
        {**row, "task": "", "split": "train", "name": "diverged", "step": 2}
        for row in (mark, unchosen)
    ]
    selected = analysis.select(frame(two_tasks("single"), marks))
    kept = selected[selected["name"] == "diverged"]
    assert kept["run"].tolist() == [mark["run"]]
