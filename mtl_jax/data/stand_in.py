"""Stand-ins for data sets: shapes and sizes of the official data, without its files.

All examples are zeros that take no memory, so that programs can be compiled for data
that is elsewhere.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mtl_jax.data import celeba, cifar, cifar100, cityscapes, fashion_mtl, glue, mnists
from mtl_jax.data.celeba_files import ATTRIBUTES
from mtl_jax.data.dataset import Dataset
from mtl_jax.data.glue_files import EXAMPLES
from mtl_jax.objectives.label_words import LABEL_WORDS

GRAY = (28, 28, 1)
SPLITS = ("train", "validation", "test")


def dataset(setting: str, **options: Any) -> Dataset | None:
    """Make the stand-in for a setting's data.

    >>> made = dataset("celeba", size=32)
    >>> made.x.shape, len(made.tasks), len(made.rows["train"][0])
    ((202599, 32, 32, 3), 40, 162770)

    Args:
      setting: its name.
      **options: of its loader; those that say nothing of shapes are ignored.

    Returns:
      None where the setting has no official data.
    """
    make = STAND_INS.get(setting)
    if make is None:
        return None
    known = inspect.signature(make).parameters
    return make(**{name: value for name, value in options.items() if name in known})


def _fashion_mtl() -> Dataset:
    return _classes(fashion_mtl.TASKS, _alike(fashion_mtl.SIZES, 4), GRAY, 10)


def _mnists() -> Dataset:
    return _classes(mnists.TASKS, _alike(mnists.SIZES, 3), GRAY, 10)


def _cifar100(grouping: str = "coarse") -> Dataset:
    tasks = cifar100.names_of(grouping)
    width = cifar.FINE // len(tasks)
    train, test = (width * cifar100.COUNTS[split] for split in ("train", "test"))
    sizes = train, test // 2, test // 2
    if grouping == "coarse":
        sizes = train - train // 5, train // 5, test
    splits: dict[str, int] = dict(zip(SPLITS, sizes, strict=True))
    return _classes(tasks, _alike(splits, len(tasks)), (32, 32, 3), width)


def _celeba(attributes: tuple[str, ...] = (), size: int = 64) -> Dataset:
    tasks = tuple(ATTRIBUTES[column] for column in celeba.columns_of(attributes))
    return _dataset(
        tasks,
        _alike(celeba.COUNTS, len(tasks)),
        np.zeros((size, size, 3), np.uint8),
        np.zeros(len(tasks), np.int8),
        ("bernoulli_f1",) * len(tasks),
        (1,) * len(tasks),
        one_input=True,
    )


def _cityscapes(classes: int = 7, size: tuple[int, int] = (128, 256)) -> Dataset:
    train, test = cityscapes.COUNTS.values()
    sizes = cityscapes.TRAIN, train - cityscapes.TRAIN, test
    splits: dict[str, int] = dict(zip(SPLITS, sizes, strict=True))
    return _dataset(
        cityscapes.TASKS,
        _alike(splits, 2),
        np.zeros((*size, 3), np.uint8),
        np.zeros((2, *size), np.float32),
        cityscapes.TASKS,
        (classes, 1),
        one_input=True,
    )


def _glue(tasks: tuple[str, ...] = (), length: int = 128) -> Dataset:
    names = glue.names_of(tasks)
    objectives, widths = glue.heads(names)
    x, y = np.zeros(length, np.uint16), np.float32(0)
    return _dataset(names, _glue_sizes(names), x, y, objectives, widths)


def _glue_text(tasks: tuple[str, ...] = (), length: int = 128) -> Dataset:
    names = glue.names_of(tasks)
    objectives, widths = glue.words(names)
    x, y = np.zeros(length, np.uint16), np.int32(LABEL_WORDS["0.0"])
    sizes = _glue_sizes(names)
    return _dataset(names, sizes, x, y, objectives, widths, shared_output=True)


STAND_INS: dict[str, Callable[..., Dataset]] = {
    "fashion_mtl": _fashion_mtl,
    "mnists": _mnists,
    "cifar100": _cifar100,
    "celeba": _celeba,
    "cityscapes": _cityscapes,
    "glue": _glue,
    "glue_text": _glue_text,
}
"""By name of the setting; the others need no files, or are the user's."""


def _alike(sizes: Mapping[str, int], tasks: int) -> dict[str, Sequence[int]]:
    return {split: (size,) * tasks for split, size in sizes.items()}


def _glue_sizes(names: Sequence[str]) -> dict[str, Sequence[int]]:
    train = [EXAMPLES[name][0] for name in names]
    held_out = [glue.held_out(count) for count in train]
    return {
        "train": [count - held for count, held in zip(train, held_out, strict=True)],
        "validation": held_out,
        "test": [EXAMPLES[name][1] for name in names],
    }


def _classes(
    tasks: Sequence[str],
    sizes: Mapping[str, Sequence[int]],
    shape: tuple[int, ...],
    width: int,
) -> Dataset:
    """Images of so many classes, own ones of every task."""
    x, y, count = np.zeros(shape, np.uint8), np.int32(0), len(tasks)
    return _dataset(tasks, sizes, x, y, ("softmax",) * count, (width,) * count)


def _dataset(
    tasks: Sequence[str],
    sizes: Mapping[str, Sequence[int]],
    x: Any,
    y: Any,
    objectives: Sequence[str],
    widths: Sequence[int],
    *,
    one_input: bool = False,
    shared_output: bool = False,
) -> Dataset:
    """A data set that repeats one example, ``x`` and ``y``.

    Args:
      tasks: their names.
      sizes: examples of every split and task.
      x: input of an example.
      y: targets of an example.
      objectives: as in `Dataset`.
      widths: as in `Dataset`.
      one_input: as in `Dataset`.
      shared_output: as in `Dataset`.
    """
    rows: dict[str, tuple[np.ndarray, ...]] = {}
    start = 0
    for split, counts in sizes.items():
        parts = []
        for count in counts:
            parts.append(np.arange(start, start + count, dtype=np.int32))
            start += 0 if one_input else count
        start += counts[0] if one_input else 0
        rows[split] = tuple(parts)
    return Dataset(
        tasks=tuple(tasks),
        x=np.broadcast_to(x, (start, *np.shape(x))),
        y=np.broadcast_to(y, (start, *np.shape(y))),
        rows=rows,
        objectives=tuple(objectives),
        widths=tuple(widths),
        provenance={"remarks": ["zeros that stand in for the official data"]},
        one_input=one_input,
        shared_output=shared_output,
    )
