"""Arrays of anybody as tasks: what the pool holds, and what is refused."""

from typing import Any

import numpy as np
import pytest

from mtl_jax.data.arrays import Task, from_arrays
from mtl_jax.objectives.losses import GAUSSIAN
from mtl_jax.types import InputError

X = np.arange(12.0).reshape(4, 3)
Y = np.array([0, 1, 2, 1])


def task(**changes) -> Task:
    fields: Any = {"train": (X, Y), "test": (X[:2], Y[:2]), **changes}
    return Task(**fields)


def test_unlike_tasks_share_a_pool():
    narrow = task(train=([[1], [2]], [0.5, 1.5]), test=([[3]], [2.5]))
    numbers = Task(narrow.train, "gaussian", test=narrow.test)
    dataset = from_arrays({"classes": task(), "numbers": numbers})
    assert dataset.widths == (3, 1) and not dataset.one_input
    assert dataset.x.dtype == np.float32 and dataset.y.dtype == np.float32
    rows = dataset.rows["train"]
    np.testing.assert_array_equal(dataset.x[rows[0]], X)
    np.testing.assert_array_equal(dataset.x[rows[1]], [[1, 0, 0], [2, 0, 0]])
    np.testing.assert_array_equal(dataset.y[rows[0]], Y)
    np.testing.assert_array_equal(dataset.y[dataset.rows["test"][1]], [2.5])


def test_images_and_classes_stay_whole():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    dataset = from_arrays({"a": task(train=(images, Y), test=None)})
    assert dataset.x.dtype == np.uint8 and dataset.y.dtype == np.int32


def test_examples_without_a_label_are_left_out():
    dataset = from_arrays({"a": task(train=(X, [0, -1, 1, np.nan]), test=None)})
    np.testing.assert_array_equal(dataset.x, X[[0, 2]])
    assert dataset.widths == (2,)


def test_one_input_with_several_labels():
    tasks = {
        "a": Task(train=Y, test=[0, -1]),
        "b": Task(train=Y / 2, test=[0.0, 1.0], objective="gaussian"),
    }
    dataset = from_arrays(tasks, {"train": X, "test": X[:2]})
    assert dataset.one_input and dataset.y.shape == (6, 2)
    skips, plain = (o.labelled is not None for o in dataset.objectives)  # type: ignore[union-attr]
    assert skips and not plain
    np.testing.assert_array_equal(dataset.rows["test"][0], [4, 5])


BAD = {
    "no tasks": ({}, "pass a dictionary of names to mtl_jax.Task"),
    "no task": ({"a": (X, Y)}, "task 'a' is a tuple; pass mtl_jax.Task"),
    "objective": ({"a": task(objective="sofmax")}, "'a': .*did you mean 'softmax'"),
    "no pair": ({"a": task(train=X[:3])}, r"task 'a' \(train\) is no pair"),
    "lengths": ({"a": task(train=(X, Y[:3]))}, r"shape \(3,\).*4 inputs"),
    "ragged": ({"a": task(train=([[1], [1, 2]], [0, 1]))}, "inputs of task 'a'.*array"),
    "words": ({"a": task(train=(X, list("abcd")))}, "labels of .* numbers: encode"),
    "not finite": ({"a": task(train=(X + np.inf, Y))}, r"hold .* at \[0, 0\]; replace"),
    "column": ({"a": task(train=(X, Y[:, None]))}, r"pass y\[:, 0\]"),
    "no label": ({"a": task(train=(X, -np.ones(4)))}, "no example with a label"),
    "name": ({1: task()}, "the name 1; names are texts"),
    "width": ({"a": task(test=(X[:, :2], Y))}, r"test\) are \(2,\) .*train\) \(3,\)"),
    "types": (
        {"a": task(train=(X.astype(np.uint8), Y))},
        r"\(train\) are uint8, .*\(test\) are float32; bring them to one type",
    ),
    "splits": ({"a": task(), "b": task(test=None)}, "'a' has .*test, and task 'b' has"),
    "shapes": (
        {"a": task(), "b": task(train=(X[:, None], Y), test=(X[:2, None], Y[:2]))},
        r"\(3,\) and those of task 'b' \(train\) \(1, 3\); bring",
    ),
    "signs": (
        {"a": task(train=(X, [-1, 1, 1, -1]), test=None, objective="bernoulli")},
        r"are -1 and 1, and -1 is a missing one; pass 0 and 1",
    ),
    "outputs": ({"a": task(outputs=0)}, "outputs is 0; it must be"),
    "own objective": (
        {"a": task(objective=GAUSSIAN._replace(is_scalar=False))},
        "how many numbers its head gives; pass outputs",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name):
    tasks, message = BAD[name]
    with pytest.raises(InputError, match=message):
        from_arrays(tasks)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (X, "inputs is a ndarray; pass a dictionary of splits"),
        (
            {"train": X, "test": X[:, :2]},
            r"inputs of test are \(2,\) and tho",
        ),
    ],
)
def test_shared_inputs_that_are_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        from_arrays({"a": Task(train=Y, test=Y)}, inputs)


def test_inputs_of_other_splits():
    with pytest.raises(InputError, match="inputs have the splits train, and the tasks"):
        from_arrays({"a": Task(train=Y, test=Y)}, {"train": X})
