"""Gradient coherence: how far the examples of a task pull the same way.

>>> import jax.numpy as jnp
>>> loss_fn = lambda params, batch: jnp.mean(batch @ params)
>>> copies = jnp.ones((8, 2))  # of one example
>>> coherence = m_coherence(loss_fn, jnp.zeros(2), copies)
>>> float(coherence.alpha), float(coherence.alpha_m)
(1.0, 8.0)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.gradients.gramian import cosines as cosines_of
from mtl_jax.metrics import precision, probe
from mtl_jax.metrics.precision import Inner
from mtl_jax.types import Array, InputError, LossFn, PyTree, Scalar


class Coherence(NamedTuple):
    """m-coherence of the per-example gradients of one task."""

    alpha: Array
    """``|E g|^2 / E |g|^2``: 1 for identical gradients, 1/N for orthogonal ones; NaN
    if all gradients are zero."""
    alpha_m: Array
    """``N alpha``: how many examples one example's step helps."""
    near_zero: Array
    """Fraction of examples whose gradient is less than 1e-6 of the mean length."""


class NoiseScale(NamedTuple):
    """Gradient noise from two batch sizes (McCandlish et al., 2018, appendix A)."""

    alpha: Array
    """Estimate of ``m_coherence(...).alpha`` without per-example gradients."""
    standard_error: Array
    """Standard error of alpha, as if the mini-batches were independent; as they share
    out one probe, it is smaller than that."""
    noise_scale: Array
    """``S / |G|^2`` in examples: the batch size at which noise equals signal."""
    squared_norm: Array
    """Unbiased ``|G|^2``; may be negative where noise drowns it."""
    noise: Array
    """``S``, the trace of the covariance of per-example gradients."""


class Stiffness(NamedTuple):
    """Stiffness of pairs of examples (Fort et al., 2019)."""

    cosines: Array
    """Cosine of the gradients of examples a and b ``[Na, Nb]``."""
    signs: Array
    """Its sign."""


class BatchCosines(NamedTuple):
    """Cosines between mini-batch gradients."""

    mean: Scalar
    """Over pairs of different mini-batches."""
    minimum: Scalar
    """Gradient confusion is its negative part (Sankararaman et al., 2020)."""


def m_coherence(
    loss_fn: LossFn,
    params: PyTree,
    batch: PyTree,
    *,
    batch_size: int = 32,
    inner: Inner = precision.dot,
) -> Coherence:
    """Return m-coherence over the probe, from per-example gradients in one pass.

    Source: Chatterjee & Zielinski, 2020, Definition 2. Cost per example: one forward
    and one backward pass; memory: ``batch_size`` gradients.

    Args:
      loss_fn: ``(params, batch) -> mean loss``.
      params: any pytree of floats.
      batch: leaves ``[N, ...]``.
      batch_size: per-example gradients at once.
      inner: inner product of two gradients; one that returns several ``[S]``, each
        over some of the parameters, gives leaves ``[S]``.
    """
    params, batch = precision.raised((params, batch))

    def mean_and_lengths(part: PyTree) -> tuple[PyTree, Array]:
        grads = _example_grads(loss_fn, params, part)
        mean = jax.tree.map(lambda g: g.mean(axis=0), grads)
        return mean, jax.vmap(lambda g: precision.norm(g, inner))(grads)

    with jax.default_matmul_precision("highest"):
        mean, lengths = probe.mean_and_rows(mean_and_lengths, batch, batch_size)
        length = precision.norm(mean, inner)
    scale = precision.magnitude(lengths.max(axis=0))
    alpha = (length / scale) ** 2 / ((lengths / scale[None]) ** 2).mean(axis=0)
    is_small = lengths <= 1e-6 * lengths.mean(axis=0)[None]
    near_zero = jnp.mean(is_small, axis=0, dtype=lengths.dtype)
    return Coherence(alpha, probe.size(batch) * alpha, near_zero)


