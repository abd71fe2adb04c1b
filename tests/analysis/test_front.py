"""Fronts: hypervolumes against a count of a grid, and of records drawn by hand."""

import numpy as np
import pandas as pd
import pytest

from mtl_jax.analysis import fronts, hypervolume, undominated

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_hypervolume_is_the_share_of_a_grid(tasks):
    points = RNG.integers(0, 9, size=(7, tasks)) / 8
    reference = np.ones(tasks)
    cells = (np.stack(np.meshgrid(*[np.arange(8)] * tasks), axis=-1) + 0.5) / 8
    dominated = (points <= cells.reshape(-1, 1, tasks)).all(axis=2).any(axis=1)
    assert hypervolume(points, reference) == pytest.approx(dominated.mean(), abs=1e-12)


def test_hypervolume_of_what_is_beyond_the_reference():
    points = np.array([[0.5, 2.0], [0.5, 1.0]])
    assert hypervolume(points, [1.0, 1.0]) == 0
    assert hypervolume(np.zeros((0, 2)), [1.0, 1.0]) == 0


def test_undominated():
    points = RNG.integers(0, 5, size=(20, 2)).astype(float)
    slow = [not any((q <= p).all() and (q < p).any() for q in points) for p in points]
    assert undominated(points).tolist() == slow


def records(front, seeds=2, family="multi-pbi", tasks=("a", "b")):
    """Draw runs that start at losses of 2 and end at those of a front ``[N, T]``."""
    rows = []
    for number, losses in enumerate(np.asarray(front, float)):
        ray = "/".join(map(str, losses))
        for seed in range(seeds):
            for task, loss in zip(tasks, losses, strict=True):
                for step, value in ((0, 2.0), (10, loss * (1 + seed))):
                    rows.append(
                        (f"{family}@preference={ray}", number, seed, step, task, value)
                    )
    df = pd.DataFrame(rows, columns=["variant", "run", "seed", "step", "task", "value"])
    return df.assign(
        setting="s",
        learning_rate=0.1,
        batch_size=8,
        split="test",
        scope="",
        name="loss",
    )


def test_fronts_of_records():
    table = fronts(records([(0.1, 0.5), (0.2, 0.2), (0.5, 0.1), (0.5, 0.5)]))
    (row,) = table.to_dict("records")
    assert (row["family"], row["preferences"], row["seeds"]) == ("multi-pbi", 4, 2)
    assert row["undominated"] == 3 and row["reason"] == ""
    # Relative to 2; of the second seed twice as far.
    first = (1 - 0.25) * (1 - 0.05) + (0.25 - 0.1) * (1 - 0.1) + 0.05 * (1 - 0.25)
    second = (1 - 0.5) * (1 - 0.1) + (0.5 - 0.2) * (1 - 0.2) + 0.1 * (1 - 0.5)
    assert row["volume"] == pytest.approx((first + second) / 2)


def test_few_preferences_and_many_tasks():
    assert fronts(records([(0.1, 0.5), (0.2, 0.2)])).empty
    many = np.eye(6)[:3] + 0.1
    (row,) = fronts(records(many, tasks=tuple("abcdef"))).to_dict("records")
    assert np.isnan(row["volume"]) and row["reason"] == "6 tasks, more than 5"
