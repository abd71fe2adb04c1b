"""Weights at which every task gains its fair share (Nash-MTL, FairGrad)."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.solvers.solution import (
    Solution,
    UnitGramian,
    accurate,
    cancels,
    unit_gramian,
)
from mtl_jax.types import Array

ITERATIONS = 25
HALVINGS = 8
TO_BOUNDARY = 0.99


@accurate
def balance(gram: Gram | UnitGramian, alpha: float | Array) -> Solution:
    """Solve ``G w = w^(-1 / alpha)`` for weights ``w > 0`` ``[T]``, 0 if inactive.

    Each task gains ``w_i^(-1 / alpha)`` of a step: 1 is Nash-MTL, larger is fairer.
    With ``v_i = w_i |g_i|``, the cosines ``C`` and ``m_i = |g_i|^(1 / alpha - 1)`` this
    is ``C v = m v^(-1 / alpha)``, the minimum of a strictly convex function, found by
    Newton's method in relative steps. The residual is
    ``max_i |w_i^(1 / alpha) (G w)_i - 1|``. Gradients of which a positive combination
    vanishes have no solution: the steps run off along that combination, which is
    returned with weights that sum to 1, and the residual is 1 or more. Source: Navon et
    al., ICML 2022, Claim 3.1; Ban & Ji, ICML 2024, Eq. 4.

    >>> import numpy as np
    >>> weights, residual = balance(jnp.diag(jnp.array([1.0, 4.0])), 1.0)
    >>> np.asarray(weights).round(4).tolist(), bool(residual < 1e-5)
    ([1.0, 0.5], True)
    """
    cosines, norms, scale, active = unit_gramian(gram)
    alpha = jnp.asarray(alpha, norms.dtype)
    power = 1 / alpha
    pull = norms ** (power - 1)
    fractions = 0.5 ** jnp.arange(HALVINGS, dtype=norms.dtype)

    def step(_: int, v: Array) -> Array:
        gain = pull * v ** (1 - power)
        hessian = v[:, None] * cosines * v[None, :] + jnp.diag(power * gain)
        change = cho_solve(cho_factor(hessian), gain - v * (cosines @ v))
        longest = jnp.minimum(1, TO_BOUNDARY / jnp.maximum(-change.min(), TO_BOUNDARY))

        def slope(length: Array) -> Array:
            """Return that of the convex function along the step; 0 at its least."""
            moved = v * (1 + length * change)
            return jnp.abs((v * change) @ (cosines @ moved - pull * moved**-power))

        lengths = longest * fractions
        moved = v * (1 + lengths[jnp.argmin(jax.vmap(slope)(lengths))] * change)
        # Without a solution the steps leave the range of float32: stay inside.
        sound = jnp.isfinite(moved).all() & (moved > 0).all()
        return jnp.where(sound, moved, v)

    start = (pull / jnp.abs(cosines).sum(axis=1)) ** (alpha / (1 + alpha))
    v = lax.fori_loop(0, ITERATIONS, step, start)
    error = jnp.abs(v**power / pull * (cosines @ v) - 1)
    residual = jnp.max(error, where=active, initial=0)
    v = jnp.where(active, v, 0)
    vanishes = active.any() & cancels(cosines, v)
    residual = jnp.where(vanishes, jnp.maximum(residual, 1), residual)
    weights = v / norms
    solved = weights * scale ** (-2 * alpha / (1 + alpha))
    shares = weights / jnp.where(active.any(), weights.sum(), 1)
    return Solution(jnp.where(vanishes, shares, solved), residual)
