"""Likeness of tasks by their inputs alone: nothing is trained."""

import hashlib
from collections.abc import Sequence

import numpy as np

from mtl_jax.types import InputError

SHARE = 0.99
"""Share of the singular values of ``X'X`` that is kept."""


def covariance_similarity(inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Compare the covariances of tasks' inputs ``[T, T]``.

    With ``X_i'X_i = U_i D_i U_i'``, cut where D reaches 99% of its sum,
    ``|D_i^(1/2) U_i' U_j D_j^(1/2)| / (|U_i D_i^(1/2)| |U_j D_j^(1/2)|)`` in Frobenius
    norms: 0 to 1, symmetric, and 1 only for inputs along one common direction. Source:
    Wu, Zhang & Re, 2020, section 2.3. Nothing is centred there, nor here.

    Args:
      inputs: of every task ``[N, ...]``, of as many features; N may differ.

    Raises:
      InputError: fewer than two tasks, or unequal features.

    >>> along, across = np.eye(2)[[0, 0, 0]], np.eye(2)[[1, 1]]
    >>> covariance_similarity([along, 2 * along, across]).round(6).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    roots = [_root(x) for x in _flat(inputs)]
    count = len(roots)
    similar = np.zeros((count, count))
    for i, first in enumerate(roots):
        for j, second in enumerate(roots[: i + 1]):
            product = np.linalg.norm(first @ second.T)
            size = np.linalg.norm(first) * np.linalg.norm(second)
            similar[i, j] = similar[j, i] = product / size if size else np.nan
    return similar


def overlap(inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Measure which share of a task's different inputs another task has ``[T, T]``.

    Of row t the inputs of task t are the whole. Where tasks share none, what a step on
    one does to the other says little of transfer, so affinity and cosines of gradients
    should not be relied on.

    Args:
      inputs: of every task ``[N, ...]``; N may differ. Equal to the last bit is equal.

    Raises:
      InputError: as `covariance_similarity`.

    >>> overlap([np.array([[1], [2]]), np.array([[2], [3], [4], [5]])]).tolist()
    [[1.0, 0.5], [0.25, 1.0]]
    """
    rows = [{_digest(row) for row in x} for x in _flat(inputs)]
    shares = [[len(a & b) / max(len(a), 1) for b in rows] for a in rows]
    return np.array(shares)


def _digest(row: np.ndarray) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _root(x: np.ndarray) -> np.ndarray:
    """``D^(1/2) U'`` of ``X'X``, ``[rank, features]``."""
    _, singular, directions = np.linalg.svd(x.astype(float), full_matrices=False)
    sums = np.cumsum(singular**2)
    rank = int(np.searchsorted(sums, SHARE * sums[-1] * (1 - 1e-12))) + 1
    return singular[:rank, None] * directions[:rank]


def _flat(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Inputs as matrices ``[N, D]``."""
    flat = [np.ascontiguousarray(x).reshape(len(x), -1) for x in inputs]
    widths = {x.shape[1] for x in flat}
    if len(flat) < 2 or len(widths) > 1:
        raise InputError(
            f"inputs are of {len(flat)} tasks and {sorted(widths)} features; give "
            f"those of at least two tasks, with the same features."
        )
    return flat
