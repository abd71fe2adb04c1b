"""Algebra on pytrees, with and without a leading task axis ``[T, ...]``.

>>> import jax.numpy as jnp, numpy as np
>>> grads = {"w": jnp.array([[1.0, 0.0], [-1.0, 1.0]])}  # two tasks
>>> print(np.asarray(combine(jnp.array([0.6, 0.4]), grads)["w"]).round(4))
[0.2 0.4]
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax.types import Array, PyTree, Scalar

HIGHEST = lax.Precision.HIGHEST


def dot(a: PyTree, b: PyTree) -> Scalar:
    """Multiply two trees of one structure (inner product), in float32 or more.

    >>> tree = {"w": jnp.ones(3), "b": jnp.array(2.0)}
    >>> dot(tree, tree).item()
    7.0
    """

    def product(u: Array, v: Array) -> Array:
        return jnp.vdot(
            u, v, precision=HIGHEST, preferred_element_type=working_dtype((u, v))
        )

    products: list[Array] = jax.tree.leaves(jax.tree.map(product, a, b))
    return sum(products, start=jnp.zeros((), jnp.float32))


def norm(tree: PyTree) -> Scalar:
    """Return the Euclidean norm of all leaves, over all of float32's range.

    >>> round(norm({"w": jnp.array([3e30]), "b": jnp.array(4e30)}).item() / 1e30, 5)
    5.0
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        return jnp.zeros(())

    def of_rows(*leaves: Array) -> Scalar:
        return row_lengths([leaf[None] for leaf in leaves])[0]

    def of_one(*leaves: Array) -> Scalar:
        return of_rows(_joined(leaves))

    # Four kernels of a GPU instead of four a leaf; others do without the copy. A TPU
    # counts 1,800 cycles for a pass over a small leaf: one instead of two.
    return lax.platform_dependent(*leaves, cuda=of_one, tpu=length, default=of_rows)


def working_dtype(tree: PyTree) -> jnp.dtype:
    """Return the dtype to compute with: float32, or float64 where a leaf is."""
    return jnp.result_type(jnp.float32, *jax.tree.leaves(tree))


def combine(weights: Array, tree: PyTree) -> PyTree:
    """Sum over the task axis with weights: ``[T]`` and ``[T, ...]`` to ``[...]``.

    Summed up in the weights' dtype at least, and rounded once, to the leaf's: weights
    of float32 rounded to bfloat16 are another direction where gradients nearly cancel.
    """

    def of_leaf(leaf: Array) -> Array:
        dtype = jnp.result_type(weights, leaf)
        total = jnp.tensordot(
            weights.astype(dtype), leaf.astype(dtype), axes=1, precision=HIGHEST
        )
        return total.astype(leaf.dtype)

    return jax.tree.map(of_leaf, tree)


def scale_rows(weights: Array, tree: PyTree) -> PyTree:
    """Multiply row ``t`` of every leaf ``[T, ...]`` by ``weights[t]``; rounds once.

    >>> scale_rows(jnp.array([2.0, 0.0]), {"w": jnp.ones((2, 2))})["w"].tolist()
    [[2.0, 2.0], [0.0, 0.0]]
    """
    return jax.tree.map(
        lambda leaf: (weights.reshape(-1, *[1] * (leaf.ndim - 1)) * leaf).astype(
            leaf.dtype
        ),
        tree,
    )


def astype(dtype: Any, tree: PyTree) -> PyTree:
    """Cast floating leaves to one dtype; the others stay."""
    return jax.tree.map(
        lambda leaf: (
            leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        ),
        tree,
    )


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """Cast the leaves of a tree to the dtypes of another of its structure."""
    return jax.tree.map(lambda leaf, other: leaf.astype(other.dtype), tree, like)


def keep_rows(kept: Array, tree: PyTree) -> PyTree:
    """Set row ``t`` of every leaf ``[T, ...]`` to 0 where not ``kept[t]``."""
    return jax.tree.map(
        lambda leaf: jnp.where(kept.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0), tree
    )


