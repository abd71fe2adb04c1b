"""Fashion MTL: a target task on a half of Fashion-MNIST, and three auxiliary tasks.

Mueller et al. (2025) train fashion_1 with one of them at a time: fashion_2 should help,
noisy_fashion can only be memorised and should harm, and notmnist lies in between.
"""

import logging
from typing import Any

import numpy as np

from mtl_jax.data import source as sources
from mtl_jax.data.dataset import Dataset
from mtl_jax.data.division import divide, remark
from mtl_jax.types import DataMissing, InputError

SIZES = {"train": 25_000, "validation": 5_000, "test": 5_000}
"""Examples per task; train and validation come from the official train split."""

TASKS = ("fashion_1", "fashion_2", "noisy_fashion", "notmnist")

Examples = dict[str, tuple[np.ndarray, np.ndarray]]
"""Per split of a task, images ``[n, 28, 28, 1]`` and labels ``[n]``."""

_log = logging.getLogger(__name__)


def load(
    directory: str = "", source: str = "auto", seed: int = 0, noise: float = 1.0
) -> Dataset:
    """Load the tasks, each with its own rows; ``x`` is uint8 ``[N, 28, 28, 1]``.

    ``fashion_1`` and ``fashion_2`` have disjoint random halves of Fashion-MNIST (Xiao
    et al. 2017, arXiv:1708.07747), ``noisy_fashion`` has fashion_2's images with labels
    that are permuted within every split, validation and test included, and
    ``notmnist`` has letters. Of NotMNIST, which TFDS does not have, less than all of it
    is enough: one file is divided in the proportions of `SIZES`, and without any the
    task is left out. Both are logged, and said in ``provenance``.

    Args:
      directory: holds the folders fashion_mnist and notmnist.
      source: of Fashion-MNIST, as in `source.images`.
      seed: picks the examples of every split, and permutes labels.
      noise: share of the labels of noisy_fashion that are permuted; of those, one in
        ten is right by chance.

    Raises:
      InputError: `noise` is out of range; otherwise as `source.images`.
    """
    if not 0 <= noise <= 1:
        raise InputError(
            f"data.noise is {noise}, a share of labels; choose one between 0 and 1."
        )
    rng = np.random.default_rng(seed)
    noise_rng, letters_rng = rng.spawn(2)  # the halves are the same without them
    splits, origin = sources.images("fashion_mnist", directory, source)
    first, second = _halves(splits, rng)
    noisy = {
        split: (x, permuted(noise_rng, y, noise)) for split, (x, y) in second.items()
    }
    names: list[str] = [*TASKS]
    letters = names.pop()
    tasks = dict(zip(names, (first, second, noisy), strict=True))
    origins, remarks = {"fashion_mnist": origin}, []
    try:
        file_set = sources.find("notmnist", directory, "files", partial=True)
    except DataMissing as error:
        remarks.append(f"the task {letters} is left out: {error}")
    else:
        splits, origins["notmnist"] = sources.read(file_set)
        counts = {split: len(y) for split, (_, y) in splits.items()}
        rows = divide(letters_rng, counts, SIZES)
        x, y = (np.concatenate(parts) for parts in zip(*splits.values(), strict=True))
        tasks[letters] = {split: (x[drawn], y[drawn]) for split, drawn in rows.items()}
        remarks += [text] if (text := remark("notmnist", counts, rows)) else []
    for text in remarks:
        _log.warning(text)
    return _joined(tasks, {"sources": origins, "seed": seed, "remarks": remarks})


def permuted(rng: np.random.Generator, y: np.ndarray, share: float) -> np.ndarray:
    """Permute a random share of labels ``[n]`` among themselves.

    So every class keeps its count.

    >>> permuted(np.random.default_rng(0), np.array([0, 1, 2, 3, 4]), 0.6)
    array([0, 1, 3, 4, 2])
    """
    places = rng.permutation(len(y))[: round(share * len(y))]
    y = y.copy()
    y[places] = y[rng.permutation(places)]
    return y


def _halves(
    splits: dict[str, sources.Split], rng: np.random.Generator
) -> tuple[Examples, Examples]:
    """Deal official splits to two tasks."""
    x, y = (np.concatenate(parts) for parts in zip(*splits.values(), strict=True))
    n_train, n_test = (len(splits[split][1]) for split in ("train", "test"))
    deck = rng.permutation(n_train)
    test_deck = n_train + rng.permutation(n_test)
    decks = {"train": deck, "validation": deck[2 * SIZES["train"] :], "test": test_deck}
    halves: tuple[Examples, Examples] = {}, {}
    for split, size in SIZES.items():
        for half, rows in zip(
            halves, np.split(decks[split], [size, 2 * size]), strict=False
        ):
            half[split] = x[rows], y[rows]
    return halves


def _joined(tasks: dict[str, Examples], provenance: dict[str, Any]) -> Dataset:
    """Put the examples of all tasks in one pool."""
    parts = [part for task in tasks.values() for part in task.values()]
    ends = np.cumsum([len(y) for _, y in parts]).tolist()
    ranges = iter(
        np.arange(end - len(y), end, dtype=np.int32)
        for end, (_, y) in zip(ends, parts, strict=True)
    )
    of_tasks = [{split: next(ranges) for split in task} for task in tasks.values()]
    return Dataset(
        tasks=tuple(tasks),
        x=np.concatenate([x for x, _ in parts]),
        y=np.concatenate([y for _, y in parts]),
        rows={split: tuple(rows[split] for rows in of_tasks) for split in SIZES},
        objectives=("softmax",) * len(tasks),
        widths=(10,) * len(tasks),
        provenance=provenance,
    )
