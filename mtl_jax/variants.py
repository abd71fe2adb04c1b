"""Variants of an experiment: which tasks train together, and by which optimizer.

``single`` trains every task alone, ``multi`` all of them on the sum of their losses,
``multi-NAME`` all of them with the multi-task optimizer NAME.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optax

from mtl_jax import axis_map, smto
from mtl_jax.smto import LossWeighting
from mtl_jax.train import Method
from mtl_jax.types import Config, InputError

UNITARY = "sum"
NO_SMTO = "none"
HEAD_GRADS = ("default", "weighted", "unweighted")
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "sgd": optax.sgd,
}


class Variant(NamedTuple):
    """Runs side by side: ``R`` = seeds x learning rates x groups of tasks."""

    name: str
    smto: str
    """Name of the multi-task optimizer; ``none`` for single tasks."""
    method: Method
    task_ids: np.ndarray
    """int32 ``[R, T]``."""
    seeds: np.ndarray
    """int32 ``[R]``."""
    learning_rates: np.ndarray
    """``[R]``."""


def names(config: Config) -> tuple[str, ...]:
    """Names of the variants: those listed, and ``multi-NAME`` for ``smto.name``.

    Raises:
      InputError: none, one twice, or an unknown one.
    """
    # A hyphen keeps the flags' parser from seeing that a,multi-b are two words.
    words = (entry.split(",") for entry in config.variants)
    listed = tuple(word.strip() for word in itertools.chain(*words))
    if config.smto.name and f"multi-{config.smto.name}" not in listed:
        listed += (f"multi-{config.smto.name}",)
    if not listed:
        raise InputError("variants is empty; name at least one, such as 'multi'.")
    for name in listed:
        if listed.count(name) > 1:
            raise InputError(f"variant {name!r} is named twice; name it once.")
        if name not in ("single", "multi"):
            prefix, _, method = name.partition("-")
            if prefix != "multi" or method not in smto.SMTOS:
                raise InputError(
                    f"variant {name!r} is not 'single', 'multi', or 'multi-' and one "
                    f"of: {', '.join(smto.SMTOS)}."
                )
    return listed


def make(name: str, config: Config, num_tasks: int) -> Variant:
    """Resolve a variant of a configuration.

    Raises:
      InputError: an unknown name, or a value out of range.
    """
    single = name == "single"
    groups = np.arange(num_tasks)[:, None] if single else np.arange(num_tasks)[None]
    runs = list(itertools.product(config.seeds, config.learning_rates, groups))
    chosen = name.partition("-")[2] or UNITARY
    return Variant(
        name=name,
        smto=NO_SMTO if single else chosen,
        method=_method(chosen, config, groups.shape[1]),
        task_ids=np.stack([group for _, _, group in runs]).astype(np.int32),
        seeds=np.array([seed for seed, _, _ in runs], np.int32),
        learning_rates=np.array([rate for _, rate, _ in runs], np.float64),
    )


def _method(name: str, config: Config, num_tasks: int) -> Method:
    """The update rule of a variant of ``num_tasks`` tasks."""
    chosen = dict(config.smto.get(name, {}))
    if "reduction" in smto.options(name):
        chosen["reduction"] = config.smto.reduction
    weighting = smto.make(name, **chosen)
    weighting.init(num_tasks)  # raises where options do not fit the tasks
    head_grad = config.smto.head_grad
    if head_grad not in HEAD_GRADS:
        raise InputError(
            f"smto.head_grad {head_grad!r} is not one of: {', '.join(HEAD_GRADS)}."
        )
    task_map = axis_map.make(config.task_map)
    # One backward pass suffices for a loss weighting, but tasks mapped one after
    # another would have to keep what that pass needs of all of them.
    losses_only = isinstance(weighting, LossWeighting)
    if losses_only and task_map is not axis_map.sequential:
        method = weighting
    else:
        method = smto.lift(weighting, num_tasks)
    return Method(
        smto=method,
        weighted_heads=losses_only
        if head_grad == "default"
        else head_grad == "weighted",
        optimizer=_optimizer(config.optimizer),
        task_map=task_map,
    )


def _optimizer(config: Config) -> Callable[[Any], optax.GradientTransformation]:
    if config.name not in OPTIMIZERS:
        known = ", ".join(OPTIMIZERS)
        raise InputError(f"optimizer {config.name!r} is not one of: {known}.")
    factory, options = OPTIMIZERS[config.name], dict(config.get(config.name, {}))
    return lambda learning_rate: factory(learning_rate, **options)
