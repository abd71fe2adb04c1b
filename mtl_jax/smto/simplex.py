"""Small convex problems on the probability simplex, solved on the device.

A primal-dual interior-point method (Boyd & Vandenberghe, 2004, section 11.7) with a
fixed number of iterations: no host call-back, no branch, so it runs under ``jit`` and
``vmap``. Problems are given with a normalised Gramian, hence no absolute tolerance
depends on the scale of the gradients.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve

from mtl_jax.types import Array

ITERATIONS = 30
CENTERING = 0.1
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

    def derivatives(w: Array) -> tuple[Array, Array]:
        return gram @ w + linear, gram

    start = jnp.full_like(linear, 1 / linear.shape[0])
    weights = _interior_point(derivatives, jnp.ones_like(linear), start)
    return weights / weights.sum()


def minimise_cone(gram: Array, linear: Array, radius: Array) -> Array:
    """``argmin of b' w + r sqrt(w' G w)`` over the simplex: weights ``[T]``.

    The norm has a kink at zero, so it is lifted: ``sqrt(q) = min over t > 0 of
    q / 2t + t / 2``, which is smooth and convex in ``(w, t)`` together.
    """
    num_tasks = linear.shape[0]

    def derivatives(v: Array) -> tuple[Array, Array]:
        w, t = v[:-1], v[-1]
        pull = gram @ w / t
        share = w @ pull / t  # q / t^2
        gradient = jnp.append(linear + radius * pull, radius * (1 - share) / 2)
        hessian = (
            jnp.zeros((num_tasks + 1, num_tasks + 1), gram.dtype)
            .at[:-1, :-1].set(gram / t)
            .at[:-1, -1].set(-pull / t)
            .at[-1, :-1].set(-pull / t)
            .at[-1, -1].set(share / t)
        )  # fmt: skip
        return gradient, radius * hessian

    start = jnp.append(jnp.full_like(linear, 1 / num_tasks), 1)
    normal = jnp.append(jnp.ones_like(linear), 0)
    weights = _interior_point(derivatives, normal, start)[:-1]
    return weights / weights.sum()


def _interior_point(
    derivatives: Callable[[Array], tuple[Array, Array]], normal: Array, start: Array
) -> Array:
    """Minimise a convex function over ``v > 0`` with ``normal' v = 1``."""

    def step(_: int, state: tuple) -> tuple:
        v, dual, price = state
        gradient, hessian = derivatives(v)
        target = CENTERING * jnp.mean(v * dual)
        factor = cho_factor(hessian + jnp.diag(dual / v))
        residual = target / v - gradient - normal * price
        solutions = cho_solve(factor, jnp.stack([residual, normal], axis=1))
        by_residual, by_normal = solutions[:, 0], solutions[:, 1]
        infeasible = normal @ v - 1
        price_step = (normal @ by_residual + infeasible) / (normal @ by_normal)
        v_step = by_residual - by_normal * price_step
        dual_step = target / v - dual - dual / v * v_step
        length = jnp.minimum(_to_boundary(v, v_step), _to_boundary(dual, dual_step))
        moved = (
            v + length * v_step,
            dual + length * dual_step,
            price + length * price_step,
        )
        # Rounding can end the factorisation near the solution: stay there.
        sound = jnp.all(jnp.isfinite(moved[0])) & jnp.all(jnp.isfinite(moved[1]))
        return jax.tree.map(lambda new, old: jnp.where(sound, new, old), moved, state)

    state = (start, jnp.ones_like(start), jnp.zeros((), start.dtype))
    return lax.fori_loop(0, ITERATIONS, step, state)[0]


def _to_boundary(v: Array, step: Array) -> Array:
    """Longest step, at most 1, that keeps ``v`` positive."""
    ratios = jnp.where(step < 0, -v / jnp.where(step < 0, step, -1), jnp.inf)
    return jnp.minimum(1, TO_BOUNDARY * ratios.min())
