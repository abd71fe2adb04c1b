"""Fisher information of a task on its probe."""

from mtl_jax import metrics
from mtl_jax.metrics.factors.contract import Measured, TaskFactor, TaskProbe, scoped_dot
from mtl_jax.metrics.fisher import ESTIMATORS
from mtl_jax.options import one_of


def fisher_trace(
    estimator: str = "minibatch", batch_size: int = 16, per_parameter: bool = False
) -> TaskFactor:
    """Measure ``fisher_trace``, with labels drawn from the model.

    Args:
      estimator: ``minibatch``, ``per_example`` or ``exact``.
      batch_size: examples of a mini-batch.
      per_parameter: divide by the number of parameters.

    Raises:
      InputError: unknown estimator.
    """
    known = [name for name in ESTIMATORS if name != "empirical"]
    one_of("factors.fisher_trace.estimator", estimator, known)
    return _fisher("fisher_trace", estimator, batch_size, per_parameter)


def empirical_fisher_trace(batch_size: int = 16) -> TaskFactor:
    """Measure ``empirical_fisher_trace``, with the true labels: another quantity.

    Args:
      batch_size: examples of a mini-batch.
    """
    return _fisher("empirical_fisher_trace", "empirical", batch_size, False)


def _fisher(
    name: str, estimator: str, batch_size: int, per_parameter: bool
) -> TaskFactor:
    def measure(task: TaskProbe) -> dict[str, Measured]:
        trace = metrics.fisher_trace(
            task.predict,
            task.objective,
            task.params,
            task.batch.x,
            key=task.key,
            targets=task.batch.y,
            estimator=estimator,
            batch_size=batch_size,
            inner=scoped_dot,
            per_parameter=per_parameter,
        )
        return {name: Measured(*trace)}

    return measure
