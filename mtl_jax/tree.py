"""Algebra on pytrees, with and without a leading task axis ``[T, ...]``.

>>> import jax.numpy as jnp, numpy as np
>>> grads = {"w": jnp.array([[1.0, 0.0], [-1.0, 1.0]])}  # two tasks
>>> gram(grads)
Array([[ 1., -1.],
       [-1.,  2.]], dtype=float32)
>>> print(np.asarray(combine(jnp.array([0.6, 0.4]), grads)["w"]).round(4))
[0.2 0.4]
"""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.gramian import HIGHEST, gramian, row_lengths
from mtl_jax.types import Array, PyTree, Scalar


def dot(a: PyTree, b: PyTree) -> Scalar:
    """Inner product of two trees of one structure, accumulated in float32 or more."""

    def product(u: Array, v: Array) -> Array:
        return jnp.vdot(
            u, v, precision=HIGHEST, preferred_element_type=working_dtype((u, v))
        )

    products: list[Array] = jax.tree.leaves(jax.tree.map(product, a, b))
    return sum(products, start=jnp.zeros((), jnp.float32))


def norm(tree: PyTree) -> Scalar:
    """Euclidean norm of all leaves together, over all of float32's range."""
    leaves = jax.tree.leaves(tree)
    if not leaves:
        return jnp.zeros(())
    return row_lengths([leaf[None] for leaf in leaves])[0]


def working_dtype(tree: PyTree) -> jnp.dtype:
    """Dtype to compute with: float32, or float64 where a leaf is in that."""
    return jnp.result_type(jnp.float32, *jax.tree.leaves(tree))


def gram(tree: PyTree) -> Array:
    """Gramian ``[T, T]`` of the ``T`` rows of a tree with leaves ``[T, ...]``.

    Its entries over- and underflow where `mtl_jax.gramian.gramian` does not.
    """
    return gramian(tree).entries


def cosines(gram: Array) -> Array:
    """Cosine matrix ``[T, T]`` of a Gramian; NaN in the rows of a zero gradient."""
    norms = jnp.sqrt(jnp.diagonal(gram))
    return gram / (norms[:, None] * norms[None, :])


def combine(weights: Array, tree: PyTree) -> PyTree:
    """Weighted sum over the task axis: ``[T]`` and ``[T, ...]`` to ``[...]``.

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
    """Multiply row ``t`` of every leaf ``[T, ...]`` by ``weights[t]``; rounds once."""
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
    checks = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return jnp.stack([jnp.ones((), bool), *checks]).all()
