"""Coherence of a task's gradients on its probe."""

from mtl_jax import metrics
from mtl_jax.metrics import probe
from mtl_jax.metrics.coherence import NoiseScale
from mtl_jax.metrics.factors.contract import (
    Measured,
    TaskFactor,
    TaskProbe,
    in_each_scope,
    scoped_dot,
)


def coherence(batch_size: int) -> TaskFactor:
    """``coherence`` (m-coherence alpha, from two batch sizes), ``noise_scale``."""

    def measure(of: TaskProbe) -> dict[str, Measured]:
        # A probe that is smaller than two mini-batches is halved.
        size = min(batch_size, probe.size(of.batch) // 2)
        found = metrics.noise_scale(
            of.loss_fn, of.params, of.batch, batch_size=size, inner=scoped_dot
        )
        return named_noise(found)

    return measure


def named_noise(found: NoiseScale) -> dict[str, Measured]:
    """Values of `coherence` by name."""
    return {
        "coherence": Measured(found.alpha, found.standard_error),
        "noise_scale": Measured(found.noise_scale),
    }


def example_coherence(batch_size: int) -> TaskFactor:
    """``example_coherence`` (alpha), ``near_zero``, from per-example gradients."""

    def measure(of: TaskProbe) -> dict[str, Measured]:
        found = metrics.m_coherence(
            of.loss_fn, of.params, of.batch, batch_size=batch_size, inner=scoped_dot
        )
        return {
            "example_coherence": Measured(found.alpha),
            "near_zero": Measured(found.near_zero),
        }

    return measure


def batch_cosines(batch_size: int) -> TaskFactor:
    """``batch_cosine_mean`` and ``batch_cosine_min`` of mini-batch gradients."""

    def measure(of: TaskProbe) -> dict[str, Measured]:
        size = min(batch_size, probe.size(of.batch) // 2)
        found = in_each_scope(
            of,
            lambda lift, params: metrics.batch_cosines(
                lambda p, b: of.loss_fn(lift(p), b), params, of.batch, batch_size=size
            ),
        )
        return {
            "batch_cosine_mean": Measured(found.mean),
            "batch_cosine_min": Measured(found.minimum),
        }

    return measure
