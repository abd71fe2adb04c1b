"""Fashion MTL: the same ten-way problem twice, on disjoint halves of Fashion-MNIST."""

import numpy as np

from mtl_jax.data import source as sources
from mtl_jax.data.dataset import Dataset

TASKS = ("fashion_0", "fashion_1")
SIZES = {"train": 25_000, "validation": 5_000, "test": 5_000}
"""Examples per task; train and validation come from the official train split."""


def load(directory: str = "", source: str = "auto", seed: int = 0) -> Dataset:
    """Load two tasks on random disjoint halves; ``x`` is uint8 ``[70000, 28, 28, 1]``.

    Source: Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747), as `source.images`
    looks for it in ``directory``. Errors are those of `source.images`.
    """
    splits, origin = sources.images("fashion_mnist", directory, source)
    x, y = (np.concatenate(parts) for parts in zip(*splits.values(), strict=True))
    n_train, n_test = (len(splits[split][1]) for split in ("train", "test"))
    rng = np.random.default_rng(seed)
    deck = rng.permutation(n_train).astype(np.int32)
    test_deck = (n_train + rng.permutation(n_test)).astype(np.int32)
    rows = {
        "train": _halves(deck, SIZES["train"]),
        "validation": _halves(deck[2 * SIZES["train"] :], SIZES["validation"]),
        "test": _halves(test_deck, SIZES["test"]),
    }
    provenance = {"sources": {"fashion_mnist": origin}, "seed": seed, "remarks": []}
    return Dataset(TASKS, x, y, rows, ("softmax",) * 2, (10, 10), provenance)


def _halves(deck: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    return deck[:size], deck[size : 2 * size]
