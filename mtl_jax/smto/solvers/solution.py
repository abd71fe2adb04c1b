"""Solutions, how far from optimal they may be, and problems in unit-norm variables.

Gradients of unlike tasks differ in length by orders of magnitude, so problems are put
in unit-norm variables: cosines and lengths, instead of a Gramian whose entries span
twice as many orders. Nothing is compared with an absolute number.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from mtl_jax.gradients import gramian
from mtl_jax.gradients.gramian import Gram
from mtl_jax.types import Array

TOLERANCE = 1e-3
"""Relative residual above which a problem counts as not solved, in float32."""
ROUNDING = 4
"""Machine epsilons that a cosine may be off, from when it was made and used."""

SHORTEST = 2.0**-100
"""Relative length that shorter gradients count as: inverses stay in float32's range."""

Solver = TypeVar("Solver", bound=Callable[..., Any])


def accurate(solve: Solver) -> Solver:
    """Compute products to all of float32's digits, which a GPU has to be asked for."""

    @functools.wraps(solve)
    def solve_accurately(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return solve(*args, **kwargs)

    return solve_accurately  # type: ignore[return-value]


class Solution(NamedTuple):
    """Weights, and how far they are from optimal."""

    weights: Array
    """``[T]``; 0 where a task is inactive."""
    residual: Array
    """Violation of the optimality conditions by these weights ``[]``, relative, as each
    solver defines it; or, if that is larger, what `rounding.settle` adds: how far
    rounding leaves the direction open. Above `TOLERANCE` the problem is not solved."""


class UnitGramian(NamedTuple):
    """A Gramian in unit-norm variables."""

    cosines: Array
    """``[T, T]``, the diagonal exactly 1; rows of inactive tasks are those of the
    identity, so that every factorisation goes through."""
    norms: Array
    """``[T]``, divided by `scale`, at least `SHORTEST`; 1 for inactive tasks."""
    scale: Array
    """Root mean square of the active tasks' lengths ``[]``; 1 if there is none."""
    active: Array
    """bool ``[T]``: the gradient is finite and not zero."""


def unit_gramian(gram: Gram | UnitGramian) -> UnitGramian:
    """Put a Gramian ``[T, T]`` of any scale in unit-norm variables.

    What has been put in unit-norm variables is left as it is.

    >>> import numpy as np
    >>> entries = jnp.array([[1.0, -2.0, 0.0], [-2.0, 16.0, 0.0], [0.0, 0.0, 0.0]])
    >>> problem = unit_gramian(entries)
    >>> np.asarray(problem.cosines[0]).tolist(), np.asarray(problem.active).tolist()
    ([1.0, -0.5, 0.0], [True, True, False])
    """
    if isinstance(gram, UnitGramian):
        return gram
    gram = gramian.of(gram)
    lengths = gram.lengths
    active = jnp.isfinite(lengths) & (lengths > 0)
    roots = jnp.sqrt(jnp.where(active, jnp.diagonal(gram.values), 1))
    pair = active[:, None] & active[None, :]
    cosines = jnp.where(pair, gram.values, 0) / roots[:, None] / roots[None, :]
    cosines = jnp.where(jnp.eye(len(roots), dtype=bool), 1, jnp.clip(cosines, -1, 1))
    largest = jnp.max(lengths, where=active, initial=0)
    largest = jnp.where(largest > 0, largest, 1)
    mean = jnp.mean((lengths / largest) ** 2, where=active)
    scale = largest * jnp.sqrt(jnp.where(active.any(), mean, 1))
    norms = jnp.where(active, jnp.maximum(lengths / scale, SHORTEST), 1)
    return UnitGramian(cosines, norms, scale, active)


def length(cosines: Array, u: Array) -> Array:
    """Return ``|sum_i u_i e_i|`` of unit vectors ``e_i``, at least what it rounds by.

    1 if there is nothing to measure: made to be divided by.

    >>> length(jnp.eye(2), jnp.array([3.0, 4.0])).item()
    5.0
    """
    squared = jnp.maximum(u @ cosines @ u, _rounding(u))
    return jnp.sqrt(jnp.where(squared > 0, squared, 1))


def length_or(size: Array | float, cosines: Array, u: Array) -> Array:
    """Return ``|sum_i u_i e_i|`` ``[]``, or ``size`` where that is 0 to rounding."""
    return jnp.where(cancels(cosines, u), size, length(cosines, u))


def cancels(cosines: Array, u: Array) -> Array:
    """Tell whether ``sum_i u_i e_i`` of unit vectors is 0, or only what it rounds by.

    >>> cancels(jnp.array([[1.0, -1.0], [-1.0, 1.0]]), jnp.array([3.0, 3.0])).item()
    True
    """
    return u @ cosines @ u <= _rounding(u)


def _rounding(u: Array) -> Array:
    """Return the rounding of a squared length whose terms cancel; its root has no less.

    Cosines are off one by one, so what they are off by adds up as random numbers do.
    """
    return ROUNDING * jnp.finfo(u.dtype).eps * (u @ u)
