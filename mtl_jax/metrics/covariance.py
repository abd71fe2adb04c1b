"""Gradient covariance: how much the gradients of a task's examples differ.

>>> import jax.numpy as jnp
>>> loss_fn = lambda params, batch: jnp.mean(batch @ params)
>>> examples = jnp.array([[1.0, 0.0], [3.0, 0.0]])  # gradients of mean 2, deviation 1
>>> covariance = gradient_covariance(loss_fn, jnp.zeros(2), examples, batch_size=1)
>>> float(covariance.trace), float(covariance.squared_norm)
(1.0, 4.0)
"""

from typing import NamedTuple

from mtl_jax.metrics import precision, probe
from mtl_jax.metrics.coherence import gradient_lengths
from mtl_jax.metrics.precision import Inner
from mtl_jax.types import Array, InputError, LossFn, PyTree


class GradientCovariance(NamedTuple):
    """Covariance of the per-example gradients of one task."""

    trace: Array
    """``E |grad l(x, y) - grad L|^2`` over the population: unbiased, so it may be
    negative where the signal drowns the noise."""
    standard_error: Array
    """Standard error of the trace, as if the mini-batches were independent; as they
    share out one probe, it is smaller than that."""
    squared_norm: Array
    """``|grad L|^2`` of the population, unbiased."""


def gradient_covariance(
    loss_fn: LossFn,
    params: PyTree,
    batch: PyTree,
    *,
    batch_size: int = 16,
    population: int | None = None,
    inner: Inner = precision.dot,
) -> GradientCovariance:
    """Estimate the trace of the gradient covariance from gradients of mini-batches.

    ``tr Sigma = (G_B - G_L) / (A_B / B - A_L / L)`` with ``G_B`` the mean squared norm
    of the gradients of mini-batches of ``B``, ``G_L`` that of their mean over all ``L``
    examples, and ``A_Z = (N - Z) / (N - 1)``, as both are drawn without replacement
    from ``N``. Unbiased over random orders of the batch, so let its order be random.

    Source: Mueller et al., 2024, Eq. 4 and 7 to 13, which calls it gradient coherence
    (larger is worse), after McCandlish et al., 2018, appendix A. Cost per example: one
    forward and one backward pass.

    Args:
      loss_fn: ``(params, batch) -> mean loss``.
      params: any pytree of floats.
      batch: leaves ``[L, ...]``.
      batch_size: ``B``, smaller than ``L``; the last mini-batch may be smaller. The
        smaller, the less the estimate varies.
      population: ``N``, examples that the batch was drawn from; those of the batch if
        it is not given, which ``A_L = 0`` and the batch's own covariance go with.
      inner: inner product of two gradients; one that returns several ``[S]``, each
        over some of the parameters, gives leaves ``[S]``.

    Raises:
      InputError: the mini-batches are not smaller than the batch, or the batch is
        larger than the population.
    """
    count = probe.size(batch)
    population = count if population is None else population
    lengths = gradient_lengths(loss_fn, params, batch, batch_size, inner)
    if population < count:
        raise InputError(
            f"population {population} must be at least the {count} examples drawn "
            f"from it."
        )
    return covariance_of(*lengths, float(population))


def covariance_of(
    lengths: Array, length: Array, sizes: Array, population: float | Array
) -> GradientCovariance:
    """Return `gradient_covariance` from gradients' lengths that are known.

    Mini-batches of several sizes count by their size, in ``G_B`` and in ``A_B / B``.

    Args:
      lengths: of the mini-batch gradients ``[M, ...]``.
      length: of their mean over all ``L`` examples ``[...]``.
      sizes: of the mini-batches ``[M]``.
      population: ``N``.
    """
    scale = precision.magnitude(lengths.max(axis=0))
    squares, large = (lengths / scale[None]) ** 2, (length / scale) ** 2
    small, small_error = probe.mean_and_error(squares, sizes)
    sizes = sizes.astype(lengths.dtype)
    count = sizes.sum()
    # Variance of a mean of Z examples, as a share of the trace: A_Z / Z.
    of_small = ((population - sizes) / (population - 1)).sum() / count
    of_large = (population - count) / (population - 1) / count
    apart = of_small - of_large
    trace, error = (small - large) / apart, small_error / apart
    squared = large - of_large * trace
    return GradientCovariance(
        *(value * scale * scale for value in (trace, error, squared))
    )
