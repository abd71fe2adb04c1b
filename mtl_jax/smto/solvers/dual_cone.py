"""Projection on the dual cone of the gradients (UPGrad, DualProj)."""

import jax.numpy as jnp

from mtl_jax.gramian import Gram
from mtl_jax.smto.solvers import interior_point
from mtl_jax.smto.solvers.solution import Solution, accurate, length, unit
from mtl_jax.types import Array

RIDGE = 4


@accurate
def project(gram: Gram, preference: Array) -> Solution:
    """``argmin of v' G v`` over ``v >= preference >= 0``: weights ``[T]``.

    ``J' v`` is the closest direction to that of the preference in conflict with no
    gradient: ``G v >= 0``. With ``x_i = v_i |g_i| = l_i + y_i`` and the cosines ``C``:
    ``min (l + y)' C (l + y)`` over ``y >= 0``. The residual is
    ``max_i |min(y_i, (C x)_i)| / |d|``, 0 at the solution: no cosine of the direction
    ``d`` with a gradient is negative, and nothing is added along those it agrees with.
    Source: Quinton & Rey, 2024 (arXiv:2406.16232), Proposition 1.

    >>> import numpy as np
    >>> found = project(jnp.array([[1.0, -1.0], [-1.0, 2.0]]), jnp.array([0.5, 0.0]))
    >>> np.asarray(found.weights).round(4).tolist(), bool(found.residual < 1e-5)
    ([0.5, 0.25], True)
    """
    cosines, norms, _, active = unit(gram)
    lower = jnp.where(active, preference * norms, 0)
    largest = lower.max()
    lower = lower / jnp.where(largest > 0, largest, 1)
    # Where a positive combination of the gradients vanishes, any amount of it may be
    # added: a ridge as large as rounding asks for a little.
    ridged = cosines + RIDGE * jnp.finfo(gram.dtype).eps * jnp.eye(len(lower))
    added, dual = interior_point.quadratic(ridged, ridged @ lower)
    added = jnp.where((largest > 0) & active & (added > dual), added, 0)
    x = lower + added
    excess = jnp.where(active, jnp.minimum(added, cosines @ x), 0)
    residual = jnp.abs(excess).max() / length(cosines, x)
    return Solution(preference + added / norms * largest, residual)
