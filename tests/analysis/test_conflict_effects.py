import numpy as np
import pytest

from mtl_jax import analysis
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame

STEPS = np.arange(4)


def records(tasks="abc", seeds=(0, 1), **options):
    """Conflict of task k is .1 k, its MT loss .1 k higher, its transfer -.01 k."""
    curves = []
    for k, task in enumerate(tasks):
        for seed in seeds:
            own = {"seed": seed, "task": task, **options}
            curves.append(curve("single", 2.0 - 0.2 * STEPS, accuracy=0.5, **own))
            cosine = np.array([np.nan, *3 * [-0.1 * k]])
            curves.append(
                curve(
                    "multi",
                    2.0 - 0.2 * STEPS + 0.1 * k,
                    accuracy=0.5 - 0.01 * k,
                    factors={("mean_cosine", "shared"): cosine},
                    **own,
                )
            )
    return frame(*curves)


def test_conflict_beside_its_effects():
    found = analysis.conflict_effects(records())
    k = found["task"].map("abc".index)
    np.testing.assert_allclose(found["conflict"], 0.1 * k)
    np.testing.assert_allclose(found["effect"], 0.1 * k, atol=1e-12)
    np.testing.assert_allclose(found["transfer"], -0.01 * k, atol=1e-12)
    assert len(found) == 3 * 4 and set(found["step"]) == {-1}
    assert set(found["transfer_name"]) == {"accuracy"}
    per_step = analysis.conflict_effects(records(), per_step=True)
    assert len(per_step) == 3 * 4 * 3
    assert set(per_step["step"]) == {1, 2, 3}  # the conflict of step 0 is NaN


@pytest.mark.parametrize("per_step", [False, True])
def test_correlations_with_optimization_and_transfer(per_step):
    table = analysis.conflict_effects(records(), per_step=per_step)
    harm = analysis.correlate(table, "conflict", "effect").set_index("statistic")
    assert harm["value"].to_dict() == pytest.approx(dict.fromkeys(harm.index, 1.0))
    found = analysis.correlate(table, "conflict", "transfer").set_index("statistic")
    assert found.loc["spearman", "value"] == pytest.approx(-1)
    assert found.loc["sign_agreement", "value"] == 0


def test_transfer_of_the_loss_is_turned():
    found = analysis.conflict_effects(records().query("name != 'accuracy'"))
    k = found["task"].map("abc".index)
    np.testing.assert_allclose(found["transfer"], -0.1 * k, atol=1e-12)
    assert set(found["transfer_name"]) == {"loss"}


def test_only_steps_at_which_every_seed_has_a_conflict():
    df = records()
    gone = (df["name"] == "mean_cosine") & (df["seed"] == 1) & (df["step"] == 2)
    found = analysis.conflict_effects(df[~gone], per_step=True)
    assert set(found["step"]) == {1, 3} and found["conflict"].notna().all()


def test_not_comparable_and_unrecorded():
    df = records()
    no_multi = df[~((df["task"] == "b") & (df["variant"] == "multi"))]
    found = analysis.conflict_effects(no_multi)
    (row,) = found.query("task == 'b'").to_dict("records")
    assert not row["comparable"] and row["reason"] == "no curve of 'multi'"
    bare = df[~((df["task"] == "b") & (df["name"] == "mean_cosine"))]
    (row,) = analysis.conflict_effects(bare).query("task == 'b'").to_dict("records")
    assert row["reason"] == "no step with the conflict and loss of all seeds"
    with pytest.raises(InputError, match="gradient conflict must be among"):
        analysis.conflict_effects(df[df["name"] != "mean_cosine"])
    result = analysis.correlate(found, "conflict", "effect")
    assert set(result["not_comparable"]) == {1} and set(result["tasks"]) == {2}
