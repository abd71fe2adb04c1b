"""Conflict between the tasks of a run on their probes."""

from functools import partial

import jax
import jax.numpy as jnp

from mtl_jax import metrics
from mtl_jax.gradients.gramian import gramian
from mtl_jax.metrics.factors.contract import Measured, RunFactor, RunMeasured, RunProbe
from mtl_jax.types import Array, Batch, Params, PyTree


def conflict() -> RunFactor:
    """Measure conflict of the task gradients on the trunk, over 1,024 examples.

    Of the run: ``mean_cosine``, ``min_cosine``, ``negative_pairs`` (fraction),
    ``magnitude_similarity``, ``unit_mean``. Of a task: ``gradient_norm``,
    ``mean_cosine`` with the others, ``cosine_direction`` and ``cosine_update`` with the
    direction before and after the optimizer. Of a pair: ``cosine``. Where ``debiased_``
    stands in front, freed of noise by split halves.
    """

    def measure(run: RunProbe) -> RunMeasured:
        losses, first, second = _half_grads(run)
        grads = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
        measured = metrics.conflict(gramian(grads.shared))
        debiased = metrics.split_half_cosines(first.shared, second.shared)
        others = ~jnp.eye(len(losses), dtype=bool)

        def mean_of_others(cosines: Array) -> Array:
            return jnp.mean(cosines, axis=1, where=others)

        direction, update = run.update(losses, grads)
        return _without_errors(
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
    """Measure ``affinity`` of pairs: by how much a step on one lowers the other's loss.

    The step is the trunk's gradient times the learning rate (TAG, Fifty et al., 2021).
    """

    def measure(run: RunProbe) -> RunMeasured:
        _, first, second = _half_grads(run)
        grads = jax.tree.map(lambda a, b: (a + b) / 2, first.shared, second.shared)

        def losses_of(shared: PyTree) -> Array:
            return _mean_losses(run, run.params._replace(shared=shared))

        gains = metrics.affinity(losses_of, run.params.shared, grads, run.learning_rate)
        return _without_errors(pair={"affinity": gains})

    return measure


def multi_task_curvature() -> RunFactor:
    """Measure ``multi_task_curvature`` of the tasks along the run's next update."""

    def measure(run: RunProbe) -> RunMeasured:
        losses, first, second = _half_grads(run)
        grads = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
        step = jax.tree.map(jnp.negative, run.update(losses, grads)[1])
        moved = jax.tree.map(jnp.add, run.params.shared, step)
        after = _mean_losses(run, run.params._replace(shared=moved))
        curvatures = metrics.multi_task_curvature(losses, after, grads.shared, step)
        return _without_errors(task={"multi_task_curvature": curvatures})

    return measure


def _without_errors(**values: dict[str, Array]) -> RunMeasured:
    """Make values of the run, of tasks and of pairs."""
    kinds = [values.get(kind, {}) for kind in RunMeasured._fields]
    return RunMeasured(*({n: Measured(v) for n, v in kind.items()} for kind in kinds))


def _half_grads(run: RunProbe) -> tuple[Array, Params, Params]:
    """Compute losses ``[T]``, and task gradients of both halves of the examples."""
    middle = len(run.batches.y) // 2

    def mean(batches: Batch) -> tuple[Array, Params]:
        def add(total: PyTree, batch: Batch) -> tuple[PyTree, None]:
            values = run.task_grads(run.params, batch)
            return jax.tree.map(jnp.add, total, values), None

        start = run.task_grads(run.params, jax.tree.map(lambda leaf: leaf[0], batches))
        rest = jax.tree.map(lambda leaf: leaf[1:], batches)
        total, _ = jax.lax.scan(add, start, rest)
        return jax.tree.map(lambda leaf: leaf / len(batches.y), total)

    with jax.default_matmul_precision("highest"):
        a, first = mean(jax.tree.map(lambda leaf: leaf[:middle], run.batches))
        b, second = mean(jax.tree.map(lambda leaf: leaf[middle:], run.batches))
    return (a + b) / 2, first, second


def _mean_losses(run: RunProbe, params: Params) -> Array:
    """Average the losses ``[T]`` over all examples."""
    with jax.default_matmul_precision("highest"):
        return jax.lax.map(partial(run.losses, params), run.batches).mean(axis=0)
