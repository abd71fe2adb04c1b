"""Data maps of tasks, and fuzzy clusters of them (STG-MTL: Sherif et al., 2023).

A task is described by how sure its model is of each example's true class as training
goes on. It needs tasks that label the same examples, and one joint run.

>>> rng = np.random.default_rng(0)
>>> sure, unsure = rng.uniform(0.8, 1, (2, 6, 20)), rng.uniform(0, 0.4, (2, 6, 20))
>>> maps = np.stack([data_map(p, ends=(3, 6)) for p in (*sure, *unsure)])  # 4 tasks
>>> shares = memberships(maps, k_means(maps, clusters=2))
>>> co_membership(shares).round(2)[0].tolist()
[1.0, 1.0, 0.0, 0.0]
"""

from collections.abc import Sequence

import numpy as np

from mtl_jax.options import is_whole
from mtl_jax.types import InputError

FUZZINESS = 1.07
RESTARTS = 10
ROUNDS = 300


def data_map(probabilities: np.ndarray, ends: Sequence[int] = ()) -> np.ndarray:
    """Map examples by the mean and spread of the true class's probability over epochs.

    Args:
      probabilities: of the true class ``[E, N]``, by epoch and example.
      ends: snapshots are over the first so many epochs each; all if not given.

    Returns:
      ``[S, N, 2]``: standard deviation (n - 1) and mean.

    Raises:
      InputError: a snapshot of fewer than two epochs, or of more than there are.
    """
    probabilities = np.asarray(probabilities, float)
    ends = list(ends) or [len(probabilities)]
    if any(not 2 <= end <= len(probabilities) for end in ends):
        raise InputError(
            f"ends are {ends}, of {len(probabilities)} epochs; a snapshot takes 2 or "
            f"more of them."
        )
    snapshots = [probabilities[:end] for end in ends]
    parts = [(part.std(axis=0, ddof=1), part.mean(axis=0)) for part in snapshots]
    return np.stack([np.stack(part, axis=-1) for part in parts])


def k_means(maps: np.ndarray, clusters: int, seed: int = 0) -> np.ndarray:
    """Find centres of clusters of tasks ``[K, D]`` (Lloyd; k-means++, 10 restarts).

    Args:
      maps: of every task ``[T, ...]``, flattened to ``[T, D]``.
      clusters: K, at most T.
      seed: of the first centres.

    Raises:
      InputError: fewer than one cluster, or more than tasks.
    """
    rows = np.asarray(maps, float).reshape(len(maps), -1)
    if not is_whole(clusters) or clusters > len(rows):
        raise InputError(
            f"clusters is {clusters} for {len(rows)} tasks; choose 1 to {len(rows)}."
        )
    rng = np.random.default_rng(seed)
    runs = [_lloyd(rows, _spread(rows, clusters, rng)) for _ in range(RESTARTS)]
    inertias = [distances(rows, centres).min(axis=1).sum() for centres in runs]
    return runs[int(np.argmin(inertias))]


def memberships(
    maps: np.ndarray, centres: np.ndarray, fuzziness: float = FUZZINESS
) -> np.ndarray:
    """Share tasks among clusters: fuzzy k-means memberships ``[T, K]``.

    ``u_tc = 1 / sum_j (|x_t - c_c| / |x_t - c_j|)^(2 / (m - 1))`` (Bezdek, 1981); a
    task on a centre belongs to it alone.

    Args:
      maps: as in `k_means`.
      centres: ``[K, D]``.
      fuzziness: m, above 1; nearer to 1 is harder.

    Raises:
      InputError: a fuzziness that is not above 1.
    """
    if not fuzziness > 1:
        raise InputError(f"fuzziness is {fuzziness}; it must be above 1.")
    squares = distances(np.asarray(maps, float).reshape(len(maps), -1), centres)
    least = squares.min(axis=1, keepdims=True)
    ratios = np.where(squares > 0, least / np.where(squares > 0, squares, 1), 1.0)
    shares = ratios ** (1 / (fuzziness - 1))
    return shares / shares.sum(axis=1, keepdims=True)


def co_membership(shares: np.ndarray) -> np.ndarray:
    """Measure how far tasks share clusters ``[T, T]``: ``sum_c u_tc u_jc``."""
    return shares @ shares.T


def distances(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return squared distances ``[T, K]`` of rows from centres."""
    return ((rows[:, None] - centres[None]) ** 2).sum(axis=-1)


def _spread(rows: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """First centres, each far from those before (Arthur & Vassilvitskii, 2007)."""
    centres = rows[rng.integers(len(rows), size=1)]
    while len(centres) < clusters:
        squares = distances(rows, centres).min(axis=1)
        total = squares.sum()
        chances = squares / total if total > 0 else None
        row = rng.choice(len(rows), p=chances)
        centres = np.concatenate([centres, rows[row : row + 1]])
    return centres


def _lloyd(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    for _ in range(ROUNDS):
        nearest = distances(rows, centres).argmin(axis=1)
        moved = np.stack([
            rows[nearest == k].mean(axis=0) if (nearest == k).any() else centres[k]
            for k in range(len(centres))
        ])  # fmt: skip
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres
