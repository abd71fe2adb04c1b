"""Arrays of anybody as tasks: checked, padded where they may be, and put in one pool.

>>> import numpy as np
>>> flowers = Task(train=(np.ones((4, 3)), [0, 1, 0, 1]), objective="softmax")
>>> heights = Task(train=(np.ones((6, 2)), np.ones(6)), objective="gaussian")
>>> dataset = from_arrays({"flowers": flowers, "heights": heights})
>>> dataset.x.shape, dataset.widths
((10, 3), (2, 1))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_jax.data.dataset import Dataset
from mtl_jax.objectives.losses import Objective, named
from mtl_jax.objectives.missing import is_labelled, skip_missing
from mtl_jax.objectives.targets import BINARY, CLASSES
from mtl_jax.types import InputError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Task:
    """A task: examples of its splits, and what it is judged by.

    A split is a pair ``(x [N, ...], y [N, ...])`` of arrays or lists, or ``y`` alone
    where all tasks share the inputs. Labels that are missing are NaN, or -1 for tasks
    of classes: such an example is left out.
    """

    train: Any
    objective: str | Objective = "softmax"
    """A name in `objectives.losses.OBJECTIVES`, or an objective of one's own."""
    validation: Any = None
    test: Any = None
    outputs: int | None = None
    """Numbers that the head gives; if not given, 1 more than the largest label of a
    task of classes, and 1 of others."""


def from_arrays(
    tasks: Mapping[str, Task], inputs: Mapping[str, Any] | None = None
) -> Dataset:
    """Make a data set of tasks.

    Args:
      tasks: by their names, at least one. Vectors of unlike widths are filled up with
        zeros; other inputs are of one shape.
      inputs: of every split ``[N, ...]``, where all tasks have a label of each of them.

    Raises:
      InputError: what cannot be an example, a label or an objective; a split that some
        tasks have and others lack.
    """
    if not isinstance(tasks, Mapping) or not tasks:
        raise InputError(
            f"tasks is {tasks!r}; pass a dictionary of names to mtl_jax.Task."
        )
    if inputs is not None and not isinstance(inputs, Mapping):
        raise InputError(
            f"inputs is a {type(inputs).__name__}; pass a dictionary of splits to "
            f"arrays: inputs={{'train': x}}."
        )
    for name, task in tasks.items():
        if not isinstance(name, str):
            raise InputError(f"a task has the name {name!r}; names are texts.")
        if not isinstance(task, Task):
            raise InputError(
                f"task {name!r} is a {type(task).__name__}; pass "
                f"mtl_jax.Task(train=(x, y), objective=...)."
            )
    objectives = {name: _objective(name, task) for name, task in tasks.items()}
    splits = _splits(tasks)
    x, y, rows = _shared(tasks, inputs, splits) if inputs else _apart(tasks, splits)
    widths = []
    for i, (name, task) in enumerate(tasks.items()):
        labels = [y[rows[s][i], i] if inputs else y[rows[s][i]] for s in splits]
        seen = np.concatenate(labels)
        widths.append(_width(name, task, objectives[name], seen))
        if seen.ndim == 1 and not is_labelled(objectives[name], seen).all():
            objectives[name] = skip_missing(objectives[name])
    return Dataset(
        tasks=tuple(tasks),
        x=x,
        y=y,
        rows=rows,
        objectives=tuple(objectives.values()),
        widths=tuple(widths),
        provenance={"sources": {"arrays": {"kind": "arrays", "files": {}}}},
        one_input=bool(inputs),
    )


def _objective(name: str, task: Task) -> Objective:
    try:
        return named(task.objective)
    except InputError as error:
        raise InputError(f"task {name!r}: {error}") from error


def _splits(tasks: Mapping[str, Task]) -> list[str]:
    """Return the splits that the tasks have; all have the same ones."""
    given = {
        name: [s for s in SPLITS if getattr(task, s) is not None]
        for name, task in tasks.items()
    }
    first, *others = given.items()
    for name, splits in others:
        if splits != first[1]:
            raise InputError(
                f"task {first[0]!r} has the splits {', '.join(first[1])}, and task "
                f"{name!r} has {', '.join(splits)}; give all tasks the same ones."
            )
    return first[1]


