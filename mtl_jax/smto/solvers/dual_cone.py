"""Projection on the dual cone of the gradients (UPGrad, DualProj)."""

import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.solvers import interior_point
from mtl_jax.smto.solvers.solution import (
    Solution,
    UnitGramian,
    accurate,
    length_or,
    unit_gramian,
)
from mtl_jax.types import Array

RIDGE = 4
TIGHT = 128
"""Cosines with the direction, in machine epsilons, that may as well be 0."""


@accurate
def project(gram: Gram | UnitGramian, preference: Array) -> Solution:
    """Minimise ``v' G v`` over ``v >= preference >= 0``: weights ``[T]``.

    ``J' v`` is the closest direction to that of the preference in conflict with no
    gradient: ``G v >= 0``. With ``x_i = v_i |g_i| = l_i + y_i`` and the cosines ``C``:
    ``min (l + y)' C (l + y)`` over ``y >= 0``. The residual is
    ``max_i |min(y_i, (C x)_i)| / |d|``, 0 at the solution: no cosine of the direction
    ``d`` with a gradient is negative, and nothing is added along those it agrees with.
    It is not less than the length of Newton's next step, relative to ``|d|``: among
    gradients that are almost opposed, small cosines are a long way. Where ``d`` is 0 to
    rounding, both are relative to ``sum_i l_i``. Source: Quinton & Rey, 2024
    (arXiv:2406.16232), Proposition 1.

    >>> import numpy as np
    >>> gram = jnp.array([[1.0, -1.0], [-1.0, 2.0]])
    >>> weights, residual = project(gram, jnp.array([0.5, 0.0]))
    >>> np.asarray(weights).round(4).tolist(), bool(residual < 1e-5)
    ([0.5, 0.25], True)
    """
    cosines, norms, _, active = unit_gramian(gram)
    eps = jnp.finfo(cosines.dtype).eps
    lower = jnp.where(active, preference * norms, 0)
    largest = lower.max()
    lower = lower / jnp.where(largest > 0, largest, 1)
    # Where a positive combination of the gradients vanishes, any amount of it may be
    # added: a ridge as large as rounding asks for a little.
    ridged = cosines + RIDGE * eps * jnp.eye(len(lower), dtype=cosines.dtype)
    added, dual = interior_point.quadratic(ridged, ridged @ lower)
    added = jnp.where((largest > 0) & active & (added > dual), added, 0)
    x = lower + added
    slack = cosines @ x
    size = length_or(jnp.maximum(lower.sum(), 1), cosines, x)
    excess = jnp.max(jnp.abs(jnp.minimum(added, slack)), where=active, initial=0)

    free = active & ((added > 0) | (slack < TIGHT * eps * size))
    pair = free[:, None] & free[None, :]
    factor = interior_point.factorize(
        jnp.where(pair, cosines, 0),
        jnp.where(free, RIDGE * eps, 1).astype(cosines.dtype),
    )
    slack = jnp.where(free, slack, 0)
    step = jnp.sqrt(jnp.maximum(slack @ cho_solve(factor, slack), 0))
    step = jnp.where(jnp.isfinite(step), step, size)  # not even that is known
    residual = jnp.maximum(excess, step) / size
    return Solution(preference + added / norms * largest, residual)
