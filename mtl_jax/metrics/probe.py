"""The probe of a metric, walked in mini-batches.

Every metric takes ``loss_fn(params, batch) -> scalar`` (the mean over the batch) and a
batch whose leaves lead with examples ``[N, ...]``. Whatever it computes on mini-batches
goes through `walk`, one after another, so that memory stays that of one batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax.metrics import precision
from mtl_jax.types import Array, PyTree


def size(batch: PyTree) -> int:
    """Return the number of examples ``N``: the leading axis of every leaf."""
    return jax.tree.leaves(batch)[0].shape[0]


def sizes(count: int, batch_size: int) -> Array:
    """Return the sizes ``[M]`` of the mini-batches of ``count`` examples."""
    whole, rest = divmod(count, batch_size)
    return jnp.asarray([batch_size] * whole + [rest] * (rest > 0), jnp.float32)


def map_batches(
    fn: Callable[[PyTree], PyTree], batch: PyTree, batch_size: int
) -> tuple[PyTree, Array]:
    """Apply ``fn`` to consecutive mini-batches; the last may be smaller.

    Returns:
      Values stacked ``[M, ...]``, and the sizes of the mini-batches ``[M]``.
    """
    row = lambda part: ((), jax.tree.map(lambda v: v[None], fn(part)))  # noqa: E731
    values = mean_and_rows(row, batch, batch_size)[1]
    return values, sizes(size(batch), batch_size)


def mean_batches(
    fn: Callable[[PyTree], PyTree], batch: PyTree, batch_size: int
) -> PyTree:
    """Average ``fn`` over mini-batches, weighted by their size, without stacking."""
    return mean_and_rows(lambda part: (fn(part), ()), batch, batch_size)[0]


def mean_and_rows(
    fn: Callable[[PyTree], tuple[PyTree, PyTree]], batch: PyTree, batch_size: int
) -> tuple[PyTree, PyTree]:
    """Average and stack what ``fn`` says of the mini-batches, in one pass.

    Args:
      fn: mini-batch to (a mean over it, rows ``[B, ...]``, or one row ``[1, ...]``).
      batch: leaves ``[N, ...]``.
      batch_size: of the mini-batches; the last may be smaller.

    Returns:
      The mean over all examples, and the rows one under the other.
    """

    def of_first(batch: PyTree) -> PyTree:
        first = jax.tree.map(lambda leaf: leaf[:batch_size], batch)
        return precision.raised(fn(first)[0])

    def add(total: PyTree, part: PyTree) -> tuple[PyTree, PyTree]:
        mean, rows = precision.raised(fn(part))
        return jax.tree.map(lambda t, v: t + size(part) * v, total, mean), rows

    shapes = jax.eval_shape(of_first, batch)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    total, rows = walk(add, zeros, batch, batch_size)
    return jax.tree.map(lambda leaf: leaf / size(batch), total), rows


def walk(
    visit: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    start: PyTree,
    batch: PyTree,
    batch_size: int,
) -> tuple[PyTree, PyTree]:
    """Scan ``visit(carry, mini_batch) -> (carry, rows)``; the last may be smaller.

    Returns:
      The last carry, and the rows ``[B, ...]`` of all, one under the other.
    """
    whole, rest = divmod(size(batch), batch_size)
    cut = whole * batch_size
    carry, parts = start, []
    if whole:
        batches = jax.tree.map(
            lambda leaf: leaf[:cut].reshape(whole, batch_size, *leaf.shape[1:]), batch
        )
        carry, stacked = lax.scan(visit, carry, batches)
        parts.append(jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), stacked))
    if rest:
        carry, rows = visit(carry, jax.tree.map(lambda leaf: leaf[cut:], batch))
        parts.append(rows)
    return carry, jax.tree.map(lambda *rows: jnp.concatenate(rows), *parts)


def mean_and_error(values: Array, sizes: Array) -> tuple[Array, Array]:
    """Average mini-batch values ``[M, ...]`` by size, with a standard error ``[...]``.

    The error is that of a mean of independent mini-batches; NaN for a single one.
    """
    count = values.shape[0]
    sizes = sizes.astype(values.dtype).reshape(count, *[1] * (values.ndim - 1))
    shares = sizes / sizes.sum()
    mean = jnp.sum(shares * values, axis=0)
    spread = values - mean[None]
    scale = precision.magnitude(jnp.abs(spread).max(axis=0))
    variance = jnp.sum(shares * (spread / scale[None]) ** 2, axis=0)
    unknown = jnp.full_like(variance, jnp.nan)
    return mean, jnp.sqrt(variance / (count - 1)) * scale if count > 1 else unknown
