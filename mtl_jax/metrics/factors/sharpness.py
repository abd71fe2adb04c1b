"""Sharpness of a task on its probe."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mtl_jax import metrics
from mtl_jax.metrics import precision, probe
from mtl_jax.metrics.coherence import noise_of
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
    sharpness_in,
    sharpness_of,
)
from mtl_jax.types import Array, Batch, Params

DUAL = {"l2": "l2", "linf": "l1"}


def sharpness(rho: float = 1e-3, batch_size: int = 128, steps: int = 1) -> TaskFactor:
    """Measure ``sharpness_l2`` and ``..._linf`` (nats), ``gradient_l2`` and ``..._l1``.

    The gradients are the mean dual norms of mini-batch gradients: ``sharpness_l2 - rho
    * gradient_l2`` is what curvature adds.

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


def sharpness_and_coherence(
    rho: float = 1e-3, batch_size: int = 128, small_batch_size: int = 16
) -> TaskFactor:
    """Measure what `sharpness` and `coherence` do, for a gradient pass less.

    The gradient of a mini-batch is the mean of those of smaller ones, whose norms are
    what coherence needs.

    Args:
      rho: as of `sharpness`.
      batch_size: as of `sharpness`.
      small_batch_size: as ``batch_size`` of `coherence`.
    """

    def measure(task: TaskProbe) -> dict[str, Measured]:
        balls = _balls(task.params, jnp.ones_like)
        # A probe that is smaller than two small mini-batches is halved.
        small = min(small_batch_size, probe.size(task.batch) // 2)

        def gradient(part: Batch) -> tuple[tuple[Array, Params], tuple[Array, Array]]:
            loss, grads = jax.value_and_grad(task.loss_fn)(task.params, part)
            length = precision.norm(grads, scoped_dot)
            size = jnp.full(1, probe.size(part), length.dtype)
            return (loss, grads), (length[None], size)

        def visit(part: Batch) -> tuple[Params, tuple]:
            (loss, mean), smaller = probe.mean_and_rows(gradient, part, small)
            rises, norms = batch_rises(
                balls, task.loss_fn, task.params, part, loss, mean, rho=rho
            )
            return mean, (rises[None], norms[None], smaller)

        with jax.default_matmul_precision("highest"):
            mean, rows = probe.mean_and_rows(visit, task.batch, batch_size)
            length = precision.norm(mean, scoped_dot)
        rises, norms, (lengths, small_sizes) = rows
        sizes = probe.sizes(probe.size(task.batch), batch_size)
        sharp = sharpness_of(rises, norms, sizes)
        return _named(sharp) | named_noise(noise_of(lengths, length, small_sizes))

    return measure


def _balls(params: Params, scale: Callable[[Array], Array]) -> list[Ball]:
    """Make a ball of each norm in each scope."""
    whole = jax.tree.map(scale, params)
    trunk = whole._replace(heads=jax.tree.map(jnp.zeros_like, whole.heads))
    return [Ball(norm, c) for norm in DUAL for c in (whole, trunk)]


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
