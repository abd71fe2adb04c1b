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


def coherence(batch_size: int = 16) -> TaskFactor:
    """Measure ``coherence`` (m-coherence alpha) and ``noise_scale``.

    Args:
      batch_size: examples of a mini-batch, the smaller of the two sizes of batches
        that are compared; the larger is the whole probe.
    """

    def measure(task: TaskProbe) -> dict[str, Measured]:
        # A probe that is smaller than two mini-batches is halved.
        size = min(batch_size, probe.size(task.batch) // 2)
        noise = metrics.noise_scale(
            task.loss_fn, task.params, task.batch, batch_size=size, inner=scoped_dot
        )
        return named_noise(noise)

    return measure


def named_noise(noise: NoiseScale) -> dict[str, Measured]:
    """Name the values of `coherence`."""
    return {
        "coherence": Measured(noise.alpha, noise.standard_error),
        "noise_scale": Measured(noise.noise_scale),
    }


def example_coherence(batch_size: int = 32) -> TaskFactor:
    """Measure ``example_coherence`` (alpha) and ``near_zero`` of example gradients.

    Args:
      batch_size: examples whose gradients are held at once.
    """

    def measure(task: TaskProbe) -> dict[str, Measured]:
        measured = metrics.m_coherence(
            task.loss_fn,
            task.params,
            task.batch,
            batch_size=batch_size,
            inner=scoped_dot,
        )
        return {
            "example_coherence": Measured(measured.alpha),
            "near_zero": Measured(measured.near_zero),
        }

    return measure


def batch_cosines(batch_size: int = 128) -> TaskFactor:
    """Measure ``batch_cosine_mean`` and ``batch_cosine_min`` of mini-batch gradients.

    Args:
      batch_size: examples of a mini-batch.
    """

    def measure(task: TaskProbe) -> dict[str, Measured]:
        size = min(batch_size, probe.size(task.batch) // 2)
        cosines = in_each_scope(
            task,
            lambda lift, params: metrics.batch_cosines(
                lambda p, b: task.loss_fn(lift(p), b),
                params,
                task.batch,
                batch_size=size,
            ),
        )
        return {
            "batch_cosine_mean": Measured(cosines.mean),
            "batch_cosine_min": Measured(cosines.minimum),
        }

    return measure
