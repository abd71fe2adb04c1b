"""Fisher information of a task on its probe."""

from mtl_jax import metrics
from mtl_jax.metrics.factors.contract import Measured, TaskFactor, TaskProbe, scoped_dot
from mtl_jax.metrics.fisher import ESTIMATORS
from mtl_jax.options import one_of


def fisher_trace(
    estimator: str, batch_size: int, per_parameter: bool = False
) -> TaskFactor:
    """``fisher_trace``, with labels drawn from the model."""
    known = [name for name in ESTIMATORS if name != "empirical"]
    one_of("factors.fisher_trace.estimator", estimator, known)
    return _fisher("fisher_trace", estimator, batch_size, per_parameter)


def empirical_fisher_trace(batch_size: int) -> TaskFactor:
    """``empirical_fisher_trace``, with the true labels: another quantity."""
    return _fisher("empirical_fisher_trace", "empirical", batch_size, False)


def _fisher(
    name: str, estimator: str, batch_size: int, per_parameter: bool
) -> TaskFactor:
    def measure(of: TaskProbe) -> dict[str, Measured]:
        found = metrics.fisher_trace(
            of.predict,
            of.objective,
            of.params,
            of.batch.x,
            key=of.key,
            targets=of.batch.y,
            estimator=estimator,
            batch_size=batch_size,
            inner=scoped_dot,
            per_parameter=per_parameter,
        )
        return {name: Measured(*found)}

    return measure
