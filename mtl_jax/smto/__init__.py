"""Multi-task optimizers: from the tasks' losses and gradients to one direction.

>>> make("cagrad", c=0.2, reduction="mean").init(3)
()
"""

import inspect
from collections.abc import Callable
from typing import Any

from mtl_jax.smto.cagrad import cagrad
from mtl_jax.smto.contract import (
    GramianWeighting,
    LossWeighting,
    Smto,
    SmtoState,
    Weighting,
    lift,
)
from mtl_jax.smto.mgda import mgda
from mtl_jax.smto.pcgrad import pcgrad
from mtl_jax.smto.rlw import rlw
from mtl_jax.smto.scalarization import fixed, mean, unitary
from mtl_jax.types import InputError

SMTOS: dict[str, Callable[..., Weighting]] = {
    "sum": unitary,
    "mean": mean,
    "fixed": fixed,
    "rlw": rlw,
    "pcgrad": pcgrad,
    "mgda": mgda,
    "cagrad": cagrad,
}
"""Every method by its name."""


def options(name: str) -> dict[str, Any]:
    """Options of a method and their defaults.

    >>> options("cagrad")
    {'c': 0.4, 'rescale': 1, 'reduction': 'sum'}

    Raises:
      InputError: unknown method.
    """
    if name not in SMTOS:
        raise InputError(f"SMTO {name!r} is not one of: {', '.join(SMTOS)}.")
    parameters = inspect.signature(SMTOS[name]).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def make(name: str, **chosen: Any) -> Weighting:
    """Make a multi-task optimizer by name; options are those of its factory.

    Raises:
      InputError: unknown method or option, or a value out of its range.
    """
    known = options(name)
    for option in chosen:
        if option not in known:
            has = ", ".join(known) or "none"
            raise InputError(f"{name} has no option {option!r}; it has: {has}.")
    return SMTOS[name](**chosen)


__all__ = [
    "SMTOS",
    "GramianWeighting",
    "LossWeighting",
    "Smto",
    "SmtoState",
    "Weighting",
    "lift",
    "make",
    "options",
]
