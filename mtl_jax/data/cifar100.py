"""CIFAR-100 as its twenty superclasses, or as tasks of ten classes each."""

import logging
from pathlib import Path

import numpy as np

from mtl_jax.data import cifar
from mtl_jax.data import source as sources
from mtl_jax.data.dataset import Dataset
from mtl_jax.options import one_of
from mtl_jax.types import InputError

TASKS = 10
"""Tasks of a grouping that is ours."""
COUNTS = {"train": 500, "test": 100}
"""Examples of a class in an official split."""
GROUPINGS = ("coarse", "labels", "random", "superclasses")
SUPERCLASSES = (
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
)
"""Official names, in the order of the coarse labels."""

Splits = dict[str, sources.Split]

_log = logging.getLogger(__name__)


def load(
    directory: str = "",
    source: str = "auto",
    seed: int = 0,
    grouping: str = "coarse",
    grouping_seed: int = 0,
    partial: bool = False,
) -> Dataset:
    """Load tasks on disjoint classes; ``x`` is uint8 ``[60000, 32, 32, 3]``.

    The tasks of ``coarse`` are those of Mueller et al. (2025), after Rosenbaum et al.
    (2018, arXiv:1711.01239): 2,000 / 500 / 500 examples. Assumption: the paper has
    2,500 for training and 500 each for validation and test, and CIFAR-100 only 2,500
    and 500 of a superclass, so a fifth of the 2,500, at random, is for validation.

    A task of ten classes, which is ours, has 5,000 / 500 / 500 examples: the official
    train split, and two random halves of the official test split.

    Source: CIFAR-100 (Krizhevsky 2009), as `source.find` looks for it in ``directory``.

    Args:
      directory: holds the folder cifar100.
      source: as in `source.images`.
      seed: holds out validation examples, or halves the test split.
      grouping: which classes make a task. ``coarse``: the five of a superclass.
        ``labels``: ten in label order, which is that of the alphabet. ``random``: ten
        at random. ``superclasses``: the ten of two superclasses, in label order.
      grouping_seed: of ``random``.
      partial: take what is there of a class, down to one example.

    Raises:
      DataMissing: a split is not there.
      InputError: a file is damaged or incomplete, or an option is out of range.
    """
    tasks = names_of(grouping)
    if grouping_seed < 0:
        raise InputError(
            f"data.grouping_seed is {grouping_seed}; it must not be negative"
        )
    file_set = sources.find("cifar100", directory, source)
    splits, origin = sources.read(file_set, counts={})
    incomplete = _incomplete(splits)
    _check(file_set.folder, splits, incomplete, partial)
    x, fine, coarse = (np.concatenate(p) for p in zip(*splits.values(), strict=True))
    groups = _groups(
        grouping, grouping_seed, _superclass(file_set.folder, fine, coarse)
    )
    y = np.empty_like(fine)
    for group in groups:
        for label, number in enumerate(group):
            y[fine == number] = label
    rows = _rows(seed, grouping, groups, splits)
    classes = " | ".join(" ".join(map(str, group)) for group in groups)
    remarks = [f"grouping: {grouping}; classes of the tasks: {classes}"]
    if incomplete:
        sizes = ", ".join(f"{len(y)} {s}" for s, (_, y, _) in splits.items())
        remarks.append(f"cifar100: only {sizes} examples were there; all are used")
        _log.warning(remarks[-1])
    return Dataset(
        tasks=tasks,
        x=x,
        y=y,
        rows=rows,
        objectives=("softmax",) * len(tasks),
        widths=(len(groups[0]),) * len(tasks),
        provenance={"sources": {"cifar100": origin}, "seed": seed, "remarks": remarks},
    )


def names_of(grouping: str) -> tuple[str, ...]:
    """Return the names of the tasks of a grouping.

    Raises:
      InputError: there is no such grouping.
    """
    one_of("grouping of cifar100", grouping, GROUPINGS)
    if grouping == "coarse":
        return SUPERCLASSES
    return tuple(f"{grouping}_{task}" for task in range(TASKS))


def _incomplete(splits: Splits) -> str:
    """Say which class has not as many examples as it should, first of all; or ''."""
    for split, (_, fine, _) in splits.items():
        counts = np.bincount(fine, minlength=cifar.FINE)
        for wrong in np.flatnonzero(counts != COUNTS[split]):
            return (
                f"{len(fine)} {split} examples, {counts[wrong]} of the class {wrong}, "
                f"expected {COUNTS[split] * cifar.FINE} and {COUNTS[split]}"
            )
    return ""


def _check(folder: Path, splits: Splits, incomplete: str, partial: bool) -> None:
    """Refuse data that are incomplete, or of which a class is missing altogether."""
    if incomplete and not partial:
        raise InputError(
            f"cifar100 in {folder} has {incomplete}; get the complete official data, "
            "or take what is there: --config.data.partial=True"
        )
    for split, (_, fine, _) in splits.items():
        missing = np.setdiff1d(np.arange(cifar.FINE), fine)
        if missing.size:
            raise InputError(
                f"cifar100 in {folder} has no {split} example of the class "
                f"{missing[0]}, expected at least 1; add some"
            )


def _superclass(folder: Path, fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """The coarse label of every class ``[100]``, by the examples' two labels."""
    superclass = np.zeros(cifar.FINE, np.int32)
    superclass[fine] = coarse
    wrong = np.flatnonzero(superclass[fine] != coarse)
    if wrong.size:
        number = fine[wrong[0]]
        raise InputError(
            f"cifar100 in {folder} has examples of the class {number} in the "
            f"superclasses {coarse[wrong[0]]} and {superclass[number]}, expected one; "
            "get the official data"
        )
    sizes = np.bincount(superclass, minlength=cifar.COARSE)
    if (sizes != cifar.FINE // cifar.COARSE).any():
        raise InputError(
            f"cifar100 in {folder} has superclasses of {sizes.tolist()} classes, "
            f"expected {cifar.FINE // cifar.COARSE} each; get the official data"
        )
    return superclass


def _groups(grouping: str, seed: int, superclass: np.ndarray) -> np.ndarray:
    """Classes of every task, ``[T, classes]``, each in label order."""
    if grouping == "coarse":
        return np.argsort(superclass, kind="stable").reshape(cifar.COARSE, -1)
    orders = {
        "labels": np.arange(cifar.FINE),
        "random": np.random.default_rng(seed).permutation(cifar.FINE),
        "superclasses": np.argsort(superclass, kind="stable"),
    }
    return np.sort(orders[grouping].reshape(TASKS, -1), axis=1)


def _rows(
    seed: int, grouping: str, groups: np.ndarray, splits: Splits
) -> dict[str, tuple[np.ndarray, ...]]:
    """Rows of every split and task, train before test in the pool."""
    (_, train_y, _), (_, test_y, _) = splits["train"], splits["test"]
    parts = []
    for rng, group in zip(
        np.random.default_rng(seed).spawn(len(groups)), groups, strict=True
    ):
        train, test = (
            rng.permutation(np.flatnonzero(np.isin(y, group))).astype(np.int32)
            for y in (train_y, test_y)
        )
        test += len(train_y)
        if grouping == "coarse":
            held_out = max(1, len(train) // 5)
            parts.append((train[held_out:], train[:held_out], test))
        else:
            half = len(test) // 2
            parts.append((train, test[:half], test[half:]))
    names = ("train", "validation", "test")
    return dict(zip(names, zip(*parts, strict=True), strict=True))
