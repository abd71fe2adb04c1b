"""Sharpness of a task on its probe."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mtl_jax import metrics
from mtl_jax.metrics import precision, probe
from mtl_jax.metrics.coherence import noise_of
from mtl_jax.metrics.covariance import covariance_of
from mtl_jax.metrics.factors.coherence import named_noise
from mtl_jax.metrics.factors.contract import (
    Measured,
    TaskFactor,
    TaskProbe,
    in_each_scope,
    scoped_dot,
)
from mtl_jax.metrics.sharpness import (
    Ball,
    Sharpness,
    batch_rises,
    dual_norm,
    sharpness_in,
    sharpness_of,
)
from mtl_jax.types import Array, Batch, Params, PyTree

DUAL = {"l2": "l2", "linf": "l1"}


def sharpness(rho: float = 1e-3, batch_size: int = 128, steps: int = 1) -> TaskFactor:
    """Measure ``sharpness_l2`` and ``..._linf`` (nats), ``gradient_l2`` and ``..._l1``.

    The gradients are the mean dual norms of mini-batch gradients. ``sharpness_l2`` is
    ``rho * gradient_l2`` to first order, and at a small ``rho`` little else: the
    difference is what curvature adds.

    Args:
      rho: radius of the ball.
      batch_size: examples of a mini-batch.
      steps: of the ascent within the ball.
    """
    return _sharpness(rho, batch_size, steps, jnp.ones_like, "")


def adaptive_sharpness(
    rho: float = 1e-3, batch_size: int = 128, steps: int = 1
) -> TaskFactor:
    """Measure `sharpness` relative to the parameters: ``adaptive_sharpness_l2``, ...

    Args:
      rho: radius of the ball, in units of the parameters.
      batch_size: as of `sharpness`.
      steps: as of `sharpness`.
    """
    return _sharpness(rho, batch_size, steps, jnp.abs, "adaptive_")


def _sharpness(
    rho: float,
    batch_size: int,
    steps: int,
    scale: Callable[[Array], Array],
    prefix: str,
) -> TaskFactor:
    def measure(task: TaskProbe) -> dict[str, Measured]:
        options = {"rho": rho, "steps": steps, "batch_size": batch_size}
        balls = _balls(task.params, scale)
        rises = sharpness_in(balls, task.loss_fn, task.params, task.batch, **options)
        return {prefix + name: value for name, value in _named(rises).items()}

    return measure


def sharpness_and_covariance(
    rho: float = 1e-3,
    wide_rho: float = 1e-1,
    steps: int = 1,
    batch_size: int = 128,
    small_batch_size: int = 16,
) -> TaskFactor:
    """Measure the paper's sharpness and gradient covariance, from one gradient pass.

    ``adaptive_sharpness_linf`` (nats; Eq. 3), ``..._wide`` in a larger ball, and
    ``gradient_covariance``, the trace (Eq. 4, which calls it coherence; larger is
    worse), over the probe as its own population. At no further cost: ``coherence`` and
    ``noise_scale`` as of `coherence`, ``gradient_l2``, ``gradient_l1`` and
    ``adaptive_gradient_l1`` as of `sharpness` and `adaptive_sharpness`: ``rho *
    adaptive_gradient_l1`` is the sharpness to first order.

    Args:
      rho: radius of the ball, in units of the parameters.
      wide_rho: radius of the larger ball.
      steps: of the ascent within the balls.
      batch_size: examples of a mini-batch that the loss rises on.
      small_batch_size: of a mini-batch whose gradient is compared with that of the
        whole probe.
    """

    def measure(task: TaskProbe) -> dict[str, Measured]:
        adaptive = [Ball("linf", c) for c in _scopes(task.params, jnp.abs)]
        plain = _balls(task.params, jnp.ones_like)

        def visit(part: Batch, loss: Array, gradient: Params) -> PyTree:
            args = adaptive, task.loss_fn, task.params, part, loss, gradient
            rises, relative = batch_rises(*args, rho=rho, steps=steps)
            wide, _ = batch_rises(*args, rho=wide_rho, steps=steps)
            norms = [dual_norm(gradient, ball.scale, ball.norm) for ball in plain]
            return {
                "adaptive_sharpness_linf": rises,
                "adaptive_sharpness_linf_wide": wide,
                "adaptive_gradient_l1": relative,
                "gradient_l2": jnp.stack(norms[:2]),
                "gradient_l1": jnp.stack(norms[2:]),
            }

        rows, sizes, small = _one_pass(task, batch_size, small_batch_size, visit)
        covariance = covariance_of(*small, population=probe.size(task.batch))
        measured = {
            name: Measured(*probe.mean_and_error(values, sizes))
            for name, values in rows.items()
        }
        measured["gradient_covariance"] = Measured(*covariance[:2])
        return measured | named_noise(noise_of(*small))

    return measure


def sharpness_and_coherence(
    rho: float = 1e-3, batch_size: int = 128, small_batch_size: int = 16
) -> TaskFactor:
    """Measure what `sharpness` and `coherence` do, for a gradient pass less.

    Args:
      rho: as of `sharpness`.
      batch_size: as of `sharpness`.
      small_batch_size: as ``batch_size`` of `coherence`.
    """

    def measure(task: TaskProbe) -> dict[str, Measured]:
        balls = _balls(task.params, jnp.ones_like)

        def visit(part: Batch, loss: Array, gradient: Params) -> PyTree:
            args = balls, task.loss_fn, task.params, part, loss, gradient
            return batch_rises(*args, rho=rho)

        rows, sizes, small = _one_pass(task, batch_size, small_batch_size, visit)
        rises, norms = rows
        return _named(sharpness_of(rises, norms, sizes)) | named_noise(noise_of(*small))

    return measure


def _one_pass(
    task: TaskProbe,
    batch_size: int,
    small_batch_size: int,
    visit: Callable[[Batch, Array, Params], PyTree],
) -> tuple[PyTree, Array, tuple[Array, Array, Array]]:
    """Visit mini-batches with their losses and gradients, means of those of small ones.

    Returns:
      The rows ``[M, ...]`` that ``visit`` makes, the sizes ``[M]`` of the mini-batches,
      and what `noise_of` and `covariance_of` take of the small ones.
    """
    # A probe that is smaller than two small mini-batches is halved.
    small = min(small_batch_size, probe.size(task.batch) // 2)

    def gradient(part: Batch) -> tuple[tuple[Array, Params], tuple[Array, Array]]:
        loss, grads = jax.value_and_grad(task.loss_fn)(task.params, part)
        length = precision.norm(grads, scoped_dot)
        size = jnp.full(1, probe.size(part), length.dtype)
        return (loss, grads), (length[None], size)

    def visit_batch(part: Batch) -> tuple[Params, tuple]:
        (loss, mean), smaller = probe.mean_and_rows(gradient, part, small)
        row = jax.tree.map(lambda v: v[None], visit(part, loss, mean))
        return mean, (row, smaller)

    with jax.default_matmul_precision("highest"):
        mean, (rows, smaller) = probe.mean_and_rows(visit_batch, task.batch, batch_size)
        length = precision.norm(mean, scoped_dot)
    lengths, small_sizes = smaller
    sizes = probe.sizes(probe.size(task.batch), batch_size)
    return rows, sizes, (lengths, length, small_sizes)


def _scopes(params: Params, scale: Callable[[Array], Array]) -> list[Params]:
    """Scale the parameters for the balls of both scopes: heads stay in the second."""
    whole = jax.tree.map(scale, params)
    return [whole, whole._replace(heads=jax.tree.map(jnp.zeros_like, whole.heads))]


def _balls(params: Params, scale: Callable[[Array], Array]) -> list[Ball]:
    """Make a ball of each norm in each scope."""
    return [Ball(norm, c) for norm in DUAL for c in _scopes(params, scale)]


def _named(measured: Sharpness) -> dict[str, Measured]:
    """Name the values of `_balls`."""
    value, error, gradient = (leaf.reshape(len(DUAL), -1) for leaf in measured)
    rises = {
        f"sharpness_{norm}": Measured(value[i], error[i]) for i, norm in enumerate(DUAL)
    }
    gradients = {
        f"gradient_{dual}": Measured(gradient[i])
        for i, dual in enumerate(DUAL.values())
    }
    return rises | gradients


def average_sharpness(
    rho: float = 1e-3, draws: int = 8, batch_size: int = 128
) -> TaskFactor:
    """Measure ``average_sharpness`` (nats), the mean rise under Gaussian noise.

    Args:
      rho: standard deviation of the noise, of a parameter.
      draws: of noise, for each mini-batch.
      batch_size: examples of a mini-batch.
    """

    def measure(task: TaskProbe) -> dict[str, Measured]:
        rise = in_each_scope(
            task,
            lambda lift, params: metrics.average_sharpness(
                lambda p, b: task.loss_fn(lift(p), b),
                params,
                task.batch,
                key=task.key,
                rho=rho,
                draws=draws,
                batch_size=batch_size,
            ),
        )
        return {"average_sharpness": Measured(rise.value, rise.standard_error)}

    return measure
