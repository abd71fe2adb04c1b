"""Convex problems in the positive orthant, solved by interior points.

Primal-dual Newton steps with Mehrotra's predictor and corrector (Nocedal & Wright,
2006, section 16.6), a fixed number of them. Problems come in unit-norm variables
(`solution.unit_gramian`): ``G`` holds cosines, so an unknown and its dual are of one
scale.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve

from mtl_jax.types import Array

# The residual no longer falls after them in float32.
ITERATIONS = 16
CONE_ITERATIONS = 26
TO_BOUNDARY = 0.99
TO_CONE = 0.95


def quadratic(
    gram: Array, linear: Array, normal: Array | None = None
) -> tuple[Array, Array]:
    """Minimise ``x' G x / 2 + b' x`` over ``x >= 0``, and over ``a' x = 1`` if given.

    Returns ``x`` ``[T]`` and its duals ``z = G x + b - a price`` ``[T]``.

    >>> import numpy as np
    >>> x, z = quadratic(jnp.eye(2), jnp.array([-1.0, 2.0]))
    >>> np.asarray(x).round(4).tolist(), np.asarray(z).round(4).tolist()
    ([1.0, 0.0], [0.0, 2.0])
    """

    def step(_: int, state: tuple) -> tuple:
        x, z, price = state
        factor = factorize(gram, z / x)
        slope = gram @ x + linear
        if normal is not None:
            slope = slope - normal * price
            by_normal = cho_solve(factor, normal)

        def towards(complement: Array) -> tuple[Array, Array, Array]:
            """Step, as Newton, to ``x z = complement`` and stationarity."""
            x_step = cho_solve(factor, complement / x - slope)
            change = jnp.zeros_like(price)
            if normal is not None:
                change = (1 - normal @ (x + x_step)) / (normal @ by_normal)
                x_step = x_step + by_normal * change
            return x_step, (complement - z * x_step) / x - z, change

        x_step, z_step = towards(jnp.zeros_like(x))[:2]
        length = jnp.minimum(_to_boundary(x, x_step), _to_boundary(z, z_step))
        gap = jnp.mean(x * z)
        reached = jnp.mean((x + length * x_step) * (z + length * z_step))
        steps = towards(gap * (reached / gap) ** 3 - x_step * z_step)
        length = jnp.minimum(_to_boundary(x, steps[0]), _to_boundary(z, steps[1]))
        return _move(state, steps, TO_BOUNDARY * length)

    ones = jnp.ones_like(linear)
    state = ones, ones, jnp.zeros((), linear.dtype)
    x, z, _ = lax.fori_loop(0, ITERATIONS, step, state)
    return x, z


def cone(
    gram: Array, linear: Array, radius: float | Array, normal: Array
) -> tuple[Array, Array, Array]:
    """Minimise ``b' x + c |g_x|`` over ``x >= 0``, ``a' x = 1``.

    ``|g_x|^2 = x' G x`` and ``0 < a <= 1``. Optimal are ``x``, ``t = |g_x|`` and ``y``,
    ``|g_y| <= 1``, where ``t y = x``, ``t = x' G y``, ``x z = 0`` and
    ``z = b + c G y - a price >= 0``. Steps linearise all of these (Alizadeh, Haeberly &
    Overton, 1998), so that they are good at the tip of the cone, where ``t = 0``.
    Returns ``x``, ``y``, ``z`` ``[T]``.

    >>> x, _, _ = cone(jnp.eye(2), jnp.zeros(2), 1.0, jnp.array([1.0, 0.5]))
    >>> bool(jnp.allclose(x, jnp.array([0.8, 0.4]), atol=1e-5))
    True
    """
    count = len(linear) + 1
    heft = jnp.maximum(radius, 0.1)  # of the cone's gap among the others

    def gap_of(x: Array, z: Array, y: Array, t: Array) -> Array:
        return (x @ z + heft * (t - y @ gram @ x)) / count

    def step(_: int, state: tuple) -> tuple:
        x, z, y, t, price = state
        factor = factorize(radius * gram, t * z / x)
        by_x, by_y = gram @ x, gram @ y
        slope = linear + radius * by_y - normal * price
        tilt = by_x / t + by_y
        from_price = cho_solve(factor, normal)
        from_t = cho_solve(factor, radius * by_y)
        # Rows: a' x = 1 and the gap of the cone; columns: t * price, t.
        m11, m12 = normal @ from_price, normal @ from_t
        m21, m22 = -tilt @ from_price, 1 + by_x @ y / t - tilt @ from_t

        def towards(complement: Array, gap: Array, lag: Array) -> tuple[Array, ...]:
            """Step, as Newton, to ``x z = complement``, ``t - x' G y = gap``."""
            lag = t * y - x + lag
            rest = t * (complement / x - slope) + radius * (gram @ lag)
            x_step = cho_solve(factor, rest)
            first = 1 - normal @ (x + x_step)
            second = gap - t + y @ by_x - by_x @ lag / t + tilt @ x_step
            determinant = m11 * m22 - m12 * m21
            change = (first * m22 - m12 * second) / determinant
            t_step = (m11 * second - m21 * first) / determinant
            x_step = x_step + change * from_price + t_step * from_t
            y_step = (x_step - y * t_step - lag) / t
            z_step = (complement - z * x_step) / x - z
            return x_step, z_step, y_step, t_step, change / t

        def longest(
            x_step: Array, z_step: Array, y_step: Array, t_step: Array
        ) -> Array:
            """Keep ``x``, ``z``, ``t - |g_x|`` and ``1 - |g_y|`` positive."""
            turn = gram @ x_step, gram @ y_step
            inner = t * t_step - by_x @ x_step, t_step**2 - x_step @ turn[0]
            lengths = (
                _to_boundary(x, x_step),
                _to_boundary(z, z_step),
                _to_root(t**2 - x @ by_x, *inner),
                _to_root(1 - y @ by_y, -by_y @ y_step, -y_step @ turn[1]),
            )
            return jnp.stack(lengths).min()

        steps = towards(jnp.zeros_like(x), jnp.zeros_like(t), jnp.zeros_like(x))
        x_step, z_step, y_step, t_step = steps[:4]
        length = longest(*steps[:4])
        gap = gap_of(*state[:4])
        reached = gap_of(*_move(state, steps, length)[:4])
        target = gap * jnp.clip(reached / gap, 0, 1) ** 3
        # The second order of a predictor that is cut short is not to be trusted.
        trust = jnp.minimum(1, 2 * length)
        steps = towards(
            target - trust * x_step * z_step,
            target / heft + trust * (y_step @ gram @ x_step),
            trust * t_step * y_step,
        )
        return _move(state, steps, TO_CONE * longest(*steps[:4]))

    # On the central path, far out: every term but that of the price is small.
    price = 4 * (1 + radius) * jnp.max(1 / normal)
    x = 1 / (normal * len(normal))
    norm = jnp.sqrt(jnp.maximum(x @ gram @ x, 0))
    t = jnp.maximum(price / (len(normal) * heft), 2 * norm)
    y = x / t
    state = x, linear + radius * (gram @ y) + price * normal, y, t, -price
    x, z, y, *_ = lax.fori_loop(0, CONE_ITERATIONS, step, state)
    return x, y, z


