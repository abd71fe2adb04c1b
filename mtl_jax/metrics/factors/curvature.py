"""Curvature of a task's loss on its probe, by its Hessian or by Gauss-Newton."""

from collections.abc import Callable

import jax

from mtl_jax.metrics import hessian as metric
from mtl_jax.metrics.factors.contract import (
    Measured,
    TaskFactor,
    TaskProbe,
    in_each_scope,
)
from mtl_jax.types import Params, PyTree


def hessian(iterations: int = 20, draws: int = 4, batch_size: int = 128) -> TaskFactor:
    """Measure ``hessian_top_eigenvalue``, its ``..._bound``, and ``hessian_trace``.

    Args:
      iterations: of Lanczos, for the eigenvalue.
      draws: random vectors, for the trace.
      batch_size: examples of a mini-batch.
    """

    def operator(task: TaskProbe, lift: Callable[[PyTree], Params]) -> metric.Operator:
        return metric.hessian_operator(lambda p, b: task.loss_fn(lift(p), b))

    return _curvature("hessian", operator, iterations, draws, batch_size)


def top_eigenvalue(
    iterations: int = 10, examples: int = 512, batch_size: int = 128
) -> TaskFactor:
    """Measure ``hessian_top_eigenvalue`` and its ``..._bound`` on a part of the probe.

    `hessian` has both on all of it, and more closely.

    Args:
      iterations: of Lanczos.
      examples: of the probe, the first ones of its random order; at most all.
      batch_size: examples of a mini-batch.
    """

    def measure(task: TaskProbe) -> dict[str, Measured]:
        part = jax.tree.map(lambda leaf: leaf[:examples], task.batch)
        options = {"key": task.key, "batch_size": batch_size, "iterations": iterations}

        def in_scope(lift: Callable[[PyTree], Params], params: PyTree) -> tuple:
            operator = metric.hessian_operator(lambda p, b: task.loss_fn(lift(p), b))
            return metric.top_eigenvalue(operator, params, part, **options)

        return _named_top("hessian", in_each_scope(task, in_scope))

    return measure


def gauss_newton(
    iterations: int = 20, draws: int = 4, batch_size: int = 128
) -> TaskFactor:
    """Measure what `hessian` does of the Gauss-Newton matrix: ``gauss_newton_...``.

    Args:
      iterations: as of `hessian`.
      draws: as of `hessian`.
      batch_size: as of `hessian`.
    """

    def operator(task: TaskProbe, lift: Callable[[PyTree], Params]) -> metric.Operator:
        return metric.gauss_newton_operator(
            lambda p, b: task.predict(lift(p), b.x),
            lambda o, b: task.objective.example_loss(o, b.y).mean(),
        )

    return _curvature("gauss_newton", operator, iterations, draws, batch_size)


def _curvature(
    name: str, operator: Callable, iterations: int, draws: int, batch_size: int
) -> TaskFactor:
    def measure(task: TaskProbe) -> dict[str, Measured]:
        options = {"key": task.key, "batch_size": batch_size}

        def in_scope(lift: Callable[[PyTree], Params], params: PyTree) -> tuple:
            args = operator(task, lift), params, task.batch
            top = metric.top_eigenvalue(*args, iterations=iterations, **options)
            return top, metric.trace(*args, draws=draws, **options)

        top, trace = in_each_scope(task, in_scope)
        return _named_top(name, top) | {f"{name}_trace": Measured(*trace)}

    return measure


def _named_top(name: str, top: metric.Eigenvalue) -> dict[str, Measured]:
    """Name an eigenvalue of an operator, and its bound."""
    return {
        f"{name}_top_eigenvalue": Measured(top.value),
        f"{name}_top_eigenvalue_bound": Measured(top.error_bound),
    }
