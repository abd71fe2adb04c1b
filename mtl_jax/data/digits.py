"""Digits: scikit-learn's bundled handwritten digits as tasks; needs no files."""

import hashlib
from typing import Any

import numpy as np

from mtl_jax.data.dataset import Dataset
from mtl_jax.options import one_of
from mtl_jax.types import InputError

RELATIONS = ("same", "transformed", "conflicting")
MAX_TASKS = 10
"""Leaves 179 images per task; fewer make a test split that measures nothing."""


def load(seed: int = 0, tasks: int = 3, relation: str = "same") -> Dataset:
    """Load tasks on disjoint images; ``x`` is uint8 ``[1797, 8, 8, 1]``.

    A task has a half of its images for training, a sixth for validation and a
    third for testing: 299 / 100 / 200 with three tasks.

    Source: scikit-learn's `load_digits` (UCI, Alpaydin & Kaynak 1998).

    Args:
      seed: deals the images to tasks and splits, and draws what `relation` draws.
      tasks: 2 to `MAX_TASKS`.
      relation: ``same``: the same ten-way problem. ``transformed``: task k sees
        its images rotated by k quarter turns and, from k = 4 on, through a fixed
        random permutation of the pixels. ``conflicting``: every task but the first
        has a random label per image, which it can only memorise: sharing a trunk
        with it costs the first task capacity and teaches it nothing, so that
        negative transfer shows.

    Raises:
      InputError: `tasks` or `relation` is out of range.
    """
    if not 2 <= tasks <= MAX_TASKS:
        raise InputError(f"{tasks} tasks of digits; choose 2 to {MAX_TASKS}")
    one_of("relation of digits", relation, RELATIONS)
    from sklearn.datasets import load_digits  # a second, so only here

    bunch: Any = load_digits()
    x = (bunch.images.astype(np.int32) * 255 // 16).astype(np.uint8)[..., None]
    y = bunch.target.astype(np.int32)
    origin = {
        "kind": "sklearn.datasets.load_digits",
        "files": {"images": hashlib.sha256(x.tobytes()).hexdigest()},
    }
    rng = np.random.default_rng(seed)
    per_task = len(x) // tasks
    hands = rng.permutation(len(x)).astype(np.int32)[: per_task * tasks]
    hands = hands.reshape(tasks, per_task)
    for task, hand in enumerate(hands):
        if relation == "transformed":
            x[hand] = _transformed(x[hand], task, rng)
        if relation == "conflicting" and task > 0:
            y[hand] = rng.integers(10, size=per_task)
    test, validation = round(per_task / 3), round(per_task / 6)
    train = per_task - validation - test
    parts = np.split(hands, [train, train + validation], axis=1)
    splits = ("train", "validation", "test")
    rows = {split: tuple(part) for split, part in zip(splits, parts, strict=True)}
    return Dataset(
        tasks=tuple(f"digits_{task}" for task in range(tasks)),
        x=x,
        y=y,
        rows=rows,
        objectives=("softmax",) * tasks,
        widths=(10,) * tasks,
        provenance={
            "sources": {"digits": origin},
            "seed": seed,
            "remarks": [f"relation: {relation}"],
        },
    )


def _transformed(x: np.ndarray, task: int, rng: np.random.Generator) -> np.ndarray:
    """Turn images ``[n, 8, 8, 1]`` by ``task`` quarters, or permute their pixels."""
    if task < 4:
        return np.rot90(x, task, axes=(1, 2))
    return x.reshape(len(x), 64)[:, rng.permutation(64)].reshape(x.shape)
