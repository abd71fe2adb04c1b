"""Methods of variants: their multi-task optimizers, and how gradients are made."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from mtl_jax import smto
from mtl_jax.devices import axis_map
from mtl_jax.options import one_of
from mtl_jax.smto import (
    Aggregator,
    Cotangent,
    CrossWeighting,
    GramianWeighting,
    LossWeighting,
    Perturbation,
    PreferenceSampler,
    Regularizer,
    Rotation,
    strategies,
)
from mtl_jax.smto.strategies import Strategy
from mtl_jax.types import Config, InputError

AT_REPRESENTATION = "-ub"
HEAD_GRADS = ("default", "weighted", "unweighted")
StrategyMaker = Callable[[Any, bool], Strategy]
"""``(method, weighted heads) -> strategy``."""
PATHS: dict[str, StrategyMaker] = {
    "auto": strategies.by_size,
    "jacobian": strategies.by_jacobian,
    "gramian": strategies.by_gramian,
}
CUT: tuple[StrategyMaker, ...] = (
    strategies.by_representation,
    strategies.by_cotangent,
    strategies.by_rotation,
    strategies.by_regularizer,
)
"""Ways that cut the loss in two."""


def strategy(
    name: str,
    config: Config,
    num_tasks: int,
    sizes: Sequence[int],
    options: Mapping[str, Any],
) -> Strategy:
    """Make the strategy of a method.

    Args:
      name: of the multi-task optimizer, with ``-ub`` for gradients at the
        representation.
      config: of the experiment.
      num_tasks: of a run.
      sizes: training examples of the tasks.
      options: that go before those of the configuration.

    Raises:
      InputError: an unknown value, or one that does not fit.
    """
    one_of("smto.head_grad", config.smto.head_grad, HEAD_GRADS)
    one_of("smto.path", config.smto.path, PATHS)
    base = base_of(name)
    method = make(base, config, sizes, options)
    if isinstance(method, LossWeighting | GramianWeighting | PreferenceSampler):
        method.init(num_tasks)  # raises where options do not fit the tasks
    if isinstance(method, CrossWeighting) and config.batch_size < method.parts:
        raise InputError(
            f"batch_size {config.batch_size} cannot be cut into the {method.parts} "
            f"parts that {base} looks at; choose at least that."
        )
    # One backward pass suffices for a loss weighting, but tasks mapped one after
    # another would have to keep what that pass needs of all of them.
    one_by_one = _goes_one_by_one(config)
    makers: dict[type, StrategyMaker] = {
        LossWeighting: strategies.by_jacobian if one_by_one else strategies.by_losses,
        GramianWeighting: PATHS[config.smto.path],
        CrossWeighting: strategies.by_samples,
        Aggregator: strategies.by_jacobian,
        Perturbation: strategies.by_perturbation,
        Cotangent: strategies.by_cotangent,
        Rotation: strategies.by_rotation,
        Regularizer: strategies.by_regularizer,
        PreferenceSampler: strategies.by_preferences,
    }
    if base != name:
        if not isinstance(method, GramianWeighting):
            raise InputError(
                f"variant multi-{name} asks for {base} at the representation, but that "
                f"does not weigh a Gramian; name one that does, such as mgda-ub."
            )
        makers[GramianWeighting] = strategies.by_representation
    of_losses = isinstance(method, LossWeighting | PreferenceSampler)
    weighted = config.smto.head_grad == "weighted" or (
        config.smto.head_grad == "default" and of_losses
    )
    make_strategy = makers[type(method)]
    if make_strategy in CUT and config.grad_accumulation > 1:
        raise InputError(
            f"variant multi-{name} looks at the representation of a whole batch; leave "
            f"grad_accumulation {config.grad_accumulation} at 1, or the variant out."
        )
    return make_strategy(method, weighted)


def shown_at(
    name: str, config: Config, sizes: Sequence[int], options: Mapping[str, Any]
) -> np.ndarray | None:
    """Return the preference ``[T]`` that a model is told where it is looked at.

    None for methods that tell it none; of the others training does not depend on it.

    Raises:
      InputError: as `make`; not one number a task.
    """
    method = make(base_of(name), config, sizes, options)
    if not isinstance(method, PreferenceSampler):
        return None
    return np.asarray(method.share(len(sizes)), np.float32)


def _goes_one_by_one(config: Config) -> bool:
    return axis_map.make(config.task_map) is axis_map.sequential


def is_watched(name: str, config: Config, sizes: Sequence[int]) -> bool:
    """Tell whether the direction of a method is found without the tasks' gradients.

    Those at the representation never meet the trunk's, so nobody asks for them.
    """
    weighs_losses = isinstance(make(base_of(name), config, sizes), LossWeighting)
    return weighs_losses and not _goes_one_by_one(config)


def base_of(name: str) -> str:
    """Return the name of a method without where its gradients are."""
    return name.removesuffix(AT_REPRESENTATION)


def make(
    name: str,
    config: Config,
    sizes: Sequence[int],
    options: Mapping[str, Any] = MappingProxyType({}),
) -> smto.Method:
    """Make a multi-task optimizer with its options, and those of methods inside it.

    Raises:
      InputError: an unknown option, or a value out of its range.
    """
    known = smto.options(name)
    chosen = {**known, **config.smto.get(name, {}), **options}
    shared = {
        "reduction": config.smto.reduction,
        "sizes": tuple(sizes),
        "steps_per_epoch": -(-max(sizes) // config.batch_size),
    }
    chosen |= {option: shared[option] for option in shared.keys() & known.keys()}
    for option in smto.NESTED & known.keys():
        chosen[option] = make(chosen[option], config, sizes)
    return smto.make(name, **chosen)
