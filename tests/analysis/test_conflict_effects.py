import numpy as np
import pytest

from mtl_jax import analysis
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame

STEPS = np.arange(4)


def records(tasks="abc", seeds=(0, 1), **options):
    """Give task k conflict .1 k, an MT loss .1 k higher and transfer -.01 k."""
    curves = []
    for k, task in enumerate(tasks):
        for seed in seeds:
            options_of_curve = {"seed": seed, "task": task, **options}
            curves.append(
                curve("single", 2.0 - 0.2 * STEPS, accuracy=0.5, **options_of_curve)
            )
            cosine = np.array([np.nan, *3 * [-0.1 * k]])
            curves.append(
                curve(
                    "multi",
                    2.0 - 0.2 * STEPS + 0.1 * k,
                    accuracy=0.5 - 0.01 * k,
                    factors={("mean_cosine", "shared"): cosine},
                    **options_of_curve,
                )
            )
    return frame(*curves)


def test_conflict_beside_its_effects():
    table = analysis.conflict_effects(records())
    k = table["task"].map("abc".index)
    np.testing.assert_allclose(table["conflict"], 0.1 * k)
    np.testing.assert_allclose(table["effect"], 0.1 * k, atol=1e-12)
    np.testing.assert_allclose(table["transfer"], -0.01 * k, atol=1e-12)
    assert len(table) == 3 * 2 and set(table["step"]) == {-1}
    assert set(table["transfer_name"]) == {"accuracy"}
    per_step = analysis.conflict_effects(records(), per_step=True)
    assert len(per_step) == 3 * 2 * 3
    assert set(per_step["step"]) == {1, 2, 3}  # the conflict of step 0 is NaN


@pytest.mark.parametrize("per_step", [False, True])
def test_correlations_with_optimization_and_transfer(per_step):
    table = analysis.conflict_effects(records(), per_step=per_step)
    harm = analysis.correlate(table, "conflict", "effect").set_index("statistic")
    assert harm["value"].to_dict() == pytest.approx(dict.fromkeys(harm.index, 1.0))
    assert harm["reason"]["spearman"] == "few tasks"
    statistics = analysis.correlate(table, "conflict", "transfer").set_index(
        "statistic"
    )
    assert statistics.loc["spearman", "value"] == pytest.approx(-1)
    assert statistics.loc["sign_agreement", "value"] == 0


def test_transfer_of_the_loss_is_turned():
    table = analysis.conflict_effects(records().query("name != 'accuracy'"))
    k = table["task"].map("abc".index)
    np.testing.assert_allclose(table["transfer"], -0.1 * k, atol=1e-12)
    assert set(table["transfer_name"]) == {"loss"}


def test_only_steps_at_which_every_seed_has_a_conflict():
    df = records()
    gone = (df["name"] == "mean_cosine") & (df["seed"] == 1) & (df["step"] == 2)
    table = analysis.conflict_effects(df[~gone], per_step=True)
    assert set(table["step"]) == {1, 3} and table["conflict"].notna().all()


def test_not_comparable_and_unrecorded():
    df = records()
    no_multi = df[~((df["task"] == "b") & (df["variant"] == "multi"))]
    table = analysis.conflict_effects(no_multi)
    (row,) = table.query("task == 'b'").to_dict("records")
    assert not row["comparable"] and row["reason"] == "no curve of 'multi'"
    bare = df[~((df["task"] == "b") & (df["name"] == "mean_cosine"))]
    (row,) = analysis.conflict_effects(bare).query("task == 'b'").to_dict("records")
    assert row["reason"] == "no step with the conflict and loss of all seeds"
    with pytest.raises(InputError, match="gradient conflict must be among"):
        analysis.conflict_effects(df[df["name"] != "mean_cosine"])
    result = analysis.correlate(table, "conflict", "effect")
    assert set(result["not_comparable"]) == {1} and set(result["tasks"]) == {2}
