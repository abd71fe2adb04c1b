import numpy as np
import pandas as pd
import pytest
from sklearn.isotonic import IsotonicRegression

from mtl_jax import analysis
from mtl_jax.analysis.curves import score_names
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame, power_laws

NOISY = np.exp([2.0, 1.5, 1.8, 1.0, 0.2, 0.6, 0.5, -1.0])


def test_abscissa_is_the_antitonic_regression_of_the_log_loss():
    steps = np.array([0, 1, 2, 3, 10, 30, 100, 300])
    aligned = analysis.align(frame(curve("single", NOISY, steps=steps)))
    fallen, at = NOISY[1:], steps[1:]  # the first is initialisation
    expected = IsotonicRegression(increasing=False).fit_transform(at, np.log(fallen))
    np.testing.assert_allclose(aligned["abscissa"], expected)
    np.testing.assert_allclose(aligned["log_loss"], np.log(fallen))  # the raw cloud
    np.testing.assert_allclose(aligned["start"], np.log(NOISY[0]))
    assert (aligned["abscissa"].diff().dropna() <= 0).all()
    assert aligned["abscissa"].nunique() == 4  # pools are equal to the last bit


def test_initialisation_is_left_out_and_counted():
    df = frame(curve("single", [2.0, 1.99, 1.9, 1.0, 1.95, 0.5]))
    (row,) = analysis.curves(df).to_dict("records")
    assert (row["initial"], row["points"], row["sound"]) == (3, 3, True)
    assert analysis.align(df)["step"].tolist() == [3, 4, 5]  # a later spike is kept


def test_all_of_the_training_data_where_every_curve_has_them():
    def pair(variants):
        curves = [curve(v, NOISY, seed=0) for v in ("single", "multi")]
        whole = [dict(row, split="train", value=row["value"] / 2)
                 for rows in curves for row in rows
                 if row["split"] == "probe" and row["variant"] in variants]  # fmt: skip
        return analysis.align(frame(*curves, whole))

    np.testing.assert_allclose(pair(["single", "multi"])["loss"], [*NOISY[1:] / 2] * 2)
    np.testing.assert_allclose(pair(["single"])["loss"], [*NOISY[1:]] * 2)


def test_of_a_variant_with_a_target_the_target_counts():
    df = frame(*(curve("multi:a/b", NOISY, task=task) for task in "ab"))
    assert set(analysis.align(df.assign(target=""))["task"]) == {"a", "b"}
    assert set(analysis.align(df.assign(target="a"))["task"]) == {"a"}


def test_only_the_order_of_steps_matters():
    steps = np.array([0, 1, 5, 90, 91, 92, 93, 1000])
    first, other = (
        analysis.align(frame(rows))["abscissa"]
        for rows in (curve("single", NOISY), curve("single", NOISY, steps=steps))
    )
    np.testing.assert_array_equal(first, other)


def test_rows_may_come_in_any_order():
    df = frame(curve("single", NOISY), curve("multi", NOISY[:4]))
    shuffled = df.sample(frac=1, random_state=0)
    assert analysis.align(shuffled).equals(analysis.align(df))


def test_points_after_divergence_are_dropped_and_counted():
    df = frame(
        curve("single", NOISY, seed=0, run=0, diverged=5),
        curve("single", NOISY, seed=0, run=1, task="b"),  # the run of another task
    )
    first, other = analysis.curves(df).to_dict("records")
    assert (first["points"], first["after_divergence"], first["unusable"]) == (5, 2, 0)
    assert first["diverged_at"] == 5 and not first["sound"]
    assert (other["points"], other["after_divergence"]) == (7, 0) and other["sound"]
    points = analysis.align(df)
    assert points[points["task"] == "a"]["step"].max() == 5
    assert points.groupby("task")["diverged"].all().tolist() == [True, False]


def test_losses_without_a_logarithm_are_dropped_and_counted():
    df = frame(curve("single", [2.0, np.nan, np.inf, 1.0, 0.0, -1.0]))
    (row,) = analysis.curves(df).to_dict("records")
    assert (row["points"], row["after_divergence"], row["unusable"]) == (1, 0, 4)
    assert analysis.align(df)["step"].tolist() == [3]


def test_a_point_makes_no_curve():
    (row,) = analysis.curves(frame(curve("single", [2.0, 0.0]))).to_dict("records")
    assert row["points"] == 0 and not row["sound"]


@pytest.mark.parametrize("options", [{"rate": 1e-2}, {"batch_size": 64}])
def test_several_rates_are_an_error_that_says_what_to_do(options):
    df = frame(curve("multi", NOISY), curve("multi", NOISY, run=1, **options))
    with pytest.raises(InputError, match="task 'a' with 2 .*analysis.select"):
        analysis.align(df)


def test_every_task_may_have_its_own_cell():
    """Expect the tables of one cell for all, though a run of each cell is there."""
    factors = {("coherence", "task"): 0.5, ("mean_cosine", "shared"): -0.1}
    cells = {"a": {"rate": 1e-2}, "b": {"batch_size": 64}, "c": {}}
    alike, tuned = (
        frame(
            *(
                rows
                for task, cell in cells.items()
                for rows in power_laws(
                    {task: 0.1}, factors=factors, **(cell if apart else {})
                )
            )
        )
        for apart in (False, True)
    )
    mark = tuned[tuned["task"] == "a"].iloc[[0]].assign(task="", name="epoch_loss")
    tuned = pd.concat([tuned, mark, mark.assign(batch_size=4)])  # of no task
    for table in (
        analysis.gap_summary,
        analysis.contrasts,
        analysis.conflict_effects,
        analysis.optimization_effect,
        analysis.transfer,
        analysis.delta_m,
    ):
        pd.testing.assert_frame_equal(table(tuned), table(alike))


def test_a_cell_of_a_task_diverges_for_itself():
    df = frame(
        curve("multi", NOISY, rate=1e-2, diverged=3),
        curve("multi", NOISY, rate=1e-3, task="b"),
    )
    sound = analysis.curves(df).set_index("task")["sound"]
    assert sound.to_dict() == {"a": False, "b": True}


def test_scores_keep_the_order_of_the_records():
    """Keep first the one by which a task is shown."""
    df = frame(
        curve("single", NOISY, task="a", pearson=0.5, mse=0.1),
        curve("single", NOISY, task="b", accuracy=0.5),
        curve("single", NOISY, task="c"),
    )
    assert score_names(df, "test") == {
        ("s", "a"): ["pearson", "mse"],
        ("s", "b"): ["accuracy"],
        ("s", "c"): [],
    }


def test_one_run_read_twice_is_an_error():
    with pytest.raises(InputError, match="two numbers at step 0"):
        analysis.align(frame(curve("single", NOISY), curve("single", NOISY)))


def test_missing_columns_are_named():
    with pytest.raises(InputError, match="lack the columns seed, split"):
        analysis.curves(frame(curve("single", NOISY)).drop(columns=["seed", "split"]))


def test_records_of_before_there_were_factors():
    df = frame(curve("single", NOISY), curve("multi", NOISY))
    old = df.drop(columns=["scope", "standard_error"])
    assert analysis.gap_summary(old).equals(analysis.gap_summary(df))
    mixed = df.assign(scope=df["scope"].where(df["variant"] == "multi"))
    assert analysis.gap_summary(mixed).equals(analysis.gap_summary(df))
