"""The Gramian of the tasks' gradients, over all of float32's range.

Squares of gradients leave that range where the gradients do not: above 1e19, and below
1e-19. So every row is divided by a power of two near its largest entry, which rounds
nothing, and inner products are those of the divided rows.

>>> import jax.numpy as jnp
>>> tiny = gramian({"w": jnp.array([[3e-30, 4e-30], [4e-30, -3e-30]])})
>>> [f"{length:.1e}" for length in tiny.lengths.tolist()], tiny.entries[0, 0].item()
(['5.0e-30', '5.0e-30'], 0.0)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax.tree import (
    HIGHEST,
    largest_scales,
    power_of_two,
    row_lengths,
    scaled_rows,
)
from mtl_jax.types import Array, PyTree, Scalar


class Gramian(NamedTuple):
    """Inner products ``<g_i, g_j> = scales[i] values[i, j] scales[j]`` of ``T`` rows.

    Of two batches' gradients it holds ``<a_i, b_j>``, and need not be symmetric.
    """

    values: Array
    """``[T, T]``, of the divided rows."""
    scales: Array
    """``[T]``, at least 0."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return ``(T, T)``."""
        return self.values.shape

    @property
    def dtype(self) -> jnp.dtype:
        """Return the dtype of the values."""
        return self.values.dtype

    @property
    def entries(self) -> Array:
        """Return the inner products ``[T, T]``; they may over- and underflow."""
        return self.values * self.scales[:, None] * self.scales[None, :]

    @property
    def lengths(self) -> Array:
        """Return the lengths ``[T]`` of the rows."""
        return self.scales * jnp.sqrt(jnp.diagonal(self.values))

    @property
    def cosines(self) -> Array:
        """Return the cosines ``[T, T]``; NaN in the rows of a zero gradient."""
        norms = jnp.sqrt(jnp.diagonal(self.values))
        return self.values / (norms[:, None] * norms[None, :])

    def products(self, weights: Array) -> Array:
        """Multiply all rows with ``sum_i weights[i] g_i``: inner products ``[T]``.

        Where they would leave the dtype's range, they stop at its end.
        """
        amounts, largest = _amounts(self, weights)
        products = jnp.matmul(self.values, amounts, precision=HIGHEST)
        most = jnp.finfo(self.dtype).max
        return jnp.clip(products * self.scales * largest, -most, most)

    def times(self, factors: Array) -> "Gramian":
        """Scale the rows by ``factors [T]``, none of them negative."""
        return self._replace(scales=self.scales * factors)

    def among(self, kept: Array) -> "Gramian":
        """Set the rows to zero where not ``kept``, bool ``[T]``."""
        both = kept[:, None] & kept[None, :]
        return Gramian(jnp.where(both, self.values, 0), jnp.where(kept, self.scales, 1))


Gram = Gramian | Array
"""A Gramian, or one ``[T, T]`` that is given by its entries."""


def of(gram: Gram) -> Gramian:
    """Make a `Gramian` of one that is given by its entries; others stay."""
    if isinstance(gram, Gramian):
        return gram
    scales = largest_scales([power_of_two(jnp.sqrt(jnp.diagonal(gram)))])
    return Gramian(gram / scales[:, None] / scales[None, :], scales)


def gramian(rows: PyTree) -> Gramian:
    """Make the Gramian of the ``T`` rows of a tree with leaves ``[T, ...]``.

    Leaf by leaf, in float32 (float64 of float64 leaves) at the highest matmul
    precision: multi-task optimizers compare its entries, and TF32 is too coarse for
    that.
    """
    values, scales, _ = inner(rows, rows)
    return Gramian(values, scales)


def cross(first: PyTree, second: PyTree) -> Gramian:
    """Make the inner products of the same ``T`` tasks' gradients on two batches."""
    values, left, right = inner(first, second)
    scales = jnp.maximum(left, right)
    values = values * (left / scales)[:, None] * (right / scales)[None, :]
    return Gramian(values, scales)


def inner(a: PyTree, b: PyTree) -> tuple[Array, Array, Array]:
    """Multiply the rows of two trees, leaves ``[M, ...]`` and ``[N, ...]``.

    Returns:
      ``(values [M, N], left [M], right [N])`` with ``<a_i, b_j>`` being
      ``left[i] values[i, j] right[j]``. A row's scale depends on nothing but the row.
    """
    parts = [
        _inner_of_leaves(u, v)
        for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
    left = largest_scales([part[1] for part in parts])
    right = largest_scales([part[2] for part in parts])
    values = [v * (s / left)[:, None] * (t / right)[None, :] for v, s, t in parts]
    return sum(values[1:], start=values[0]), left, right


def weighted(gram: Gramian, weights: Array) -> tuple[Scalar, Array]:
    """Measure the direction ``sum_i weights[i] g_i`` from the Gramian.

    Returns:
      Its length ``[]``, and its cosines ``[T]`` with all rows; NaN where one of the two
      lengths is 0.
    """
    amounts, largest = _amounts(gram, weights)
    products = jnp.matmul(gram.values, amounts, precision=HIGHEST)
    squared = jnp.dot(amounts, products, precision=HIGHEST)
    size = jnp.sqrt(jnp.maximum(squared, 0))
    lengths = jnp.sqrt(jnp.diagonal(gram.values))
    return size * largest, _cosines(products, size, lengths)


def compared(rows: PyTree, direction: PyTree) -> tuple[Scalar, Array]:
    """Measure a direction ``[...]`` against the rows of a tree ``[T, ...]``.

    Returns:
      As `weighted`.
    """
    direction = jax.tree.map(lambda leaf: leaf[None], direction)
    products, left, right = inner(rows, direction)
    squared, _, _ = inner(direction, direction)
    size = jnp.sqrt(squared[0, 0])
    lengths = row_lengths(rows) / left
    return size * right[0], _cosines(products[:, 0], size, lengths)


def cosines(a: PyTree, b: PyTree) -> Array:
    """Return the cosines ``[M, N]`` of the rows of two trees; NaN where one is 0."""
    products, left, right = inner(a, b)
    lengths = row_lengths(a) / left, row_lengths(b) / right
    return _cosines(products, lengths[0][:, None], lengths[1][None, :])


def _amounts(gram: Gramian, weights: Array) -> tuple[Array, Scalar]:
    """Weights of the divided rows ``[T]``, over their largest, and that.

    Each is divided before they are multiplied: their product may leave the range.
    """
    heaviest, longest = jnp.abs(weights).max(), gram.scales.max()
    heaviest = jnp.where(heaviest > 0, heaviest, 1)
    return (weights / heaviest) * (gram.scales / longest), heaviest * longest


def _cosines(products: Array, size: Array, lengths: Array) -> Array:
    there = (size > 0) & (lengths > 0)
    ratios = products / jnp.where(there, size, 1) / jnp.where(there, lengths, 1)
    return jnp.where(there, jnp.clip(ratios, -1, 1), jnp.nan)


def _inner_of_leaves(u: Array, v: Array) -> tuple[Array, Array, Array]:
    a, left = scaled_rows(u)
    b, right = (a, left) if u is v else scaled_rows(v)  # divided once, held once
    return lax.dot_general(a, b, (((1,), (1,)), ((), ())), HIGHEST), left, right
