"""Similarity of a task's gradient with the gradients of all tasks of its run."""

import jax
import jax.numpy as jnp

from mtl_jax import metrics
from mtl_jax.metrics import probe
from mtl_jax.metrics.factors.contract import Measured, RunFactor, RunMeasured, RunProbe
from mtl_jax.types import Array


def gradient_similarity(batches: int = 32) -> RunFactor:
    """Measure ``gradient_similarity`` of a task with the tasks' sum (Eq. 6).

    Mean cosine of the task's gradient on the trunk with the uniform multi-task gradient
    of the same batches, as large as those of training and drawn from the probe: the
    same ones at all points, of all runs. NaN where a gradient is zero.

    Args:
      batches: random ones; the paper takes 200. Cost of each: a step of training.
    """

    def measure(run: RunProbe) -> RunMeasured:
        def cosines(key: Array) -> Array:
            _, grads = run.task_grads(run.params, run.random_batch(key))
            total = jax.tree.map(lambda leaf: leaf.sum(axis=0), grads.shared)
            return metrics.direction_cosines(grads.shared, total)

        with jax.default_matmul_precision("highest"):
            values = jax.lax.map(cosines, jax.random.split(run.key, batches))
        mean, error = probe.mean_and_error(values, jnp.ones(batches))
        return RunMeasured({}, {"gradient_similarity": Measured(mean, error)}, {})

    return measure
