"""Conflict between the tasks of a run on their probes."""

from functools import partial

import jax
import jax.numpy as jnp

from mtl_jax import metrics
from mtl_jax.gradients.gramian import gramian
from mtl_jax.metrics.factors.contract import RunFactor, RunMeasured, RunProbe
from mtl_jax.types import Array, Batch, Params, PyTree


def conflict() -> RunFactor:
    """Conflict of the task gradients on the trunk, over 1,024 examples of the probe.

    Of the run: ``mean_cosine``, ``min_cosine``, ``negative_pairs`` (fraction),
    ``magnitude_similarity``, ``unit_mean``. Of a task: ``gradient_norm``,
    ``mean_cosine`` with the others, ``cosine_direction`` and ``cosine_update`` with the
    direction before and after the optimizer. Of a pair: ``cosine``. Where ``debiased_``
    stands in front, freed of noise by split halves.
    """

    def measure(of: RunProbe) -> RunMeasured:
        losses, first, second = _half_grads(of)
        grads = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
        measured = metrics.conflict(gramian(grads.shared))
        debiased = metrics.split_half_cosines(first.shared, second.shared)
        others = ~jnp.eye(len(losses), dtype=bool)

        def mean_of_others(cosines: Array) -> Array:
            return jnp.mean(cosines, axis=1, where=others)

        direction, update = of.update(losses, grads)
        return RunMeasured(
            run={
                "mean_cosine": measured.mean_cosine,
                "debiased_mean_cosine": jnp.mean(debiased, where=others),
                "min_cosine": measured.min_cosine,
                "negative_pairs": measured.negative_fraction,
                "magnitude_similarity": measured.magnitude_similarity,
                "unit_mean": measured.unit_mean,
            },
            task={
                "gradient_norm": measured.norms,
                "mean_cosine": mean_of_others(measured.cosines),
                "debiased_mean_cosine": mean_of_others(debiased),
                "cosine_direction": metrics.direction_cosines(grads.shared, direction),
                "cosine_update": metrics.direction_cosines(grads.shared, update),
            },
            pair={"cosine": measured.cosines, "debiased_cosine": debiased},
        )

    return measure


def affinity() -> RunFactor:
    """``affinity`` of pairs: what a step on the first task does to the second's loss.

    The step is the trunk's gradient times the learning rate (TAG, Fifty et al., 2021).
    """

    def measure(of: RunProbe) -> RunMeasured:
        _, first, second = _half_grads(of)
        grads = jax.tree.map(lambda a, b: (a + b) / 2, first.shared, second.shared)

        def losses_of(shared: PyTree) -> Array:
            return _mean_losses(of, of.params._replace(shared=shared))

        found = metrics.affinity(losses_of, of.params.shared, grads, of.learning_rate)
        return RunMeasured(run={}, task={}, pair={"affinity": found})

    return measure


def multi_task_curvature() -> RunFactor:
    """``multi_task_curvature`` of each task along the run's next update."""

    def measure(of: RunProbe) -> RunMeasured:
        losses, first, second = _half_grads(of)
        grads = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
        step = jax.tree.map(jnp.negative, of.update(losses, grads)[1])
        moved = jax.tree.map(jnp.add, of.params.shared, step)
        after = _mean_losses(of, of.params._replace(shared=moved))
        found = metrics.multi_task_curvature(losses, after, grads.shared, step)
        return RunMeasured(run={}, task={"multi_task_curvature": found}, pair={})

    return measure


def _half_grads(of: RunProbe) -> tuple[Array, Params, Params]:
    """Losses ``[T]`` and the task gradients of both halves of the examples."""
    middle = len(of.batches.y) // 2

    def mean(batches: Batch) -> tuple[Array, Params]:
        def add(total: PyTree, batch: Batch) -> tuple[PyTree, None]:
            found = of.task_grads(of.params, batch)
            return jax.tree.map(jnp.add, total, found), None

        start = of.task_grads(of.params, jax.tree.map(lambda leaf: leaf[0], batches))
        rest = jax.tree.map(lambda leaf: leaf[1:], batches)
        total, _ = jax.lax.scan(add, start, rest)
        return jax.tree.map(lambda leaf: leaf / len(batches.y), total)

    with jax.default_matmul_precision("highest"):
        a, first = mean(jax.tree.map(lambda leaf: leaf[:middle], of.batches))
        b, second = mean(jax.tree.map(lambda leaf: leaf[middle:], of.batches))
    return (a + b) / 2, first, second


def _mean_losses(of: RunProbe, params: Params) -> Array:
    """Losses ``[T]`` over all examples."""
    with jax.default_matmul_precision("highest"):
        return jax.lax.map(partial(of.losses, params), of.batches).mean(axis=0)
