"""Small convex problems on the probability simplex, solved on the device.

Quadratic problems by a primal-dual interior-point method with Mehrotra's predictor
and corrector (Nocedal & Wright, 2006, section 16.6), a fixed number of iterations: no
host call-back, no branch, so it runs under ``jit`` and ``vmap``. Problems are given
with a normalised Gramian, hence no absolute tolerance depends on the scale of the
gradients.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve

from mtl_jax.types import Array

ITERATIONS = 16
"""Of the interior point: the residual no longer falls after them in float32."""
ROOT_ITERATIONS = 8
TO_BOUNDARY = 0.99


def normalise(gram: Array) -> Array:
    """Gramian ``[T, T]`` with a mean diagonal of 1; a zero Gramian stays zero."""
    scale = jnp.diagonal(gram).mean()
    return jnp.where(scale > 0, gram / jnp.where(scale > 0, scale, 1), gram)


def norm(gram: Array, weights: Array) -> Array:
    """``|g_w| = sqrt(w' G w)`` for a normalised Gramian; what is rounding is 0."""
    rounding = 16 * jnp.finfo(gram.dtype).eps
    squared = weights @ gram @ weights
    cancelled = squared <= rounding * (weights @ jnp.abs(gram) @ weights)
    vanished = squared <= rounding**2
    return jnp.sqrt(jnp.where(cancelled | vanished, 0, squared))


def minimise_quadratic(gram: Array, linear: Array) -> Array:
    """``argmin of w' G w / 2 + b' w`` over the simplex: weights ``[T]``.

    >>> import numpy as np
    >>> gram = jnp.diag(jnp.array([0.4, 1.6]))
    >>> print(np.asarray(minimise_quadratic(gram, jnp.zeros(2))).round(4))
    [0.8 0.2]
    """
    return _interior_point(gram, linear)[0]


def minimise_cone(gram: Array, linear: Array, radius: Array) -> Array:
    """``argmin of b' w + r sqrt(w' G w)`` over the simplex: weights ``[T]``.

    Since ``sqrt(q) = min over t > 0 of q / 2t + t / 2``, the solution is that of the
    quadratic problem ``r w' G w / 2 + t b' w`` at the ``t`` where ``t = sqrt(w' G w)``:
    a root in ``log t``, found by Newton's method within a bracket.
    """
    floor = jnp.finfo(gram.dtype).eps
    scaled = radius * gram

    def narrow(_: int, state: tuple) -> tuple:
        low, high, log_t, _ = state
        pull = linear * jnp.exp(log_t)
        w, dual = _interior_point(scaled, pull)
        squared = jnp.maximum(w @ gram @ w, floor**2)
        excess = jnp.log(squared) / 2 - log_t
        low = jnp.where(excess > 0, log_t, low)
        high = jnp.where(excess > 0, high, log_t)
        # How w, and with it the excess, moves with log t: the same KKT system.
        factor = cho_factor(scaled + jnp.diag(dual / w))
        by_ones = cho_solve(factor, jnp.ones_like(pull))
        by_pull = cho_solve(factor, pull)
        motion = by_ones * (by_pull.sum() / by_ones.sum()) - by_pull
        newton = log_t - excess / (w @ gram @ motion / squared - 1)
        inside = (newton > low) & (newton < high)  # false for NaN, too
        return low, high, jnp.where(inside, newton, (low + high) / 2), w

    low = jnp.log(floor) * jnp.ones((), gram.dtype)
    high = jnp.log(jnp.maximum(jnp.diagonal(gram).max(), floor)) / 2
    start = jnp.clip(jnp.log(jnp.maximum(gram.mean(), floor**2)) / 2, low, high)
    state = (low, high, start, jnp.ones_like(linear))
    return lax.fori_loop(0, ROOT_ITERATIONS, narrow, state)[-1]


def _interior_point(gram: Array, linear: Array) -> tuple[Array, Array]:
    """Weights of a quadratic problem on the simplex, and their dual variables."""
    ones = jnp.ones_like(linear)

    def step(_: int, state: tuple) -> tuple:
        w, dual, price = state
        factor = cho_factor(gram + jnp.diag(dual / w))
        by_ones = cho_solve(factor, ones)

        def towards(complement: Array) -> tuple[Array, Array, Array]:
            """Newton step to ``w * dual = complement`` and stationarity."""
            residual = complement / w - gram @ w - linear - price
            by_residual = cho_solve(factor, residual)
            infeasible = jnp.sum(w) - 1
            change = (jnp.sum(by_residual) + infeasible) / jnp.sum(by_ones)
            w_step = by_residual - by_ones * change
            return w_step, (complement - dual * w_step) / w - dual, change

        w_step, dual_step = towards(jnp.zeros_like(w))[:2]
        length = jnp.minimum(_to_boundary(w, w_step), _to_boundary(dual, dual_step))
        gap = jnp.mean(w * dual)
        reached = jnp.mean((w + length * w_step) * (dual + length * dual_step))
        target = gap * (reached / gap) ** 3
        w_step, dual_step, change = towards(target - w_step * dual_step)
        length = jnp.minimum(_to_boundary(w, w_step), _to_boundary(dual, dual_step))
        moved = w + length * w_step, dual + length * dual_step, price + length * change
        # Rounding can end the factorisation near the solution: stay there.
        sound = jnp.isfinite(moved[0]).all() & jnp.isfinite(moved[1]).all()
        return jax.tree.map(lambda new, old: jnp.where(sound, new, old), moved, state)

    state = (ones / ones.size, ones, jnp.zeros((), linear.dtype))
    w, dual, _ = lax.fori_loop(0, ITERATIONS, step, state)
    return w / w.sum(), dual


def _to_boundary(v: Array, step: Array) -> Array:
    """Longest step, at most 1, that keeps ``v`` positive."""
    ratios = jnp.where(step < 0, -v / jnp.where(step < 0, step, -1), jnp.inf)
    return jnp.minimum(1, TO_BOUNDARY * ratios.min())
