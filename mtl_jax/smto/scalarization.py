"""Scalarizations: the sum of the losses, their mean, weights given by hand, a function.

The sum with unit weights is the study's multi-task baseline, called unitary
scalarization (Kurin et al., 2022).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.smto.contract import LossWeighting, as_vector, stateless
from mtl_jax.types import Array, InputError, PyTree, Scalar


def unitary() -> LossWeighting:
    """Minimise the sum of the losses: all weights are 1."""
    return _constant(jnp.ones_like)


def mean() -> LossWeighting:
    """Minimise the mean of the losses: all weights are ``1 / T``."""
    return _constant(lambda losses: jnp.full_like(losses, 1 / losses.shape[0]))


def fixed(weights: Sequence[float] | Array = ()) -> LossWeighting:
    """Use weights that are given by hand, one a task, as they are.

    >>> weighting = fixed((1.0, 0.5))
    >>> weighting.update(jnp.array([3.0, 4.0]), weighting.init(2), None)[0].tolist()
    [1.0, 0.5]

    Raises:
      InputError: a weight is negative or not finite; the number of weights is not
        the number of tasks (said when the run is set up).
    """
    values = as_vector(weights)
    known = isinstance(values, np.ndarray)
    if known and not (np.isfinite(values).all() and (values >= 0).all()):
        raise InputError(
            f"weights {weights!r} must be numbers, finite and not negative."
        )
    said = values.tolist() if known else "(traced)"

    def init(num_tasks: int) -> tuple[()]:
        if values.shape != (num_tasks,):
            raise InputError(
                f"{values.size} weights {said} for {num_tasks} tasks; "
                f"pass one weight a task."
            )
        return ()

    return _constant(lambda losses: jnp.asarray(values, losses.dtype))._replace(
        init=init
    )


def scalarized(
    value: Callable[[Array, Array], Scalar], init: Callable[[int], PyTree]
) -> LossWeighting:
    """Minimise a function of the losses: weights are its slopes.

    Args:
      value: from the losses ``[T]``, 0 where a task is absent, and where it is not,
        bool ``[T]``.
      init: raises where options do not fit the number of tasks.
    """

    def update(losses: Array, state: PyTree, key: Array) -> tuple[Array, PyTree]:
        del key
        present = jnp.isfinite(losses)
        slopes = jax.grad(value)(jnp.where(present, losses, 0), present)
        return jnp.where(present, slopes, 0), state

    return LossWeighting(init, update)


def _constant(weigh) -> LossWeighting:
    def update(losses: Array, state: PyTree, key: Array) -> tuple[Array, PyTree]:
        del key
        return weigh(losses), state

    return LossWeighting(stateless, update)