def _array(whose: str, values: Any) -> np.ndarray:
    """Return values as an array of numbers: float32, int32, or uint8 for images."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{whose} are no array: {error}.") from error
    if array.dtype == bool:
        array = array.astype(np.int32)
    if array.dtype.kind not in "iuf":
        raise InputError(
            f"{whose} are of type {array.dtype}; pass numbers: encode texts and "
            f"categories first."
        )
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array if array.dtype == np.uint8 else array.astype(np.int32)


def _inputs(whose: str, values: Any) -> np.ndarray:
    x = _array(f"inputs of {whose}", values)
    if x.ndim == 0 or len(x) == 0:
        raise InputError(f"inputs of {whose} have the shape {x.shape}; pass [N, ...].")
    if x.dtype == np.float32 and not np.isfinite(x).all():
        where = np.argwhere(~np.isfinite(x))[0].tolist()
        raise InputError(
            f"inputs of {whose} hold {x[tuple(where)]} at {where}; replace what is not "
            f"finite, such as by the mean of its column."
        )
    return x


def _labels(whose: str, values: Any, count: int, objective: Objective) -> np.ndarray:
    y = _array(f"labels of {whose}", values)
    y = y.astype(np.int32) if y.dtype == np.uint8 else y
    if y.ndim == 0 or len(y) != count:
        raise InputError(
            f"labels of {whose} have the shape {y.shape}, and there are {count} "
            f"inputs; pass a label for each."
        )
    if y.ndim == 2 and y.shape[1] == 1:
        raise InputError(
            f"labels of {whose} have the shape {y.shape}; pass y[:, 0], one number an "
            f"example."
        )
    if objective.targets is BINARY and set(np.unique(y).tolist()) == {-1, 1}:
        raise InputError(
            f"labels of {whose} are -1 and 1, and -1 is a missing one; pass 0 and 1: "
            f"(y + 1) // 2."
        )
    return y


def _apart(tasks: Mapping[str, Task], splits: list[str]) -> tuple[Any, Any, Any]:
    """Pool, labels and rows of tasks that bring their own inputs."""
    inputs, labels, rows = [], [], {split: [] for split in splits}
    start = 0
    for name, task in tasks.items():
        for split in splits:
            whose = f"task {name!r} ({split})"
            pair = getattr(task, split)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise InputError(
                    f"{whose} is no pair (x, y); pass one, or the inputs that all "
                    f"tasks share as setting(inputs=...)."
                )
            x = _inputs(whose, pair[0])
            objective = _objective(name, task)
            y = _labels(whose, pair[1], len(x), objective)
            there = np.asarray(is_labelled(objective, y))
            if there.ndim == 1:  # pixels are left out one by one
                x, y = x[there], y[there]
            if len(x) == 0:
                raise InputError(f"{whose} has no example with a label.")
            if split != splits[0] and x.shape[1:] != inputs[-1][1].shape[1:]:
                raise InputError(
                    f"inputs of {whose} are {x.shape[1:]} and those of {inputs[-1][0]} "
                    f"{inputs[-1][1].shape[1:]}; a task has inputs of one shape."
                )
            inputs.append((whose, x))
            labels.append(y)
            rows[split].append(np.arange(start, start + len(x), dtype=np.int32))
            start += len(x)
    return _pooled(inputs), _joined(labels), {s: tuple(r) for s, r in rows.items()}


def _shared(
    tasks: Mapping[str, Task], inputs: Mapping[str, Any], splits: list[str]
) -> tuple[Any, Any, Any]:
    """Pool, labels ``[N, T]`` and rows of tasks that share their inputs."""
    if set(inputs) != set(splits):
        raise InputError(
            f"inputs have the splits {', '.join(inputs)}, and the tasks "
            f"{', '.join(splits)}; give both the same ones."
        )
    xs = [(split, _inputs(split, inputs[split])) for split in splits]
    for split, x in xs:
        if x.shape[1:] != xs[0][1].shape[1:]:
            raise InputError(
                f"inputs of {split} are {x.shape[1:]} and those of {xs[0][0]} "
                f"{xs[0][1].shape[1:]}; all splits have inputs of one shape."
            )
    columns = [
        _joined(
            [
                _labels(
                    f"task {name!r} ({split})",
                    getattr(task, split),
                    len(x),
                    _objective(name, task),
                )
                for split, x in xs
            ]
        )
        for name, task in tasks.items()
    ]
    y = np.stack(_alike(columns), axis=1)
    ends = np.cumsum([len(x) for _, x in xs])
    rows = {
        split: (np.arange(end - len(x), end, dtype=np.int32),) * len(tasks)
        for (split, x), end in zip(xs, ends.tolist(), strict=True)
    }
    return _pooled(xs), y, rows


def _pooled(inputs: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Put inputs in one pool; vectors are filled up with zeros to the widest."""
    types = {x.dtype: whose for whose, x in reversed(inputs)}
    if np.dtype(np.uint8) in types and len(types) > 1:
        other = next(dtype for dtype in types if dtype != np.uint8)
        raise InputError(
            f"inputs of {types[np.dtype(np.uint8)]} are uint8, to be divided by 255, "
            f"and those of {types[other]} are {other}; bring them to one type."
        )
    arrays = _alike([x for _, x in inputs])
    if all(x.ndim == 2 for x in arrays):
        widest = max(x.shape[1] for x in arrays)
        arrays = [np.pad(x, ((0, 0), (0, widest - x.shape[1]))) for x in arrays]
    for (whose, _), x in zip(inputs, arrays, strict=True):
        if x.shape[1:] != arrays[0].shape[1:]:
            raise InputError(
                f"inputs of {inputs[0][0]} are {arrays[0].shape[1:]} and those of "
                f"{whose} {x.shape[1:]}; bring them to one shape."
            )
    return np.concatenate(arrays)


def _joined(labels: list[np.ndarray]) -> np.ndarray:
    labels = _alike(labels)
    for y in labels:
        if y.shape[1:] != labels[0].shape[1:]:
            raise InputError(
                f"labels have the shapes [N, {labels[0].shape[1:]}] and [N, "
                f"{y.shape[1:]}]; tasks of one setting have labels of one shape."
            )
    return np.concatenate(labels)


def _alike(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Give arrays one type: float32 where one of them is, for all of them."""
    kinds = {array.dtype for array in arrays}
    if len(kinds) == 1:
        return arrays
    return [array.astype(np.float32) for array in arrays]


def _width(name: str, task: Task, objective: Objective, y: np.ndarray) -> int:
    """Return the outputs of a task's head; its labels are checked by the setting."""
    if task.outputs is not None:
        if not isinstance(task.outputs, int) or task.outputs < 1:
            raise InputError(
                f"task {name!r}: outputs is {task.outputs!r}; it must be a whole "
                f"number of at least 1."
            )
        return task.outputs
    if objective.is_scalar:
        return 1
    if objective.targets is not CLASSES:
        raise InputError(
            f"task {name!r} does not say how many numbers its head gives; pass "
            f"outputs=..., such as the number of classes."
        )
    there = np.asarray(is_labelled(objective, y))
    return max(int(y[there].max()) + 1, 1) if there.any() else 1
