"""Checks that the data sets of all settings pass."""

import json

import numpy as np


def sizes(dataset):
    return {split: tuple(map(len, rows)) for split, rows in dataset.rows.items()}


def everything(dataset):
    """Join the rows of all splits; those of one task where all tasks have the same."""
    count = 1 if dataset.one_input else len(dataset.tasks)
    return np.concatenate([np.concatenate(r[:count]) for r in dataset.rows.values()])


def assert_sound(dataset):
    """Check what holds for all settings: disjoint int32 rows, labels, JSON."""
    rows = everything(dataset)
    assert rows.dtype == np.int32
    assert len(set(rows.tolist())) == len(rows)
    assert rows.min() >= 0 and rows.max() < len(dataset.x)
    assert dataset.x.dtype == np.uint8
    assert np.issubdtype(dataset.y.dtype, np.signedinteger)
    assert list(dataset.rows) == ["train", "validation", "test"]
    for of_tasks in dataset.rows.values():
        assert len(of_tasks) == len(dataset.tasks) == len(dataset.objectives)
        for task, (r, width) in enumerate(zip(of_tasks, dataset.widths, strict=True)):
            y = dataset.y[:, task] if dataset.one_input else dataset.y
            assert set(y[r].tolist()) <= set(range(max(width, 2)))
            assert r is of_tasks[0] or not dataset.one_input
    assert json.loads(json.dumps(dataset.provenance)) == dataset.provenance
    assert {"sources", "seed", "remarks"} == set(dataset.provenance)


def assert_seeded(load, splits=("train", "validation", "test")):
    """Check that the seed decides all rows, and another one changes these splits."""
    first, again, other = load(seed=0), load(seed=0), load(seed=1)
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.y, again.y)
    np.testing.assert_array_equal(everything(first), everything(again))
    for split in splits:
        for a, b in zip(first.rows[split], other.rows[split], strict=True):
            assert set(a.tolist()) != set(b.tolist())
