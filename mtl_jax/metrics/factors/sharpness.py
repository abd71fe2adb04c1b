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


def sharpness(rho: float, batch_size: int, steps: int) -> TaskFactor:
    """``sharpness_l2``, ``sharpness_linf`` (nats), ``gradient_l2``, ``gradient_l1``.

    The gradients are the mean dual norms of mini-batch gradients: ``sharpness_l2 - rho
    * gradient_l2`` is what curvature adds.
    """
    return _sharpness(rho, batch_size, steps, jnp.ones_like, "")


def adaptive_sharpness(rho: float, batch_size: int, steps: int) -> TaskFactor:
    """`sharpness` relative to the parameters; ``adaptive_`` in front of the names."""
    return _sharpness(rho, batch_size, steps, jnp.abs, "adaptive_")


def _sharpness(
    rho: float,
    batch_size: int,
    steps: int,
    scale: Callable[[Array], Array],
    prefix: str,
) -> TaskFactor:
    def measure(of: TaskProbe) -> dict[str, Measured]:
        options = {"rho": rho, "steps": steps, "batch_size": batch_size}
        balls = _balls(of.params, scale)
        found = sharpness_in(balls, of.loss_fn, of.params, of.batch, **options)
        return {prefix + name: value for name, value in _named(found).items()}

    return measure


def sharpness_and_coherence(
    rho: float, batch_size: int, small_batch_size: int
) -> TaskFactor:
    """What `sharpness` and `coherence` say, for a gradient pass less.

    The gradient of a mini-batch is the mean of those of smaller ones, whose norms are
    what coherence needs.
    """

    def measure(of: TaskProbe) -> dict[str, Measured]:
        balls = _balls(of.params, jnp.ones_like)
        # A probe that is smaller than two small mini-batches is halved.
        small = min(small_batch_size, probe.size(of.batch) // 2)

        def gradient(one: Batch) -> tuple[tuple[Array, Params], tuple[Array, Array]]:
            found = jax.value_and_grad(of.loss_fn)(of.params, one)
            length = precision.norm(found[1], scoped_dot)
            size = jnp.full(1, probe.size(one), length.dtype)
            return found, (length[None], size)

        def visit(one: Batch) -> tuple[Params, tuple]:
            (loss, mean), smaller = probe.mean_and_rows(gradient, one, small)
            rises, norms = batch_rises(
                balls, of.loss_fn, of.params, one, loss, mean, rho=rho
            )
            return mean, (rises[None], norms[None], smaller)

        with jax.default_matmul_precision("highest"):
            mean, rows = probe.mean_and_rows(visit, of.batch, batch_size)
            length = precision.norm(mean, scoped_dot)
        rises, norms, (lengths, small_sizes) = rows
        sizes = probe.sizes(probe.size(of.batch), batch_size)
        sharp = sharpness_of(rises, norms, sizes)
        return _named(sharp) | named_noise(noise_of(lengths, length, small_sizes))

    return measure


def _balls(params: Params, scale: Callable[[Array], Array]) -> list[Ball]:
    """Of every norm, one in each scope."""
    whole = jax.tree.map(scale, params)
    trunk = whole._replace(heads=jax.tree.map(jnp.zeros_like, whole.heads))
    return [Ball(norm, c) for norm in DUAL for c in (whole, trunk)]


def _named(found: Sharpness) -> dict[str, Measured]:
    """Values by name from those of `_balls`."""
    value, error, gradient = (leaf.reshape(len(DUAL), -1) for leaf in found)
    rises = {
        f"sharpness_{norm}": Measured(value[i], error[i]) for i, norm in enumerate(DUAL)
    }
    gradients = {
        f"gradient_{dual}": Measured(gradient[i])
        for i, dual in enumerate(DUAL.values())
    }
    return rises | gradients


def average_sharpness(rho: float, draws: int, batch_size: int) -> TaskFactor:
    """``average_sharpness`` (nats) under Gaussian noise."""

    def measure(of: TaskProbe) -> dict[str, Measured]:
        found = in_each_scope(
            of,
            lambda lift, params: metrics.average_sharpness(
                lambda p, b: of.loss_fn(lift(p), b),
                params,
                of.batch,
                key=of.key,
                rho=rho,
                draws=draws,
                batch_size=batch_size,
            ),
        )
        return {"average_sharpness": Measured(found.value, found.standard_error)}

    return measure
