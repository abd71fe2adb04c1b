"""Factors by name: what is measured of a task, or of a whole run, on the fixed probe.

A factor is a function of a `TaskProbe` or a `RunProbe`; its values become rows of the
records under the names given in its docstring. Choices are options of its factory and
fields of the config. ``shared`` values are those of the trunk's parameters, ``task``
values those of trunk and head together.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

from mtl_jax.metrics.factors.coherence import (
    batch_cosines,
    coherence,
    example_coherence,
)
from mtl_jax.metrics.factors.conflict import affinity, conflict, multi_task_curvature
from mtl_jax.metrics.factors.contract import RunFactor, TaskFactor
from mtl_jax.metrics.factors.curvature import gauss_newton, hessian
from mtl_jax.metrics.factors.fisher import empirical_fisher_trace, fisher_trace
from mtl_jax.metrics.factors.sharpness import (
    adaptive_sharpness,
    average_sharpness,
    sharpness,
    sharpness_and_coherence,
)
from mtl_jax.options import one_of, some_of
from mtl_jax.types import Config, InputError

TASK_FACTORS: dict[str, Callable[..., TaskFactor]] = {
    "sharpness_and_coherence": sharpness_and_coherence,
    "sharpness": sharpness,
    "adaptive_sharpness": adaptive_sharpness,
    "average_sharpness": average_sharpness,
    "fisher_trace": fisher_trace,
    "empirical_fisher_trace": empirical_fisher_trace,
    "coherence": coherence,
    "example_coherence": example_coherence,
    "batch_cosines": batch_cosines,
    "hessian": hessian,
    "gauss_newton": gauss_newton,
}
"""Factors of every task of every run."""

RUN_FACTORS: dict[str, Callable[..., RunFactor]] = {
    "conflict": conflict,
    "affinity": affinity,
    "multi_task_curvature": multi_task_curvature,
}
"""Factors of runs of several tasks."""


def names(chosen: Config) -> tuple[str, ...]:
    """Names of the factors that ``config.factors`` asks for.

    Raises:
      InputError: an unknown one, or one twice.
    """
    return some_of("factor", chosen.names, {**TASK_FACTORS, **RUN_FACTORS})


def make(chosen: Config) -> tuple[dict[str, TaskFactor], dict[str, RunFactor]]:
    """Factors of tasks and of runs by name, with the options of ``config.factors``.

    Raises:
      InputError: as `names`; an unknown option, or a value out of its range.
    """
    every = names(chosen)
    options = {name: dict(chosen.get(name, {})) for name in every}
    for name, own in options.items():
        _check(name, own)
    return (
        {
            name: TASK_FACTORS[name](**options[name])
            for name in every
            if name in TASK_FACTORS
        },
        {
            name: RUN_FACTORS[name](**options[name])
            for name in every
            if name in RUN_FACTORS
        },
    )


def _check(name: str, options: dict[str, Any]) -> None:
    known = inspect.signature({**TASK_FACTORS, **RUN_FACTORS}[name]).parameters
    for option, value in options.items():
        one_of(f"option of factor {name}", option, known)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not 0 < value < math.inf:
            raise InputError(
                f"factors.{name}.{option} is {value}; it must be positive."
            )
