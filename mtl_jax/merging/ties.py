"""TIES: trim task vectors, elect signs, merge what agrees (Yadav et al., 2023).

As the authors' code has it (`ties_merging_utils.py`), over all parameters of a task at
once:

1. trim: of ``D`` entries a task keeps those at least as large as its ``k``-th smallest,
   ``k = D - floor(D density)``. That is one more than ``floor(D density)``, and more
   where entries tie;
2. elect: ``s_d = sign(sum_t tau_td)``; an entry whose sum is 0 takes the sign of
   ``sum_d s_d``, the majority's;
3. merge: positive entries where ``s_d > 0``, negative ones elsewhere (also where the
   majority has no sign); their sum, or their mean over the tasks that have one.

>>> import jax.numpy as jnp
>>> vectors = jnp.array([[5.0, -4.0, 0.1, 1.0], [3.0, 6.0, -0.2, 2.0]])
>>> trim(vectors, density=0.25).tolist()
[[5.0, -4.0, 0.0, 0.0], [3.0, 6.0, 0.0, 0.0]]
>>> consistent(vectors, density=0.25).tolist()
[[5.0, 0.0, 0.0, 0.0], [3.0, 6.0, 0.0, 0.0]]
>>> ties(jnp.zeros(4), vectors, density=0.25, scale=1.0, merge="mean").tolist()
[4.0, 6.0, 0.0, 0.0]
"""

import jax
import jax.numpy as jnp

from mtl_jax.merging.vectors import count_tasks
from mtl_jax.options import is_positive, one_of
from mtl_jax.tree import working_dtype
from mtl_jax.types import Array, InputError, PyTree, Scalar


def _sum(entries: Array) -> Array:
    return entries.sum(axis=0)


def _mean(entries: Array) -> Array:
    count = (entries != 0).sum(axis=0).astype(entries.dtype)
    return entries.sum(axis=0) / jnp.maximum(count, 1)


MERGES = {"sum": _sum, "mean": _mean}
"""Entries ``[T, ...]`` that agree, 0 where they do not, to one ``[...]``."""


def ties(
    start: PyTree,
    vectors: PyTree,
    *,
    density: float = 0.2,
    scale: float | Scalar = 0.3,
    merge: str = "sum",
) -> PyTree:
    """Merge by TIES: ``theta_0 + lambda merge_t tau_t`` of what `consistent` leaves.

    A scale of 0.3 goes with sums (AdaMerging's code); the paper has 1 with means.

    Cost: a sort of all parameters of each task.

    Args:
      start: parameters, leaves ``[...]``.
      vectors: task vectors, leaves ``[T, ...]``.
      density: share of the entries that is kept, in (0, 1].
      scale: ``lambda``; several of them are one more axis of ``vmap``.
      merge: ``sum`` or ``mean``.

    Raises:
      InputError: trees that do not fit each other, a density out of range, or an
        unknown merge.
    """
    count_tasks(start, vectors)
    merged = MERGES[one_of("merge", merge, MERGES)]

    def add(leaf: Array, entries: Array) -> Array:
        return (leaf + scale * merged(entries)).astype(leaf.dtype)

    return jax.tree.map(add, start, consistent(vectors, density=density))


def consistent(vectors: PyTree, *, density: float = 0.2) -> PyTree:
    """Return trimmed vectors ``[T, ...]``, 0 where they are not of the elected sign.

    Their sum is that of TIES; AdaMerging++ learns a coefficient for each.

    Raises:
      InputError: a density out of range.
    """
    trimmed = trim(vectors, density=density)

    def agreeing(leaf: Array, sign: Array) -> Array:
        agrees = jnp.where((sign > 0)[None], leaf > 0, leaf < 0)
        return jnp.where(agrees, leaf, 0)

    return jax.tree.map(agreeing, trimmed, elect(trimmed))


def trim(vectors: PyTree, *, density: float = 0.2) -> PyTree:
    """Keep the largest entries of every task vector, and set the others to 0.

    Raises:
      InputError: a density out of range.
    """
    if not is_positive(density) or density > 1:
        raise InputError(f"density is {density!r}; pass a share above 0, at most 1.")
    leaves = jax.tree.leaves(vectors)
    dtype = working_dtype(vectors)
    rows = [jnp.abs(leaf).reshape(leaf.shape[0], -1).astype(dtype) for leaf in leaves]
    sizes = jnp.sort(jnp.concatenate(rows, axis=1), axis=1)
    total = sizes.shape[1]
    least = sizes[:, max(total - int(total * density), 1) - 1]

    def kept(leaf: Array) -> Array:
        limit = least.reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(jnp.abs(leaf) >= limit, leaf, 0)

    return jax.tree.map(kept, vectors)


def elect(vectors: PyTree) -> PyTree:
    """Elect the sign of every entry ``[...]``: that of the sum over tasks."""
    signs = jax.tree.map(
        lambda leaf: jnp.sign(leaf.sum(axis=0)).astype(jnp.int32), vectors
    )
    majority = jnp.sign(sum(leaf.sum() for leaf in jax.tree.leaves(signs)))
    return jax.tree.map(lambda leaf: jnp.where(leaf == 0, majority, leaf), signs)
