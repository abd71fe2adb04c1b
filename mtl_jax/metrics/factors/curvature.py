"""Curvature of a task's loss on its probe: of the Hessian, of Gauss-Newton."""

from collections.abc import Callable

from mtl_jax.metrics import hessian as metric
from mtl_jax.metrics.factors.contract import (
    Measured,
    TaskFactor,
    TaskProbe,
    in_each_scope,
)
from mtl_jax.types import Params, PyTree


def hessian(iterations: int, draws: int, batch_size: int) -> TaskFactor:
    """``hessian_top_eigenvalue``, its ``..._bound``, and ``hessian_trace``."""

    def operator(of: TaskProbe, lift: Callable[[PyTree], Params]) -> metric.Operator:
        return metric.hessian_operator(lambda p, b: of.loss_fn(lift(p), b))

    return _curvature("hessian", operator, iterations, draws, batch_size)


def gauss_newton(iterations: int, draws: int, batch_size: int) -> TaskFactor:
    """``gauss_newton_top_eigenvalue``, its ``..._bound``, ``gauss_newton_trace``."""

    def operator(of: TaskProbe, lift: Callable[[PyTree], Params]) -> metric.Operator:
        return metric.gauss_newton_operator(
            lambda p, b: of.predict(lift(p), b.x),
            lambda o, b: of.objective.example_loss(o, b.y).mean(),
        )

    return _curvature("gauss_newton", operator, iterations, draws, batch_size)


def _curvature(
    name: str, operator: Callable, iterations: int, draws: int, batch_size: int
) -> TaskFactor:
    def measure(of: TaskProbe) -> dict[str, Measured]:
        options = {"key": of.key, "batch_size": batch_size}

        def in_scope(lift: Callable[[PyTree], Params], params: PyTree) -> tuple:
            args = operator(of, lift), params, of.batch
            top = metric.top_eigenvalue(*args, iterations=iterations, **options)
            return top, metric.trace(*args, draws=draws, **options)

        top, trace = in_each_scope(of, in_scope)
        return {
            f"{name}_top_eigenvalue": Measured(top.value),
            f"{name}_top_eigenvalue_bound": Measured(top.error_bound),
            f"{name}_trace": Measured(*trace),
        }

    return measure
