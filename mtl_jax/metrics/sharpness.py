"""Sharpness: how much the loss can rise within a small ball around the parameters.

>>> import jax.numpy as jnp
>>> def loss_fn(params, batch):  # curvature 2 in every direction
...     return jnp.mean(batch) * 0 + jnp.sum(params**2)
>>> rise = sharpness(loss_fn, jnp.array([3.0, 4.0]), jnp.ones((8, 1)), rho=0.1)
>>> round(float(rise.value), 4)  # rho |g| + rho^2 = 1 + .01
1.01
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax.metrics import precision, probe
from mtl_jax.options import one_of
from mtl_jax.types import Array, InputError, LossFn, PyTree

NORMS = ("l2", "linf")
MOMENTUM = 0.75


class Ball(NamedTuple):
    """Displacements at which the loss may rise: ``|d / scale|_p <= rho``."""

    norm: str
    """``l2`` or ``linf``."""
    scale: PyTree
    """``c``, like the parameters and not negative: 1 for the standard ball, |params|
    for the adaptive one, 0 where a parameter stays as it is."""


class Sharpness(NamedTuple):
    """Sharpness of one task."""

    value: Array
    """Mean over mini-batches of the rise of the loss, nats."""
    standard_error: Array
    """Standard error of the mean, over mini-batches."""
    gradient: Array
    """Mean dual norm of the mini-batch gradient (l1 for linf); ``value - rho *
    gradient`` is what curvature adds."""


def sharpness(
    loss_fn: LossFn,
    params: PyTree,
    batch: PyTree,
    *,
    rho: float = 1e-3,
    norm: str = "l2",
    adaptive: bool = False,
    steps: int = 1,
    batch_size: int = 128,
) -> Sharpness:
    """Return the worst rise of the loss within ``|d / c|_p <= rho``, batch by batch.

    ``S = mean_B [max L_B(params + d) - L_B(params)]`` (m-sharpness). One step is the
    maximiser of the linear part: SAM (Foret et al., 2021, Eq. 2) and, with ``c =
    |params|`` elementwise, ASAM (Kwon et al., 2021, Eq. 9). More steps ascend with
    projection and momentum (Andriushchenko et al., 2023, appendix A) and keep the best
    point seen. May be negative after one step; exactly 0 for a zero gradient.

    Cost per example: ``2 + steps`` forward and ``steps + 1`` backward passes at most.

    Args:
      loss_fn: ``(params, batch) -> mean loss``.
      params: any pytree of floats.
      batch: leaves ``[N, ...]``.
      rho: radius.
      norm: ``l2`` or ``linf``.
      adaptive: measure ``d`` relative to the parameters.
      steps: of ascent.
      batch_size: of the mini-batches.

    Returns:
      Scalars.

    Raises:
      InputError: unknown norm, ``rho`` or ``steps`` not positive.
    """
    params = precision.raised(params)
    ball = Ball(norm, jax.tree.map(jnp.abs if adaptive else jnp.ones_like, params))
    in_ball = sharpness_in(
        [ball], loss_fn, params, batch, rho=rho, steps=steps, batch_size=batch_size
    )
    return Sharpness(*(values[0] for values in in_ball))


def sharpness_in(
    balls: Sequence[Ball],
    loss_fn: LossFn,
    params: PyTree,
    batch: PyTree,
    *,
    rho: float = 1e-3,
    steps: int = 1,
    batch_size: int = 128,
) -> Sharpness:
    """Return `sharpness` in several balls ``[S]`` at the price of one first gradient.

    Cost per example of one step: ``1 + S`` forward passes and a backward pass.

    Returns:
      Leaves ``[S]``.

    Raises:
      InputError: no ball or an unknown norm, ``rho`` or ``steps`` not positive.
    """
    params, batch = precision.raised((params, batch))
    balls = [Ball(norm, precision.raised(scale)) for norm, scale in balls]

    def rises_of(part: PyTree) -> tuple[Array, Array]:
        here, gradient = precision.raised(jax.value_and_grad(loss_fn)(params, part))
        return batch_rises(
            balls, loss_fn, params, part, here, gradient, rho=rho, steps=steps
        )

    with jax.default_matmul_precision("highest"):
        (rises, norms), sizes = probe.map_batches(rises_of, batch, batch_size)
    return sharpness_of(rises, norms, sizes)


def sharpness_of(rises: Array, norms: Array, sizes: Array) -> Sharpness:
    """Return `sharpness` from `batch_rises` of the mini-batches ``[M, S]``."""
    value, error = probe.mean_and_error(rises, sizes)
    return Sharpness(value, error, probe.mean_and_error(norms, sizes)[0])


def batch_rises(
    balls: Sequence[Ball],
    loss_fn: LossFn,
    params: PyTree,
    batch: PyTree,
    loss: Array,
    gradient: PyTree,
    *,
    rho: float = 1e-3,
    steps: int = 1,
) -> tuple[Array, Array]:
    """Return rises of the loss of one mini-batch, of which loss and gradient are known.

    Returns:
      Rises and dual norms of the gradient in every ball, ``[S]``.

    Raises:
      InputError: no ball or an unknown norm, ``rho`` or ``steps`` not positive.
    """
    for ball in balls:
        one_of("norm", ball.norm, NORMS)
    if not balls:
        raise InputError("there is no ball; give at least one.")
    if rho <= 0 or steps < 1:
        raise InputError(f"rho is {rho} and steps {steps}; both must be positive.")

    def at(d: PyTree) -> Array:
        return precision.raised(loss_fn(jax.tree.map(jnp.add, params, d), batch))

    def highest(norm: str, scale: PyTree) -> Array:
        best = at(_steepest(gradient, scale, norm, rho))
        if steps > 1:
            best = _ascend(at, scale, norm, rho, steps, best)
        return best - loss

    return (
        jnp.stack([highest(*ball) for ball in balls]),
        jnp.stack([dual_norm(gradient, ball.scale, ball.norm) for ball in balls]),
    )


def average_sharpness(
    loss_fn: LossFn,
    params: PyTree,
    batch: PyTree,
    *,
    key: Array,
    rho: float = 1e-3,
    adaptive: bool = False,
    draws: int = 8,
    batch_size: int = 128,
) -> Sharpness:
    """Return the mean rise of the loss under noise ``d ~ N(0, rho^2 diag(c^2))``.

    Source: Andriushchenko et al., 2023, Eq. 2. The standard error is over draws. Cost
    per example: ``draws + 1`` forward passes and a backward pass for the gradient norm.
    """
    params, batch = precision.raised((params, batch))
    scale = jax.tree.map(jnp.abs if adaptive else jnp.ones_like, params)
    leaves, structure = jax.tree.flatten(params)

    def rise(key: Array) -> Array:
        keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))

        def noisy(p: Array, c: Array, k: Array) -> Array:
            # In float32 for all: a key has one meaning, whatever the type.
            noise = jax.random.normal(k, p.shape, jnp.float32)
            return p + rho * c * noise.astype(p.dtype)

        moved = jax.tree.map(noisy, params, scale, keys)

        def change(part: PyTree) -> Array:
            there, here = loss_fn(moved, part), loss_fn(params, part)
            there, here = precision.raised((there, here))
            return there - here

        return probe.mean_batches(change, batch, batch_size)

    with jax.default_matmul_precision("highest"):
        rises = lax.map(rise, jax.random.split(key, draws))
        gradient = probe.mean_batches(
            lambda part: jax.grad(loss_fn)(params, part), batch, batch_size
        )
    value, error = probe.mean_and_error(rises, jnp.ones_like(rises))
    return Sharpness(value, error, dual_norm(gradient, scale, "l2"))


def _steepest(gradient: PyTree, scale: PyTree, norm: str, rho: float) -> PyTree:
    """Maximiser of ``<gradient, d>`` over the ball; 0 for a zero gradient."""
    if norm == "linf":
        return jax.tree.map(lambda g, c: rho * c * jnp.sign(g), gradient, scale)
    unit = precision.unit(jax.tree.map(jnp.multiply, gradient, scale))
    return jax.tree.map(lambda c, u: rho * c * u, scale, unit)


def dual_norm(gradient: PyTree, scale: PyTree, norm: str) -> Array:
    """Return the dual norm of a gradient times the scale: by how much it can rise."""
    relative = jax.tree.map(jnp.multiply, gradient, scale)
    if norm == "l2":
        return precision.norm(relative)
    zero = jnp.zeros((), precision.dtype_of(relative))
    leaves = jax.tree.leaves(relative)
    return sum((jnp.abs(leaf).sum() for leaf in leaves), start=zero)


def _project(d: PyTree, scale: PyTree, norm: str, rho: float) -> PyTree:
    """Nearest point of the ball, in the norm's own geometry."""
    if norm == "linf":
        return jax.tree.map(lambda x, c: jnp.clip(x, -rho * c, rho * c), d, scale)
    relative = jax.tree.map(
        lambda x, c: jnp.where(c > 0, x / jnp.where(c > 0, c, 1), 0), d, scale
    )
    length = precision.norm(relative)
    shrink = jnp.where(length > rho, rho / jnp.where(length > rho, length, 1), 1)
    return jax.tree.map(lambda x, c: shrink * x * c, relative, scale)


