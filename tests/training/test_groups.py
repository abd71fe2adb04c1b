"""Groups of tasks: what texts mean, random sets, and the stacks that they make."""

from typing import Any

import numpy as np
import pytest

from configs import default
from mtl_jax.training import groups, variants
from mtl_jax.training.groups import Draw
from mtl_jax.types import InputError

TASKS = ("a", "b", "c", "d")
SIZES = (200, 256, 100, 100)
DRAW = Draw(sizes=(1, 2, 3), sets=2, seed=0)


def config(*names: str, **changes: Any) -> Any:
    made: Any = default.get_config()
    made.variants = names
    made.groups.sizes = (1, 2)
    made.groups.sets = 2
    made.update_from_flattened_dict(changes)
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b+a", ["a+b"]),
        ("b/c", ["b/c"]),
        ("d/c+a", ["d/a+c"]),
        ("b/each", ["b/a", "b/c", "b/d"]),
        ("b/all", ["b/a+c+d"]),
        ("pairs", ["a+b", "a+c", "a+d", "b+c", "b+d", "c+d"]),
    ],
)
def test_texts(text, expected):
    parsed = groups.parse(text, TASKS, DRAW)
    assert [group.text(TASKS) for group in parsed] == expected
    targets = {group.target(TASKS) for group in parsed}
    assert targets == {text[0] if "/" in text else ""}


def test_random_sets_are_different_and_their_own_names():
    drawn = groups.parse("a/random", TASKS, DRAW)
    assert [len(group.tasks) for group in drawn] == [2, 2, 3, 3, 4]  # one set of all
    assert len({group.tasks for group in drawn}) == len(drawn)
    assert all(group.tasks[0] == 0 and 0 not in group.tasks[1:] for group in drawn)
    for group in drawn:
        assert groups.parse(group.name, TASKS, DRAW) == [group]
    # A longer list begins with the same sets, whatever other sizes there are.
    assert groups.parse("a/2.2", TASKS, Draw((2,), 3, 0)) == [drawn[3]]
    other = [groups.parse("a/2.1", TASKS, Draw((2,), 2, s))[0].tasks for s in range(9)]
    assert len(set(other)) > 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a+e", ["'a+e' has no task 'e'", "a, b, c, d"]),
        ("a+b+a", ["'a' twice"]),
        ("a", ["'a' has one task", "a/OTHER", "single:a"]),
        ("a/b+a", ["'a' as its target and as an auxiliary"]),
        ("a/", ["no task ''"]),
        ("a/4.1", ["4", "'a' has 3 other tasks"]),
        ("a/2.3", ["2 sets are drawn", "groups.sets"]),
    ],
)
def test_texts_that_name_no_group(text, words):
    with pytest.raises(InputError) as error:
        groups.parse(text, TASKS, DRAW)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"groups.sizes": (0,)}, "groups.sizes"),
        ({"groups.sets": 0}, "groups.sets is 0; it must be a whole number, at least 1"),
        ({"groups.seed": -1}, "groups.seed is -1"),
    ],
)
def test_draws_out_of_range(changes, words):
    with pytest.raises(InputError, match=words):
        variants.make_all(config("multi:a/random", **changes), TASKS, SIZES)


def test_groups_of_one_size_are_one_stack():
    names = "single:b", "multi:b/each", "multi:a/all", "multi:a+b", "single:a"
    stacks = variants.make_all(config(*names, seeds=(5, 6)), TASKS, SIZES)
    assert [stack.task_ids[:3].tolist() for stack in stacks] == [
        [[1], [0], [1]],
        [[1, 0], [1, 2], [1, 3]],
        [[0, 1, 2, 3]] * 2,
        [[0, 1]] * 2,
    ]
    assert [stack.measured for stack in stacks] == [1, 1, 1, 2]
    single, pairs, *_ = (stack.labels for stack in stacks)
    assert {(label.variant, label.group, label.target) for label in single} == {
        ("single", "", "")
    }
    assert [label.number for label in single] == [0, 1, 2, 3]
    assert pairs[0] == ("multi:b/a", 0, "b/a", "b")
    assert pairs[3] == ("multi:b/a", 1, "b/a", "b")  # of the second seed


def test_a_method_that_counts_epochs_has_a_stack_for_every_size_of_tasks():
    stacks = variants.make_all(config("multi-dwa:a/each"), TASKS, SIZES)
    assert [stack.name for stack in stacks] == [
        "multi-dwa:a/b",
        "multi-dwa of 2 tasks",
    ]


def test_expanded_names_mean_the_same():
    made = config("single", "multi:b/random", "multi-pcgrad")
    expanded = variants.expand(made, TASKS)
    assert expanded[:2] == ("single", "multi:b/1.1") and len(expanded) == 6
    again = config(*expanded)
    assert variants.expand(again, TASKS) == expanded
    for stack, same in zip(
        variants.make_all(made, TASKS, SIZES),
        variants.make_all(again, TASKS, SIZES),
        strict=True,
    ):
        np.testing.assert_array_equal(stack.task_ids, same.task_ids)
        assert stack.labels == same.labels


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (("multi:a/b", "multi:a/each"), "multi:a/b twice"),
        (("single", "single:a"), "single:a twice"),
    ],
)
def test_groups_named_twice(names, word):
    with pytest.raises(InputError, match=word):
        variants.make_all(config(*names), TASKS, SIZES)
