import numpy as np
import pandas as pd
import pytest

from mtl_jax import analysis
from tests.analysis.synthetic import curve, frame

STEPS = np.array([0, 1, 10, 100])
LOSSES = np.array([2.0, 1.5, 1.7, 0.5])  # not monotone: raw losses are compared


def test_difference_of_losses_at_equal_step():
    effect = np.array([0.0, 0.1, 0.2, -0.1])
    curves = [
        curve(v, LOSSES + (v == "multi") * effect + seed, steps=STEPS, seed=seed)
        for v in ("single", "multi")
        for seed in (0, 1)
    ]
    table = analysis.optimization_effect(frame(*curves)).query("task == 'a'")
    assert table["step"].tolist() == STEPS.tolist()
    np.testing.assert_allclose(table["effect"], effect, atol=1e-12)
    # Paired by seed, all seeds have the same difference.
    np.testing.assert_allclose(table["high"] - table["low"], 0, atol=1e-9)
    assert set(table["seeds"]) == {2}


def test_only_steps_that_all_sound_curves_have():
    df = frame(
        curve("single", LOSSES, steps=STEPS),
        curve("single", LOSSES, steps=STEPS, seed=1),
        curve("multi", [3.0, np.inf, 1.0, 0.9], steps=[0, 1, 10, 15]),
        curve("multi", [5.0, 5.0, 3.0, 2.0], steps=[0, 1, 10, 20], seed=1),
        curve("multi", [9.0, 9.0], seed=2, diverged=1),
        curve("single", [1.0, 0.5, 0.4], steps=[0, 7, 8], task="b"),
        curve("multi", [1.5, 1.0, 0.5], steps=[0, 7, 9], task="b"),
    )
    table = analysis.optimization_effect(df)
    of_a, of_b = (table[table["task"] == task] for task in "ab")
    assert of_a["step"].tolist() == [0, 10]
    np.testing.assert_allclose(of_a["effect"], [2.0, 2 - 1.7])
    assert set(of_a["mt_diverged"]) == {1} and set(of_a["seeds"]) == {2}
    assert of_b["step"].tolist() == [0, 7]
    over_tasks = table[table["task"] == ""]
    assert over_tasks["step"].tolist() == [0]  # at which every task has one
    np.testing.assert_allclose(over_tasks["effect"], [0.75])


@pytest.mark.parametrize(
    ("multi", "reason"),
    [
        (curve("multi", LOSSES, steps=STEPS + 1000), "no step at which all"),
        (curve("multi", LOSSES, diverged=2), "no sound curve of 'multi'"),
    ],
)
def test_not_comparable(multi, reason):
    table = analysis.optimization_effect(
        frame(curve("single", LOSSES, steps=STEPS), multi)
    )
    row = table[table["task"] == "a"].iloc[0]
    assert len(table) == 2 and not row["comparable"] and reason in row["reason"]
    assert row["step"] == -1 and np.isnan(row["effect"])


def test_a_probe_that_was_not_evaluated_is_said():
    df = frame(*(curve(v, LOSSES, steps=STEPS) for v in ("single", "multi")))
    whole = df[df["split"] == "probe"].assign(split="train")
    table = analysis.optimization_effect(pd.concat([df[df["split"] == "test"], whole]))
    assert not table["comparable"].any()
    assert "no step at which all sound curves have a loss" in set(table["reason"])
