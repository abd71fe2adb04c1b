"""Algebra on pytrees, with and without a leading task axis ``[T, ...]``.

>>> import jax.numpy as jnp, numpy as np
>>> grads = {"w": jnp.array([[1.0, 0.0], [-1.0, 1.0]])}  # two tasks
>>> gram(grads)
Array([[ 1., -1.],
       [-1.,  2.]], dtype=float32)
>>> print(np.asarray(combine(jnp.array([0.6, 0.4]), grads)["w"]).round(4))
[0.2 0.4]
"""

import jax
import jax.numpy as jnp

from mtl_jax.types import Array, PyTree, Scalar

HIGHEST = jax.lax.Precision.HIGHEST


def dot(a: PyTree, b: PyTree) -> Scalar:
    """Inner product of two trees of one structure, accumulated in float32."""
    products = jax.tree.map(
        lambda u, v: jnp.vdot(
            u, v, precision=HIGHEST, preferred_element_type=jnp.float32
        ),
        a,
        b,
    )
    return sum(jax.tree.leaves(products), start=jnp.zeros((), jnp.float32))


def norm(tree: PyTree) -> Scalar:
    """Euclidean norm of all leaves together."""
    return jnp.sqrt(dot(tree, tree))


def gram(tree: PyTree) -> Array:
    """Gramian ``[T, T]`` of the ``T`` rows of a tree with leaves ``[T, ...]``.

    Leaf by leaf, in float32 at the highest matmul precision: SMTOs compare its
    entries with each other, and TF32 is too coarse for that.
    """
    return cross(tree, tree)


def cross(a: PyTree, b: PyTree) -> Array:
    """Inner products ``[M, N]`` of the rows of two trees, as `gram`."""
    return _add(
        jax.tree.map(
            lambda u, v: jnp.matmul(_rows(u), _rows(v).T, precision=HIGHEST), a, b
        )
    )


def inner(rows: PyTree, row: PyTree) -> Array:
    """Inner products ``[T]`` of the rows of a tree ``[T, ...]`` with one ``[...]``."""
    return _add(
        jax.tree.map(
            lambda u, v: jnp.matmul(
                _rows(u), v.ravel().astype(jnp.float32), precision=HIGHEST
            ),
            rows,
            row,
        )
    )


def squared_norms(tree: PyTree) -> Array:
    """Squared lengths ``[T]`` of the rows of a tree ``[T, ...]``, in float32."""
    return _add(jax.tree.map(lambda leaf: jnp.sum(_rows(leaf) ** 2, axis=1), tree))


def _rows(leaf: Array) -> Array:
    return leaf.reshape(leaf.shape[0], -1).astype(jnp.float32)


def _add(tree: PyTree) -> Array:
    leaves: list[Array] = jax.tree.leaves(tree)
    return sum(leaves[1:], start=leaves[0])


def cosines(gram: Array) -> Array:
    """Cosine matrix ``[T, T]`` of a Gramian; NaN in the rows of a zero gradient."""
    norms = jnp.sqrt(jnp.diagonal(gram))
    return gram / (norms[:, None] * norms[None, :])


def combine(weights: Array, tree: PyTree) -> PyTree:
    """Weighted sum over the task axis: ``[T]`` and ``[T, ...]`` to ``[...]``."""
    return jax.tree.map(
        lambda leaf: jnp.tensordot(
            weights.astype(leaf.dtype), leaf, axes=1, precision=HIGHEST
        ),
        tree,
    )


def scale_rows(weights: Array, tree: PyTree) -> PyTree:
    """Multiply row ``t`` of every leaf ``[T, ...]`` by ``weights[t]``."""
    return jax.tree.map(
        lambda leaf: (
            weights.astype(leaf.dtype).reshape(-1, *[1] * (leaf.ndim - 1)) * leaf
        ),
        tree,
    )


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
    """Tell whether every number of a tree is finite: a scalar of bool."""
    checks = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(checks).all()