def factorize(gram: Array, diagonal: Array) -> tuple[Array, bool]:
    """Factor ``G + diag(d)`` (Cholesky), with a ridge as large as ``G``'s rounding.

    The ridge is in the steps only: it does not move the solution.
    """
    ridge = 2 * jnp.finfo(gram.dtype).eps
    return cho_factor(gram + jnp.diag(diagonal + ridge))


def _to_boundary(x: Array, step: Array) -> Array:
    """Longest step, at most 1, that leaves ``x`` positive."""
    ratios = jnp.where(step < 0, -x / jnp.where(step < 0, step, -1), jnp.inf)
    return jnp.minimum(1, ratios.min())


def _to_root(value: Array, half: Array, curvature: Array) -> Array:
    """First ``s > 0``, at most 1, where ``value + 2 half s + curvature s^2 = 0``."""
    value = jnp.maximum(value, 0)
    inner = half**2 - value * curvature
    over = jnp.sqrt(jnp.maximum(inner, 0)) - half
    crosses = (inner >= 0) & (over > 0)
    return jnp.where(crosses, jnp.minimum(1, value / jnp.where(crosses, over, 1)), 1)


def _move(state: tuple, steps: tuple, length: Array) -> tuple:
    """``state + length * steps``; where rounding ended the factorisation, ``state``."""
    sound = jnp.isfinite(steps[0]).all() & jnp.isfinite(steps[1]).all()
    return jax.tree.map(lambda x, s: jnp.where(sound, x + length * s, x), state, steps)