def noise_scale(
    loss_fn: LossFn,
    params: PyTree,
    batch: PyTree,
    *,
    batch_size: int = 16,
    inner: Inner = precision.dot,
) -> NoiseScale:
    """Estimate noise scale and m-coherence from mini-batch gradients and their mean.

    ``S = (|g_b|^2 - |G|^2) / (1/b - 1/N)`` is unbiased for the trace of the covariance
    if the mini-batches are random ones of the probe, so let its order be random.
    ``|G|^2 - S / N`` is unbiased for the population's ``|G|^2``, and ``E |g|^2`` over
    the probe is ``|G|^2 + (1 - 1/N) S``. Cost per example: one forward and one backward
    pass.

    Args:
      loss_fn: ``(params, batch) -> mean loss``.
      params: any pytree of floats.
      batch: leaves ``[N, ...]``.
      batch_size: ``b``, smaller than ``N``; the last mini-batch may be smaller.
      inner: as in `m_coherence`.

    Raises:
      InputError: the mini-batches are not smaller than the probe.

    >>> loss_fn = lambda params, batch: jnp.mean(batch @ params)
    >>> noise = noise_scale(loss_fn, jnp.zeros(2), jnp.ones((8, 2)), batch_size=2)
    >>> float(noise.alpha), float(noise.noise_scale)  # copies of one example: no noise
    (1.0, 0.0)
    """
    return noise_of(*gradient_lengths(loss_fn, params, batch, batch_size, inner))


def gradient_lengths(
    loss_fn: LossFn, params: PyTree, batch: PyTree, batch_size: int, inner: Inner
) -> tuple[Array, Array, Array]:
    """Return the lengths of mini-batch gradients ``[M, ...]``, and of their mean.

    Behind them the sizes of the mini-batches ``[M]``.

    Raises:
      InputError: the mini-batches are not smaller than the batch.
    """
    count = probe.size(batch)
    if batch_size >= count:
        raise InputError(
            f"batch_size {batch_size} must be smaller than the {count} examples."
        )
    params, batch = precision.raised((params, batch))

    def gradient_and_length(part: PyTree) -> tuple[PyTree, Array]:
        gradient = jax.grad(loss_fn)(params, part)
        return gradient, precision.norm(gradient, inner)[None]

    with jax.default_matmul_precision("highest"):
        mean, lengths = probe.mean_and_rows(gradient_and_length, batch, batch_size)
        length = precision.norm(mean, inner)
    return lengths, length, probe.sizes(count, batch_size)


def noise_of(lengths: Array, length: Array, sizes: Array) -> NoiseScale:
    """Return `noise_scale` from gradients' lengths that are known.

    Args:
      lengths: of the mini-batch gradients ``[M, ...]``.
      length: of their mean over all ``N`` examples ``[...]``.
      sizes: of the mini-batches ``[M]``.
    """
    scale = precision.magnitude(lengths.max(axis=0))
    squares, large = (lengths / scale[None]) ** 2, (length / scale) ** 2
    sizes = sizes.astype(lengths.dtype)
    count = sizes.sum()
    total = jnp.sum(1 / sizes - 1 / count)
    noise = (squares - large[None]).sum(axis=0) / total
    squared = large - noise / count
    alpha = large / (large + (1 - 1 / count) * noise)
    noise_error = jnp.sqrt(len(sizes)) * squares.std(axis=0, ddof=1) / total
    error = alpha**2 * (1 - 1 / count) * noise_error / large
    in_units = (value * scale * scale for value in (squared, noise))
    return NoiseScale(alpha, error, noise / squared, *in_units)


def batch_cosines(
    loss_fn: LossFn, params: PyTree, batch: PyTree, *, batch_size: int = 128
) -> BatchCosines:
    """Compare mini-batch gradients. Cost per example: forward, backward.

    Raises:
      InputError: fewer than two mini-batches of that size in the probe.

    >>> loss_fn = lambda params, batch: jnp.mean(batch @ params)
    >>> batch = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> float(batch_cosines(loss_fn, jnp.zeros(2), batch, batch_size=2).mean)
    0.0
    """
    whole = probe.size(batch) // batch_size
    if whole < 2:
        raise InputError(
            f"batch_size {batch_size} leaves {whole} whole mini-batches of "
            f"{probe.size(batch)} examples; at least 2 are compared."
        )
    params, batch = precision.raised((params, batch))
    head = jax.tree.map(lambda leaf: leaf[: whole * batch_size], batch)
    with jax.default_matmul_precision("highest"):
        grads, _ = probe.map_batches(
            lambda part: jax.grad(loss_fn)(params, part), head, batch_size
        )
    cosines = cosines_of(grads, grads)
    pairs = cosines[jnp.triu_indices(whole, k=1)]
    return BatchCosines(pairs.mean(), pairs.min())


