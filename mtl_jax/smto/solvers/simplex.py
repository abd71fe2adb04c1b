"""Problems on the probability simplex (MGDA, CAGrad, SDMGrad, MoDo)."""

import jax
import jax.numpy as jnp

from mtl_jax.gramian import Gram
from mtl_jax.smto.solvers import interior_point
from mtl_jax.smto.solvers.solution import Solution, accurate, cancels, length, unit
from mtl_jax.types import Array


@accurate
def min_norm(gram: Gram, present: Array | None = None) -> Solution:
    """``argmin of w' G w`` over the simplex: weights ``[T]``.

    Tasks that are not ``present`` (bool ``[T]``) get no weight; those present with a
    zero gradient, if any, share it all. In ``u_i = w_i |g_i|`` and the cosines ``C``
    this is ``min u' C u`` over ``u >= 0``, ``sum_i u_i / |g_i| = 1``. The residual is
    ``max_i |g_w| / |g_i| - cos(g_i, g_w)``, at most 0 at the solution.
    Source: Sener & Koltun, NeurIPS 2018, Eq. 3.

    >>> import numpy as np
    >>> found = min_norm(jnp.diag(jnp.array([1.0, 4.0])))
    >>> print(np.asarray(found.weights).round(4), bool(found.residual < 1e-5))
    [0.8 0.2] True
    """
    cosines, norms, _, active = unit(gram)
    present = jnp.ones_like(active) if present is None else present
    used = active & present
    cosines, inverse = _among(used, cosines, norms)
    # The rest has a price, and no share in the sum.
    inverse = jnp.where(used, inverse, 0)
    u, dual = interior_point.quadratic(cosines, jnp.where(used, 0.0, 1.0), inverse)
    u, weights = _on_simplex(jnp.where(used & (u > dual), u, 0), inverse)
    slope = cosines @ u
    gap = jnp.max(inverse * (u @ slope) - slope, where=used, initial=0)
    residual = gap / length(cosines, u)
    return _with_zeros(present & ~active, weights, residual)


@accurate
def min_cone(gram: Gram, c: float | Array) -> Solution:
    """``argmin of <g_w, g_0> + c |g_0| |g_w|`` over the simplex: weights ``[T]``.

    ``g_0`` is the mean of all ``T`` gradients; all weights are equal where it vanishes.
    Zero gradients share all weight where none else makes the value negative. The
    residual is that of the dual problem, ``max_d min_i <g_i, d>`` over
    ``|d - g_0| <= c |g_0|``, relative to ``|g_i| |g_0|``: ``max_i (value - <g_i, d>)``
    with ``d = g_0 + c |g_0| g_w / |g_w|``; the solver's ``d`` where ``g_w`` vanishes.
    Source: Liu et al., NeurIPS 2021, Algorithm 1 and Eq. 3.

    >>> import numpy as np
    >>> found = min_cone(jnp.eye(2), 0.5)
    >>> np.asarray(found.weights).round(4).tolist(), bool(found.residual < 1e-5)
    ([0.5, 0.5], True)
    """
    cosines, norms, _, active = unit(gram)
    ends = jnp.where(active, norms, 0)
    to_mean = cosines @ ends / length(cosines, ends)
    even = cancels(cosines, ends)
    cosines, inverse = _among(active, cosines, norms)
    # What is not active costs more than any other: it gets nothing.
    linear = jnp.where(active, to_mean, 2 + c)
    u, y, dual = interior_point.cone(cosines, linear, c, inverse)
    sparse = jnp.where(active & (y > dual), u, 0)
    u = jnp.where(sparse.any(), sparse, jnp.where(active, u, 0))
    u, weights = _on_simplex(u, inverse)
    size = length(cosines, u)
    y = jnp.where(cancels(cosines, u), jnp.where(active, y, 0), u / size)
    slope = to_mean + c * (cosines @ y)
    value = u @ slope
    residual = jnp.max(inverse * value - slope, where=active, initial=0)
    zero = ~active & (value >= 0)
    found = _with_zeros(zero, weights, residual)
    if not (isinstance(c, float | int) and c < 1):
        # A ball that contains 0: where 0 is in the convex hull, nothing is better.
        tip = min_norm(gram)
        tip_is_zero = (c >= 1) & (norm(gram, tip.weights) == 0)
        found = jax.tree.map(lambda t, f: jnp.where(tip_is_zero, t, f), tip, found)
    uniform = Solution(jnp.full_like(weights, 1 / len(weights)), jnp.zeros_like(value))
    return jax.tree.map(lambda e, f: jnp.where(even, e, f), uniform, found)


def project(v: Array) -> Array:
    """Closest point ``[T]`` of the simplex to ``v`` ``[T]``.

    Source: Held, Wolfe & Crowder, Mathematical Programming 6, 1974.

    >>> project(jnp.array([0.5, 1.5, -3.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    # The largest first: what is far below it is 0, so nothing large is summed up.
    ordered = jnp.sort(v - v.max(), descending=True)
    ranks = jnp.arange(1, len(v) + 1, dtype=v.dtype)
    level = (jnp.cumsum(jnp.maximum(ordered, -1)) - 1) / ranks
    kept = jnp.sum(ordered > level)
    return jnp.maximum(v - v.max() - level[kept - 1], 0)


@accurate
def norm(gram: Gram, weights: Array) -> Array:
    """``|g_w| = sqrt(w' G w)`` ``[]``; what is only rounding is exactly 0.

    >>> gram = jnp.array([[1.0, -2.0], [-2.0, 4.0]])  # g_2 = -2 g_1
    >>> norm(gram, jnp.array([2.0, 1.0])).item(), norm(gram, jnp.array([1, 1.0])).item()
    (0.0, 1.0)
    """
    cosines, norms, scale, active = unit(gram)
    u = jnp.where(active, weights * norms, 0)
    largest = jnp.abs(u).max()
    u = u / jnp.where(largest > 0, largest, 1)
    return jnp.where(cancels(cosines, u), 0, length(cosines, u)) * largest * scale


def _among(used: Array, cosines: Array, norms: Array) -> tuple[Array, Array]:
    """Cosines ``[T, T]`` of the ``used`` tasks, and their ``1 / |g_i|``, at most 1."""
    pair = used[:, None] & used[None, :]
    apart = jnp.eye(len(norms), dtype=norms.dtype)
    least = jnp.min(norms, where=used, initial=jnp.inf)
    inverse = jnp.where(used, least / norms, 1)
    return jnp.where(pair, cosines, apart), inverse


def _on_simplex(u: Array, inverse: Array) -> tuple[Array, Array]:
    """``u`` and its weights, scaled so that these sum to 1."""
    weights = inverse * u
    total = weights.sum()
    total = jnp.where(total > 0, total, 1)
    return u / total, weights / total


def _with_zeros(zero: Array, weights: Array, residual: Array) -> Solution:
    """The solution, unless zero gradients are better: bool ``[T]``."""
    shared = zero / jnp.maximum(zero.sum(), 1)
    return Solution(
        jnp.where(zero.any(), shared, weights), jnp.where(zero.any(), 0, residual)
    )
