"""Problems on the probability simplex (MGDA, CAGrad, SDMGrad, MoDo)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.solvers import interior_point
from mtl_jax.smto.solvers.rounding import at_worst
from mtl_jax.smto.solvers.solution import (
    Solution,
    UnitGramian,
    accurate,
    cancels,
    length,
    length_or,
    unit_gramian,
)
from mtl_jax.types import Array


@accurate
def min_norm(gram: Gram | UnitGramian, present: Array | None = None) -> Solution:
    """Minimise ``w' G w`` over the simplex: weights ``[T]``.

    Tasks that are not ``present`` (bool ``[T]``) get no weight; those present with a
    zero gradient, if any, share it all. In ``u_i = w_i |g_i|`` and the cosines ``C``
    this is ``min u' C u`` over ``u >= 0``, ``sum_i u_i / |g_i| = 1``. The residual is
    ``max_i |g_w| / |g_i| - cos(g_i, g_w)``, at most 0 at the solution; where ``g_w`` is
    0 to rounding, ``max_i -<g_i, g_w> / |g_i|`` over the least ``|g_i|``.
    Source: Sener & Koltun, NeurIPS 2018, Eq. 3.

    >>> import numpy as np
    >>> weights, residual = min_norm(jnp.diag(jnp.array([1.0, 4.0])))
    >>> print(np.asarray(weights).round(4), bool(residual < 1e-5))
    [0.8 0.2] True
    """
    cosines, norms, _, active = unit_gramian(gram)
    present = jnp.ones_like(active) if present is None else present
    used = active & present
    cosines, inverse = _among(used, cosines, norms)
    # The rest has a price, and no share in the sum.
    inverse = jnp.where(used, inverse, 0)
    price = jnp.where(used, 0, 1).astype(cosines.dtype)
    u, dual = interior_point.quadratic(cosines, price, inverse)
    u, weights = _on_simplex(jnp.where(used & (u > dual), u, 0), inverse)
    slope = cosines @ u
    gap = jnp.max(inverse * (u @ slope) - slope, where=used, initial=0)
    residual = gap / length_or(1, cosines, u)
    return _with_zeros(present & ~active, weights, residual)


class Cone(NamedTuple):
    """The best worst case in a ball around the mean gradient, and its dual."""

    weights: Array
    """``[T]``, on the simplex: the dual solution."""
    residual: Array
    """As of a `Solution`, of the direction."""
    direction: Array
    """Weights of the gradients in the best direction ``[T]``."""
    vague: Array
    """bool ``[]``: the mean gradient is 0 to rounding, so its direction is unknown."""


@accurate
def min_cone(gram: Gram | UnitGramian, c: float | Array) -> Cone:
    """Maximise ``min_i <g_i, d>`` over ``|d - g_0| <= c |g_0|``, and find the dual.

    Its weights minimise ``<g_w, g_0> + c |g_0| |g_w|`` over the simplex; ``g_0`` is the
    mean of all ``T`` gradients. ``d = g_0 + c |g_0| g_w / |g_w|``; where ``g_w``
    vanishes the dual does not say which point of the ball is best, but the solver's own
    does, and for ``c >= 1`` that is ``d = 0``. Of a zero gradient the worst case is 0:
    no more is added to ``g_0`` than that takes. Where ``g_0`` is 0 to rounding, all
    weights are equal, and ``d = (1 + c) g_0``.

    The residual is what the direction lacks to the dual value: of ``<g_w, d>`` relative
    to ``|g_w| |g_0|``, of every ``<g_i, d>`` relative to ``|g_i| |g_0|``; and by how
    much it leaves the ball, relative to ``|g_0|``. All of that at worst, of cosines off
    by rounding: the value is what counts, and more directions than one may have it.
    Source: Liu et al., NeurIPS 2021, Algorithm 1 and Eq. 3.

    >>> import numpy as np
    >>> cone = min_cone(jnp.eye(2), 0.5)
    >>> np.asarray(cone.weights).round(4).tolist(), bool(cone.residual < 1e-5)
    ([0.5, 0.5], True)
    """
    problem = unit_gramian(gram)
    norms, active = problem.norms, problem.active
    count, zero = len(norms), ~active
    radius = jnp.asarray(c, norms.dtype)
    ends = jnp.where(active, norms, 0)
    cosines, inverse = _among(active, problem.cosines, norms)

    to_mean = cosines @ ends / length(cosines, ends)
    # What is not active costs more than any other: it gets nothing.
    linear = jnp.where(active, to_mean, 2 + radius)
    # At the tip of the cone, y may be any multiple of what vanishes: as large a ridge
    # as rounding asks for a small one.
    ridge = jnp.finfo(norms.dtype).eps * jnp.eye(count, dtype=norms.dtype)
    u, y, _ = interior_point.cone(cosines + ridge, linear, radius, inverse)
    u, weights = _on_simplex(jnp.where(active, u, 0), inverse)
    tip, even = cancels(cosines, u), cancels(cosines, ends)

    def violation(cosines: Array, direction: Array) -> Array:
        """Return that of optimality by ``T d = sum_i direction_i e_i``."""
        reach, size = length(cosines, ends), length(cosines, u)
        slope, away = cosines @ direction / reach, direction - ends
        value = u @ cosines @ ends / reach + jnp.where(tip, 0, radius * size)
        best = jnp.where(zero.any(), jnp.minimum(value, 0), value)
        behind = jnp.max(inverse * best - slope, where=active, initial=0)
        short = jnp.where(tip | (best < value), 0, (value - u @ slope) / size)
        far = jnp.sqrt(jnp.maximum(away @ cosines @ away, 0)) / reach - radius
        return jnp.stack([behind, short, far]).max()

    # At the tip of the cone only the solver's own point of the ball is any good,
    # elsewhere that of the weights is the better one.
    balls = [u / length(cosines, u), jnp.where(active, y, 0), jnp.zeros_like(u)]
    steps = radius * length(cosines, ends) * jnp.stack(balls)
    lacks = jax.vmap(violation, (None, 0))(cosines, ends[None] + steps)
    step = steps[jnp.argmin(lacks)]
    step, content = _no_further(cosines @ ends, cosines @ step, step, zero)
    step = jnp.where(even, radius * ends, step)
    residual = at_worst(lambda nudged: violation(nudged, ends + step), problem)

    # A ball that contains 0: where 0 is in the convex hull, nothing is better.
    least = min_norm(problem, active)
    still = (radius >= 1) & active.any() & (norm(problem, least.weights) == 0)
    cases = [even, still, content]
    weights = jnp.select(
        cases, [jnp.full_like(u, 1 / count), least.weights, _shared(zero, u)], weights
    )
    residual = jnp.select(
        cases[:2], [jnp.zeros_like(residual), least.residual], residual
    )
    direction = jnp.where(still & ~even, 0, (ends + step) / norms)
    # A zero gradient adds nothing to a direction.
    return Cone(weights, residual, (direction + zero) / count, even & active.any())


def _no_further(
    before: Array, gain: Array, step: Array, zero: Array
) -> tuple[Array, Array]:
    """Shorten a step ``[T]`` to where no task gets less than a zero gradient does.

    Args:
      before: inner products of the gradients with the direction before the step.
      gain: what the step adds to them.
      step: along the unit gradients.
      zero: bool ``[T]``, the zero gradients; if any, more than 0 is in vain.

    Returns the step, and whether 0 is reached.
    """
    content = zero.any() & ((before + gain >= 0) | zero).all()
    needed = jnp.where(~zero & (before < 0) & (gain > 0), -before / gain, 0).max()
    return jnp.where(content, jnp.minimum(needed, 1) * step, step), content


def project(v: Array) -> Array:
    """Find the point ``[T]`` of the simplex that is closest to ``v`` ``[T]``.

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
def norm(gram: Gram | UnitGramian, weights: Array) -> Array:
    """Compute ``|g_w| = sqrt(w' G w)`` ``[]``; what is only rounding is exactly 0.

    >>> gram = jnp.array([[1.0, -2.0], [-2.0, 4.0]])  # g_2 = -2 g_1
    >>> norm(gram, jnp.array([2.0, 1.0])).item(), norm(gram, jnp.array([1, 1.0])).item()
    (0.0, 1.0)
    """
    cosines, norms, scale, active = unit_gramian(gram)
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
    return Solution(
        jnp.where(zero.any(), _shared(zero, weights), weights),
        jnp.where(zero.any(), 0, residual),
    )


def _shared(tasks: Array, weights: Array) -> Array:
    """Equal weights ``[T]`` of some tasks (bool ``[T]``), of the dtype of others."""
    return (tasks / jnp.maximum(tasks.sum(), 1)).astype(weights.dtype)
