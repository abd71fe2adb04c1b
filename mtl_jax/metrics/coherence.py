"""Gradient coherence: how far the examples of a task pull the same way.

>>> import jax.numpy as jnp
>>> loss_fn = lambda params, batch: jnp.mean(batch @ params)
>>> copies = jnp.ones((8, 2))  # of one example
>>> found = m_coherence(loss_fn, jnp.zeros(2), copies)
>>> float(found.alpha), float(found.alpha_m)
(1.0, 8.0)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gramian import gramian
from mtl_jax.metrics import probe
from mtl_jax.types import Array, InputError, LossFn, PyTree, Scalar

Inner = Callable[[PyTree, PyTree], Array]
"""Inner product of two gradients, or several over groups of parameters ``[S]``."""


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
    """Of alpha, as if the mini-batches were independent; as they share out one probe,
    the error is smaller than that."""
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
    inner: Inner = tree.dot,
) -> Coherence:
    """m-coherence over the probe, in one streaming pass of per-example gradients.

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

    def moments(one: PyTree) -> tuple[tuple[PyTree, Array], Array]:
        grads = _example_grads(loss_fn, params, one)
        squares = jax.vmap(lambda g: inner(g, g))(grads)
        mean = jax.tree.map(lambda g: g.mean(axis=0), grads)
        return (mean, squares.mean(axis=0)), jnp.sqrt(squares)

    with jax.default_matmul_precision("highest"):
        (mean, square), lengths = probe.mean_and_rows(moments, batch, batch_size)
        alpha = inner(mean, mean) / square
    near_zero = jnp.mean(lengths <= 1e-6 * lengths.mean(axis=0)[None], axis=0)
    return Coherence(alpha, probe.size(batch) * alpha, near_zero)


def noise_scale(
    loss_fn: LossFn,
    params: PyTree,
    batch: PyTree,
    *,
    batch_size: int = 16,
    inner: Inner = tree.dot,
) -> NoiseScale:
    """Noise scale and m-coherence from mini-batch gradients and their mean.

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
    """
    count = probe.size(batch)
    if batch_size >= count:
        raise InputError(
            f"batch_size {batch_size} must be smaller than the {count} examples."
        )

    def gradient_and_square(one: PyTree) -> tuple[PyTree, Array]:
        gradient = jax.grad(loss_fn)(params, one)
        return gradient, inner(gradient, gradient)[None]

    with jax.default_matmul_precision("highest"):
        mean, squares = probe.mean_and_rows(gradient_and_square, batch, batch_size)
        large = inner(mean, mean)
    return noise_of(squares, large, probe.sizes(count, batch_size))


def noise_of(squares: Array, large: Array, sizes: Array) -> NoiseScale:
    """`noise_scale` from squared norms that are known.

    Args:
      squares: of the mini-batch gradients ``[M, ...]``.
      large: of their mean over all ``N`` examples ``[...]``.
      sizes: of the mini-batches ``[M]``.
    """
    count = sizes.sum()
    total = jnp.sum(1 / sizes - 1 / count)
    noise = (squares - large[None]).sum(axis=0) / total
    squared = large - noise / count
    alpha = large / (large + (1 - 1 / count) * noise)
    noise_error = jnp.sqrt(len(sizes)) * squares.std(axis=0, ddof=1) / total
    error = alpha**2 * (1 - 1 / count) * noise_error / large
    return NoiseScale(alpha, error, noise / squared, squared, noise)


def batch_cosines(
    loss_fn: LossFn, params: PyTree, batch: PyTree, *, batch_size: int = 128
) -> BatchCosines:
    """Pairwise cosines of mini-batch gradients. Cost per example: forward, backward.

    Raises:
      InputError: fewer than two mini-batches of that size in the probe.
    """
    whole = probe.size(batch) // batch_size
    if whole < 2:
        raise InputError(
            f"batch_size {batch_size} leaves {whole} whole mini-batches of "
            f"{probe.size(batch)} examples; at least 2 are compared."
        )
    head = jax.tree.map(lambda leaf: leaf[: whole * batch_size], batch)
    with jax.default_matmul_precision("highest"):
        grads, _ = probe.map_batches(
            lambda one: jax.grad(loss_fn)(params, one), head, batch_size
        )
        cosines = tree.cosines(gramian(grads).values)
    pairs = cosines[jnp.triu_indices(whole, k=1)]
    return BatchCosines(pairs.mean(), pairs.min())


def stiffness(
    loss_fn: LossFn, params: PyTree, first: PyTree, second: PyTree
) -> Stiffness:
    """Stiffness between two sets of examples: train and train, or train and validation.

    Source: Fort et al., 2019. Cost per example: forward, backward; memory: all their
    gradients, so give a few hundred. Select classes from the matrices by labels.
    """
    with jax.default_matmul_precision("highest"):
        a, b = (_example_grads(loss_fn, params, one) for one in (first, second))
        inner = sum(
            jnp.matmul(x.reshape(len(x), -1), y.reshape(len(y), -1).T)
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        )
        lengths = [jax.vmap(tree.norm)(grads) for grads in (a, b)]
    cosines = inner / (lengths[0][:, None] * lengths[1][None, :])
    return Stiffness(cosines, jnp.sign(cosines))


def gsnr(
    loss_fn: LossFn, params: PyTree, batch: PyTree, *, batch_size: int = 32
) -> Scalar:
    """Gradient signal-to-noise ratio: mean over parameters of ``(E g)^2 / Var g``.

    Source: Liu et al., 2020, Eq. 2. Parameters whose gradient never varies are left
    out. Cost per example: forward, backward; memory: ``batch_size`` gradients.
    """

    def moments(one: PyTree) -> tuple[PyTree, PyTree]:
        grads = _example_grads(loss_fn, params, one)
        mean = jax.tree.map(lambda g: g.mean(axis=0), grads)
        return mean, jax.tree.map(lambda g: (g**2).mean(axis=0), grads)

    with jax.default_matmul_precision("highest"):
        mean, square = probe.mean_batches(moments, batch, batch_size)
    mean, square = (
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(part)])
        for part in (mean, square)
    )
    variance = square - mean**2
    varies = variance > jnp.finfo(square.dtype).eps * square
    ratio = jnp.where(varies, mean**2 / jnp.where(varies, variance, 1), 0)
    return ratio.sum() / varies.sum()


def _example_grads(loss_fn: LossFn, params: PyTree, batch: PyTree) -> PyTree:
    """Gradient of every example on its own, leaves ``[B, ...]``."""

    def one(example: PyTree) -> PyTree:
        alone = jax.tree.map(lambda leaf: leaf[None], example)
        return jax.grad(loss_fn)(params, alone)

    return jax.vmap(one)(batch)
