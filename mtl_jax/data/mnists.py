"""MNISTS: MNIST, Fashion-MNIST and NotMNIST as three tasks (Hsieh & Chen 2018)."""

import logging

import numpy as np

from mtl_jax.data import source as sources
from mtl_jax.data.dataset import Dataset
from mtl_jax.data.division import divide, remark
from mtl_jax.types import DataMissing

TASKS = ("mnist", "fashion_mnist", "notmnist")
SIZES = {"train": 50_000, "validation": 5_000, "test": 5_000}
"""Examples per task; train and validation come from the official train split."""

_log = logging.getLogger(__name__)


def load(
    directory: str = "", source: str = "auto", seed: int = 0, partial: bool = False
) -> Dataset:
    """Load three tasks, each with its own images; ``x`` is uint8 ``[N, 28, 28, 1]``.

    Args:
      directory: holds the folders mnist, fashion_mnist and notmnist.
      source: of the first two, as in `source.images`; NotMNIST, which TFDS does
        not have, always comes from files.
      seed: picks the examples of every split.
      partial: where a task has only its train or its test file, divide the
        examples of that file in the proportions of `SIZES`.

    Raises:
      DataMissing: as `source.images`; all tasks are looked for before one is read.
    """
    kinds = (source, source, "files")
    file_sets = [
        sources.find(task, directory, kind, partial=True)
        for task, kind in zip(TASKS, kinds, strict=True)
    ]
    for file_set in file_sets:
        if len(file_set.files) < 2 and not partial:
            raise DataMissing(
                f"{sources.absence(file_set)}; or divide the "
                f"{', '.join(file_set.files)} "
                "split, which is there, into all three: --config.data.partial=True"
            )
    rows = {split: [] for split in SIZES}
    xs, ys, origins, remarks, start = [], [], {}, [], 0
    # A generator per task: what one task lacks does not change the others' examples.
    rngs = np.random.default_rng(seed).spawn(3)
    for file_set, rng in zip(file_sets, rngs, strict=True):
        splits, origins[file_set.name] = sources.read(file_set)
        counts = {split: len(y) for split, (_, y) in splits.items()}
        drawn = divide(rng, counts, SIZES)
        for split, places in drawn.items():
            rows[split].append((start + places).astype(np.int32))
        if text := remark(file_set.name, counts, drawn):
            remarks.append(text)
            _log.warning(text)
        for x, y in splits.values():
            xs.append(x)
            ys.append(y)
            start += len(y)
    provenance = {"sources": origins, "seed": seed, "remarks": remarks}
    return Dataset(
        tasks=TASKS,
        x=np.concatenate(xs),
        y=np.concatenate(ys),
        rows={split: tuple(parts) for split, parts in rows.items()},
        objectives=("softmax",) * 3,
        widths=(10,) * 3,
        provenance=provenance,
    )
