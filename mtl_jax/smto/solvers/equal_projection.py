"""The combination of unit gradients that projects equally on all, or as is wanted.

``C y = p`` with the cosines ``C = U U'``: then ``<u_i, U' y> = p_i`` for every unit
gradient ``u_i``. Where ``C`` annihilates a part of ``p`` there is no such ``y``; where
it does so to rounding, that part may be what matters most, or nothing. The methods
differ in what they return then, and the violation tells.
"""

from typing import NamedTuple

import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.smto.solvers.rounding import NUDGE
from mtl_jax.smto.solvers.solution import length_or
from mtl_jax.types import Array


class Parts(NamedTuple):
    """Solutions of ``C y = p`` in the range of ``C``, and beyond it."""

    within: Array
    """``C^+ p [T]``."""
    aim: Array
    """The part of ``p`` in the range of ``C``: ``[T]``."""
    beyond: Array
    """The part of ``p`` that ``C`` annihilates ``[T]``: what ``y`` is proportional to
    in the limit of a ``C`` that does not quite."""
    least: Array
    """Length that ``beyond`` would add to ``U' y``, relative to that of ``within``,
    were the values of ``C`` that count as 0 as large as rounding may be ``[]``."""
    most: Array
    """And were they as small as rounding may be, but not 0."""
    mixed: Array
    """bool ``[]``: ``beyond`` is of several such values; any mixture may be ``y``."""
    free: Array
    """Orthonormal columns, or 0, that ``C`` annihilates ``[T, T]``: ``y`` may have any
    amount of them."""


def solve(cosines: Array, active: Array, wanted: Array) -> Parts:
    """Solve ``C y = p`` for the active tasks (bool ``[T]``), with refinement.

    Args:
      cosines: ``C [T, T]``.
      active: bool ``[T]``.
      wanted: ``p [T]``, 0 for tasks that are not active.
    """
    values, vectors = jnp.linalg.eigh(cosines)
    eps = jnp.finfo(cosines.dtype).eps * values[-1]
    # The norm of a matrix of independent roundings.
    rounding = 1.5 * len(values) ** 0.5 * eps
    kept = values > rounding
    parts = vectors.T @ wanted
    # A part of rounding, blown up, would be noise.
    parts = jnp.where(jnp.abs(parts) > rounding, parts, 0)
    inner, outer = jnp.where(kept, parts, 0), jnp.where(kept, 0, parts)
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    beyond = vectors @ outer
    aim = jnp.where(active & inner.any(), wanted - beyond, 0)
    y = vectors @ (inverse * inner)
    for _ in range(2):
        error = aim - jnp.matmul(cosines, y, precision=tree.HIGHEST)
        y = y + vectors @ (inverse * (vectors.T @ error))
    inside = inverse @ inner**2
    ratio = jnp.linalg.norm(outer) / jnp.sqrt(jnp.where(inside > 0, inside, 1))
    return Parts(
        within=y,
        aim=aim,
        beyond=beyond,
        least=ratio / jnp.sqrt(rounding),
        most=ratio / jnp.sqrt(NUDGE * eps),
        mixed=jnp.sum(outer != 0) > 1,
        free=jnp.where(kept[None], 0, vectors),
    )


def violation(cosines: Array, active: Array, y: Array, wanted: Array) -> Array:
    """Return ``max_i |cos(u_i, d) - s p_i|`` ``[]``, ``d = U' y``, with the best ``s``.

    Relative to ``sum_i |y_i|`` where ``d`` is 0 to rounding.
    """
    projections = jnp.matmul(cosines, y, precision=tree.HIGHEST)
    squared = wanted @ wanted
    nearest = wanted * (projections @ wanted) / jnp.where(squared > 0, squared, 1)
    unequal = jnp.max(jnp.abs(projections - nearest), where=active, initial=0)
    size = length_or(jnp.abs(y).sum(), cosines, y)
    return unequal / jnp.where(size > 0, size, 1)