def where(condition: Array, a: PyTree, b: PyTree) -> PyTree:
    """Choose one of two trees of one structure by a scalar condition."""
    # A reduction is computed once. The bare condition XLA fuses into every leaf, with
    # all that it looks at: of `all_finite` a program of leaves times leaves, which for
    # DeepLab takes minutes to compile.
    condition = (~jnp.stack([~condition] * 2)).all()
    return jax.tree.map(lambda u, v: jnp.where(condition, u, v), a, b)


def all_finite(tree: PyTree) -> Array:
    """Tell whether every floating number of a tree is finite: a scalar of bool."""
    leaves = [
        leaf
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    if not leaves:
        return jnp.ones((), bool)

    def of_each(*leaves: Array) -> Array:
        return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()

    def of_one(*leaves: Array) -> Array:
        return jnp.isfinite(_joined(leaves)).all()

    # As in `norm`.
    return lax.platform_dependent(*leaves, cuda=of_one, default=of_each)


def _joined(leaves: Sequence[Array]) -> Array:
    """All numbers of some leaves in one row, in the widest of their types."""
    dtype = jnp.result_type(*leaves)
    return jnp.concatenate([leaf.ravel().astype(dtype) for leaf in leaves])


def length(*leaves: Array) -> Scalar:
    """Return the length of some leaves, in one pass over each.

    Large and small numbers are summed up apart, each times a power of two (Blue 1978, A
    portable Fortran program to find the Euclidean norm of a vector).
    """
    dtype = working_dtype(leaves)
    far = 2.0 ** (jnp.finfo(dtype).maxexp // 4 * 3)

    def sums(leaf: Array) -> Array:
        leaf = leaf.astype(dtype)
        size = jnp.abs(leaf)
        is_large, is_small = size > far ** (1 / 2), size < far ** (-1 / 2)
        large = jnp.where(is_large, leaf / far, 0)
        middle = jnp.where(is_large | is_small, 0, leaf)
        small = jnp.where(is_small, leaf * far, 0)
        return jnp.stack([jnp.sum(part**2) for part in (large, middle, small)])

    large, middle, small = sum(map(sums, leaves[1:]), start=sums(leaves[0]))
    with_large = jnp.sqrt(large + middle / far / far) * far
    with_small = jnp.sqrt(middle + small / far / far)
    alone = jnp.sqrt(small) / far
    return jnp.where(large > 0, with_large, jnp.where(middle == 0, alone, with_small))


def row_lengths(rows: PyTree) -> Array:
    """Return the lengths ``[T]`` of the rows of a tree ``[T, ...]``."""
    parts = [scaled_rows(leaf) for leaf in jax.tree.leaves(rows)]
    scale = largest_scales([part[1] for part in parts])
    squares = [jnp.sum(leaf**2, axis=1) * (s / scale) ** 2 for leaf, s in parts]
    return scale * jnp.sqrt(sum(squares[1:], start=squares[0]))


def scaled_rows(leaf: Array) -> tuple[Array, Array]:
    """Divide the rows of a leaf ``[T, ...]`` by powers of two, which rounds nothing.

    Returns:
      The rows ``[T, P]``, in float32 or more, and their scales ``[T]``, 0 of zeros.
    """
    leaf = leaf.astype(jnp.result_type(leaf.dtype, jnp.float32))
    axes = tuple(range(1, leaf.ndim))
    scales = power_of_two(jnp.max(jnp.abs(leaf), axis=axes, initial=0))
    # Of the leaf's own shape, so that the quotient takes its place in memory.
    divisor = jnp.where(scales > 0, scales, 1).reshape(-1, *[1] * len(axes))
    return (leaf / divisor).reshape(leaf.shape[0], -1), scales


def largest_scales(scales: list[Array]) -> Array:
    """Return scales ``[T]`` of whole rows from their leaves'; 1 of a row of zeros."""
    largest = jnp.stack(scales).max(axis=0)
    return jnp.where(largest > 0, largest, 1)


def power_of_two(x: Array) -> Array:
    """Return the power of two near ``x``, 0 for 0; 1 for what is not finite."""
    info = jnp.finfo(x.dtype)
    x = jnp.minimum(x, 2.0 ** (info.maxexp - 2))  # its inverse is a normal number
    power = lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=0)
    return jnp.where(jnp.isfinite(power), power, 1)
