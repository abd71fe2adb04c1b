"""Division of official splits into examples for training, validation and testing."""

from collections.abc import Mapping

import numpy as np


def divide(
    rng: np.random.Generator, counts: Mapping[str, int], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Draw the rows of every split from official splits that lie one after another.

    Training and validation examples come from the official train split. Where only one
    official split is there, it is divided into all three: into the sizes asked for if
    it has as many examples, otherwise in their proportions.

    >>> rows = divide(
    ...     np.random.default_rng(0),
    ...     {"test": 10_000},
    ...     {"train": 25_000, "validation": 5_000, "test": 5_000},
    ... )
    >>> {split: len(drawn) for split, drawn in rows.items()}
    {'train': 7142, 'validation': 1428, 'test': 1428}

    Args:
      rng: draws the examples.
      counts: examples of the official splits that are there, ``train`` first.
      sizes: examples to be drawn for ``train``, ``validation`` and ``test``.

    Returns:
      Per split, its rows ``[n]``; no row is in two splits.
    """
    if len(counts) == 2:
        deck = rng.permutation(counts["train"])
        train, validation, _ = np.split(
            deck, [sizes["train"], sizes["train"] + sizes["validation"]]
        )
        test = counts["train"] + rng.permutation(counts["test"])[: sizes["test"]]
        return {"train": train, "validation": validation, "test": test}
    (count,) = counts.values()
    total = sum(sizes.values())
    share = min(count, total)
    ends = np.cumsum([share * size // total for size in sizes.values()])
    parts = np.split(rng.permutation(count), ends)
    return dict(zip(sizes, parts, strict=False))  # the rest is left out


def remark(name: str, counts: Mapping[str, int], rows: Mapping[str, np.ndarray]) -> str:
    """Say into what the only official split of a data set was divided, if it was.

    Args:
      name: of the data set.
      counts: as in `divide`.
      rows: what `divide` returned.

    Returns:
      A sentence without its full stop; empty where all official splits were there.
    """
    if len(counts) == 2:
        return ""
    sizes = "/".join(str(len(drawn)) for drawn in rows.values())
    return (
        f"{name}: only the {', '.join(counts)} split was there; it is divided into "
        f"{sizes} train/validation/test examples"
    )
