"""Optimizers of optax by name, with options that are looked at before anything runs."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from mtl_jax.options import is_positive, one_of
from mtl_jax.types import InputError

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "sgd": optax.sgd,
}
"""Every optimizer by its name."""


class Limit(NamedTuple):
    """What an option may be."""

    text: str
    holds: Callable[[float], bool]


DECAY = Limit("at least 0 and below 1", lambda value: 0 <= value < 1)
"""Of a running mean; at 1 it would never move."""
AMOUNT = Limit("at least 0 and finite", lambda value: 0 <= value < float("inf"))
LIMITS = {
    "b1": DECAY,
    "b2": DECAY,
    "momentum": DECAY,
    "eps": Limit("above 0 and finite", is_positive),
    "eps_root": AMOUNT,
    "weight_decay": AMOUNT,
}
"""By the names that optax gives options, whichever optimizer has them."""


def make_optimizer(
    name: str, **options: Any
) -> Callable[[Any], optax.GradientTransformation]:
    """Make an optimizer, as a function of its learning rate.

    >>> make_optimizer("sgd", momentum=2.0)
    Traceback (most recent call last):
    mtl_jax.types.InputError: optimizer.sgd.momentum is 2.0; it must be at least 0 and \
below 1.

    Raises:
      InputError: an unknown name or option, or a value out of its range.
    """
    factory = OPTIMIZERS[one_of("optimizer", name, OPTIMIZERS)]
    known = [*inspect.signature(factory).parameters][1:]
    for option, value in options.items():
        one_of(f"option of {name}", option, known)
        limit = LIMITS.get(option)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if limit and not (is_number and limit.holds(value)):
            raise InputError(
                f"optimizer.{name}.{option} is {value!r}; it must be {limit.text}."
            )
    return lambda learning_rate: factory(learning_rate, **options)