def _ascend(
    at: Callable[[PyTree], Array],
    scale: PyTree,
    norm: str,
    rho: float,
    steps: int,
    best: Array,
) -> Array:
    """Highest loss met by projected ascent with momentum from the centre, or ``best``.

    ``at`` takes a displacement to its loss.
    """

    def step(i: Array, state: tuple) -> tuple:
        d, before, best = state
        gradient = jax.grad(at)(d)
        # Step 2 rho at first, halved at a half and at three quarters of the way.
        halvings = (2 * i >= steps).astype(best.dtype) + (4 * i >= 3 * steps)
        length = 2 * rho * 0.5**halvings
        raised = _steepest(gradient, scale, norm, 1.0)
        z = jax.tree.map(lambda x, u: x + length * u, d, raised)
        z = _project(z, scale, norm, rho)
        momentum = jnp.where(i == 0, 1.0, MOMENTUM).astype(best.dtype)
        new = jax.tree.map(
            lambda x, y, b: x + momentum * (y - x) + (1 - momentum) * (x - b),
            d,
            z,
            before,
        )
        new = _project(new, scale, norm, rho)
        return new, d, jnp.maximum(best, at(new))

    zero = jax.tree.map(jnp.zeros_like, scale)
    return lax.fori_loop(0, steps, step, (zero, zero, best))[2]