def stiffness(
    loss_fn: LossFn, params: PyTree, first: PyTree, second: PyTree
) -> Stiffness:
    """Return stiffness between two sets of examples.

    Train and train, or train and validation. Source: Fort et al., 2019. Cost per
    example: forward, backward; memory: all their gradients, so give a few hundred.
    Select classes from the matrices by labels.

    >>> loss_fn = lambda params, batch: jnp.mean(batch @ params)
    >>> first, second = jnp.array([[1.0, 0.0]]), jnp.array([[2.0, 0.0], [-1.0, 0.0]])
    >>> stiffness(loss_fn, jnp.zeros(2), first, second).signs.tolist()
    [[1.0, -1.0]]
    """
    params, first, second = precision.raised((params, first, second))
    with jax.default_matmul_precision("highest"):
        a, b = (_example_grads(loss_fn, params, part) for part in (first, second))
    cosines = cosines_of(a, b)
    return Stiffness(cosines, jnp.sign(cosines))


def gsnr(
    loss_fn: LossFn, params: PyTree, batch: PyTree, *, batch_size: int = 32
) -> Scalar:
    """Return the gradient signal-to-noise ratio.

    Mean over parameters of ``(E g)^2 / Var g``, without those whose gradient never
    varies. Source: Liu et al., 2020, Eq. 2. Cost per example: forward, backward;
    memory: ``batch_size`` gradients.

    >>> loss_fn = lambda params, batch: jnp.mean(batch @ params)
    >>> examples = jnp.array([[1.0], [3.0]])  # gradients of mean 2 and deviation 1
    >>> float(gsnr(loss_fn, jnp.zeros(1), examples))
    4.0
    """
    params, batch = precision.raised((params, batch))

    def add(total: Spread, part: PyTree) -> tuple[Spread, tuple]:
        grads = _example_grads(loss_fn, params, part)
        return _merge(total, _spread(grads)), ()

    zero = jax.tree.map(jnp.zeros_like, params)
    start = Spread(jnp.zeros((), precision.dtype_of(params)), zero, zero)
    with jax.default_matmul_precision("highest"):
        (count, mean, deviation), _ = probe.walk(add, start, batch, batch_size)
    mean, deviation = (
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(part)])
        for part in (mean, deviation)
    )
    deviation = deviation / jnp.sqrt(count)
    least = jnp.sqrt(jnp.finfo(mean.dtype).eps) * jnp.hypot(mean, deviation)
    varies = deviation > least
    ratio = jnp.where(varies, mean / jnp.where(varies, deviation, 1), 0)
    return (ratio**2).sum() / varies.sum()


class Spread(NamedTuple):
    """Mean and spread of numbers, element by element."""

    count: Array
    """Number of rows ``[]``."""
    mean: PyTree
    deviation: PyTree
    """Root of the sum of squared deviations from the mean."""


def _spread(rows: PyTree) -> Spread:
    """Spread of the rows of a tree ``[B, ...]``."""
    mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), rows)

    def deviation(leaf: Array, mean: Array) -> Array:
        away = leaf - mean[None]
        scale = precision.magnitude(jnp.abs(away).max(axis=0))
        return scale * jnp.sqrt(((away / scale[None]) ** 2).sum(axis=0))

    count = jnp.asarray(probe.size(rows), precision.dtype_of(rows))
    return Spread(count, mean, jax.tree.map(deviation, rows, mean))


def _merge(a: Spread, b: Spread) -> Spread:
    """Spread of two sets together (Chan, Golub & LeVeque, 1979), without squares."""
    count = a.count + b.count
    apart = jax.tree.map(jnp.subtract, b.mean, a.mean)
    between = jnp.sqrt(a.count * b.count / count)

    def deviation(first: Array, second: Array, apart: Array) -> Array:
        return jnp.hypot(jnp.hypot(first, second), between * apart)

    return Spread(
        count,
        jax.tree.map(lambda m, d: m + b.count / count * d, a.mean, apart),
        jax.tree.map(deviation, a.deviation, b.deviation, apart),
    )


def _example_grads(loss_fn: LossFn, params: PyTree, batch: PyTree) -> PyTree:
    """Gradient of every example on its own, leaves ``[B, ...]``."""

    def gradient(example: PyTree) -> PyTree:
        alone = jax.tree.map(lambda leaf: leaf[None], example)
        return jax.grad(loss_fn)(params, alone)

    return jax.vmap(gradient)(batch)
