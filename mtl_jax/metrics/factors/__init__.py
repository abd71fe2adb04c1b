"""Factors by name: what is measured of a task, or of a whole run, on the fixed probe.

A factor is a function of a `TaskProbe` or a `RunProbe`, or of the parameters at the
start and now; its values become rows of the records under the names given in its
docstring. Options of its factory, with their defaults, are fields of the config.
Equations are those of Mueller et al., 2024. ``shared`` values are those of the trunk's
parameters, ``task`` values those of trunk and head together.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from mtl_jax.metrics.factors.coherence import (
    batch_cosines,
    coherence,
    example_coherence,
)
from mtl_jax.metrics.factors.conflict import affinity, conflict, multi_task_curvature
from mtl_jax.metrics.factors.contract import PathFactor, RunFactor, TaskFactor
from mtl_jax.metrics.factors.curvature import gauss_newton, hessian, top_eigenvalue
from mtl_jax.metrics.factors.distance import distance_from_start
from mtl_jax.metrics.factors.fisher import empirical_fisher_trace, fisher_trace
from mtl_jax.metrics.factors.outputs import logit_norm
from mtl_jax.metrics.factors.sharpness import (
    adaptive_sharpness,
    average_sharpness,
    sharpness,
    sharpness_and_coherence,
    sharpness_and_covariance,
)
from mtl_jax.metrics.factors.similarity import gradient_similarity
from mtl_jax.options import check_options, defaults, some_of
from mtl_jax.types import Config, InputError

TASK_FACTORS: dict[str, Callable[..., TaskFactor]] = {
    "sharpness_and_covariance": sharpness_and_covariance,
    "sharpness_and_coherence": sharpness_and_coherence,
    "sharpness": sharpness,
    "adaptive_sharpness": adaptive_sharpness,
    "average_sharpness": average_sharpness,
    "fisher_trace": fisher_trace,
    "empirical_fisher_trace": empirical_fisher_trace,
    "coherence": coherence,
    "example_coherence": example_coherence,
    "batch_cosines": batch_cosines,
    "top_eigenvalue": top_eigenvalue,
    "hessian": hessian,
    "gauss_newton": gauss_newton,
    "logit_norm": logit_norm,
}
"""Factors of every task of every run."""

RUN_FACTORS: dict[str, Callable[..., RunFactor]] = {
    "gradient_similarity": gradient_similarity,
    "conflict": conflict,
    "affinity": affinity,
    "multi_task_curvature": multi_task_curvature,
}
"""Factors of runs of several tasks."""

PATH_FACTORS: dict[str, Callable[..., PathFactor]] = {
    "distance_from_start": distance_from_start,
}
"""Factors of where every task of every run started and is now."""

FACTORS: dict[str, Callable[..., Any]] = {
    **TASK_FACTORS,
    **RUN_FACTORS,
    **PATH_FACTORS,
}
"""Factories of all factors; their signatures declare the options and the defaults."""


class Factors(NamedTuple):
    """Factors that are measured, by name."""

    task: dict[str, TaskFactor]
    run: dict[str, RunFactor]
    path: dict[str, PathFactor]


def options(name: str) -> dict[str, Any]:
    """Return the options of a factor and their defaults.

    >>> options("average_sharpness")
    {'rho': 0.001, 'draws': 8, 'batch_size': 128}

    Raises:
      InputError: unknown factor.
    """
    return defaults("factor", name, FACTORS)


def names(chosen: Config) -> tuple[str, ...]:
    """Return the names of the factors that ``config.factors`` asks for.

    Raises:
      InputError: an unknown one, or one twice.
    """
    return some_of("factor", chosen.names, FACTORS)


def make(chosen: Config) -> Factors:
    """Make the factors that ``config.factors`` asks for, with its options.

    Raises:
      InputError: as `names`; an unknown option, or a value out of its range.
    """
    selected = {name: dict(chosen.get(name, {})) for name in names(chosen)}
    for name, values in selected.items():
        _check(name, values)
    tables = TASK_FACTORS, RUN_FACTORS, PATH_FACTORS
    return Factors(*(_make_of(table, selected) for table in tables))


def _make_of(
    factories: dict[str, Callable[..., Any]], selected: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Make those factors that are among the factories."""
    return {
        name: factories[name](**values)
        for name, values in selected.items()
        if name in factories
    }


def _check(name: str, values: dict[str, Any]) -> None:
    check_options(f"factor {name}", values, options(name))
    for option, value in values.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not 0 < value < math.inf:
            raise InputError(
                f"factors.{name}.{option} is {value}; it must be positive."
            )
