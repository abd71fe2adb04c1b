"""Averages of solutions: plain, and weighted by what each task is sure of.

>>> import jax.numpy as jnp
>>> solutions = jnp.array([[1.0, 1.0], [3.0, 5.0]])
>>> average(solutions).tolist()
[2.0, 3.0]
>>> fisher_average(solutions, jnp.array([[1.0, 0.0], [0.0, 1.0]])).round(2).tolist()
[1.0, 5.0]
"""

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.types import Array, InputError, PyTree


def average(solutions: PyTree) -> PyTree:
    """Average solutions ``[T, ...]`` over tasks."""
    return jax.tree.map(lambda leaf: leaf.mean(axis=0), solutions)


def fisher_average(
    solutions: PyTree, fishers: PyTree, *, floor: float = 1e-6
) -> PyTree:
    """Average solutions weighted by the diagonals of their Fisher information.

    ``theta_d = sum_t F_td theta_td / sum_t F_td`` (Matena & Raffel, 2022, equation 3),
    every diagonal over its length, so that no task weighs more because its gradients
    are longer, and at least ``floor`` before that. The authors' code has the floor for
    the first of the models only, its target, unless ``favor_target_model=False``. It is
    no share: where diagonals lie far below it, this is the plain average, so lower it.

    Args:
      solutions: leaves ``[T, ...]``.
      fishers: diagonals, such as `metrics.fisher_diagonal`'s, of the same shapes.
      floor: least entry of a diagonal. With 0, the average is plain where all tasks
        have 0.

    Raises:
      InputError: trees of unlike structure or shape.
    """
    shapes = [jax.tree.map(jnp.shape, leaves) for leaves in (solutions, fishers)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"solutions are {shapes[0]} and diagonals {shapes[1]}; pass one diagonal "
            f"[T, ...] of every parameter."
        )
    sizes = tree.row_lengths(fishers)
    sizes = jnp.where(sizes > 0, sizes, 1)
    floored = jax.tree.map(lambda leaf: jnp.maximum(leaf, floor), fishers)
    weights = tree.scale_rows(1 / sizes, floored)

    def weighted(leaf: Array, weights: Array) -> Array:
        total = weights.sum(axis=0)
        known = total > 0
        sums = (weights * leaf).sum(axis=0) / jnp.where(known, total, 1)
        return jnp.where(known, sums, leaf.mean(axis=0)).astype(leaf.dtype)

    return jax.tree.map(weighted, solutions, weights)
