"""Similarity of networks' features on the same examples: linear CKA.

>>> import jax, jax.numpy as jnp
>>> x = jax.random.normal(jax.random.key(0), (64, 3))
>>> mixed = 2 * x @ jnp.array([[0.6, 0.8, 0], [-0.8, 0.6, 0], [0, 0, 1]])  # a rotation
>>> other = jax.random.normal(jax.random.key(1), (64, 5))
>>> round(float(linear_cka(x, mixed)), 4), bool(linear_cka(x, other) < 0.3)
(1.0, True)
"""

import jax
import jax.numpy as jnp

from mtl_jax.metrics import precision
from mtl_jax.types import Array, InputError, Scalar


def linear_cka(x: Array, y: Array, *, debiased: bool = False) -> Scalar:
    """Return the linear centred kernel alignment of features ``[N, D]``.

    ``|Y'X|^2 / (|X'X| |Y'Y|)`` in Frobenius norms of ``x [N, D1]`` and ``y [N, D2]``,
    columns centred (Kornblith et al., 2019, section 3): no unit, 0 to 1, and 1 where
    the features agree up to a rotation and one scale. Few examples of many features
    raise it, also between unrelated networks; ``debiased`` puts the unbiased HSIC_1 of
    Song et al., 2012 in its place, as Nguyen et al., 2021 do: 0 on average for
    unrelated features, -1 to 1.

    NaN where the features of either do not vary over the examples.

    Cost: no pass of a network; ``N^2 (D1 + D2)`` multiplications and two matrices
    ``[N, N]``, so give a few thousand examples. Flatten maps ``[N, H, W, C]`` first.

    Raises:
      InputError: features that are not two matrices of as many rows, or fewer than
        four examples for ``debiased``.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0]:
        raise InputError(
            f"features are {x.shape} and {y.shape}; pass [N, D1] and [N, D2] of the "
            f"same N examples."
        )
    if debiased and x.shape[0] < 4:
        raise InputError(f"debiased needs at least 4 examples, not {x.shape[0]}.")
    of_x, of_y = _kernel(x, debiased), _kernel(y, debiased)
    return precision.dot(of_x, of_y) / (precision.norm(of_x) * precision.norm(of_y))


def pairwise_cka(features: Array, *, debiased: bool = False) -> Array:
    """Return `linear_cka` of all pairs of networks ``[T, T]``.

    Args:
      features: of the same examples by every network ``[T, N, D]``.
      debiased: as in `linear_cka`.

    Raises:
      InputError: features of another rank, or fewer than four examples for
        ``debiased``.

    >>> x = jax.random.normal(jax.random.key(0), (8, 3))
    >>> pairwise_cka(jnp.stack([x, 2 * x])).round(4).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    if features.ndim != 3:
        raise InputError(
            f"features are {features.shape}; pass [T, N, D], flattened where they are "
            f"maps."
        )
    if debiased and features.shape[1] < 4:
        raise InputError(f"debiased needs at least 4 examples, not {len(features[0])}.")
    kernels = jax.lax.map(lambda x: _kernel(x, debiased), features)
    rows = kernels.reshape(len(kernels), -1)
    products = jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)
    sizes = jnp.sqrt(jnp.diagonal(products))
    return products / (sizes[:, None] * sizes[None, :])


def _kernel(x: Array, debiased: bool) -> Array:
    """Centred Gramian ``[N, N]`` of features of unit scale; NaN for constant ones."""
    x, _ = precision.scaled(x.astype(precision.dtype_of(x)))
    centred = x - x.mean(axis=0, keepdims=True)
    # The mean's rounding is an offset that every example shares: take it off as well.
    centred = centred - centred.mean(axis=0, keepdims=True)
    length = precision.norm(centred)
    varies = length > jnp.finfo(x.dtype).eps * precision.norm(x)
    centred = centred / jnp.where(varies, length, jnp.nan)
    kernel = jnp.matmul(centred, centred.T, precision=jax.lax.Precision.HIGHEST)
    if not debiased:
        return kernel
    # <U(K), U(L)> / (N (N - 3)) is HSIC_1 of Song et al. (Szekely & Rizzo, 2014).
    n = x.shape[0]
    off = ~jnp.eye(n, dtype=bool)
    kernel = jnp.where(off, kernel, 0)
    rows = kernel.sum(axis=0)
    kernel = kernel - (rows[:, None] + rows[None, :]) / (n - 2)
    return jnp.where(off, kernel + rows.sum() / ((n - 1) * (n - 2)), 0)
