"""Variants of an experiment: which tasks train together, and by which optimizer.

``single`` trains every task alone, ``multi`` all of them on the sum of their losses,
``multi-NAME`` all of them with the multi-task optimizer NAME, and ``multi-NAME-ub``
with NAME on gradients at the shared representation."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtl_jax import smto
from mtl_jax.devices import axis_map
from mtl_jax.options import closest, did_you_mean, is_positive, name_list, one_of
from mtl_jax.smto import (
    Aggregator,
    Cotangent,
    CrossWeighting,
    GramianWeighting,
    LossWeighting,
    Perturbation,
    Rotation,
    strategies,
)
from mtl_jax.smto.strategies import Strategy
from mtl_jax.training.optimizers import OptimizerMaker, make_optimizer
from mtl_jax.training.schedules import make_schedule
from mtl_jax.training.step import UpdateRule
from mtl_jax.types import Config, InputError

PLAIN = ("single", "multi")
"""Variants that name no multi-task optimizer."""
UNITARY = "sum"
NO_SMTO = "none"
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
)
"""Ways that cut the loss in two."""


class Variant(NamedTuple):
    """Runs side by side: ``R`` = seeds x learning rates x groups of tasks."""

    name: str
    smto: str
    """Name of the multi-task optimizer; ``none`` for single tasks."""
    method: UpdateRule
    task_ids: np.ndarray
    """int32 ``[R, T]``."""
    seeds: np.ndarray
    """int32 ``[R]``."""
    learning_rates: np.ndarray
    """``[R]``."""


def names(config: Config) -> tuple[str, ...]:
    """Return names of the variants: those listed, and ``multi-NAME`` for ``smto.name``.

    Raises:
      InputError: none, one twice, or an unknown one.
    """
    chosen = name_list("variant", config.variants)
    if config.smto.name and f"multi-{config.smto.name}" not in chosen:
        chosen += (f"multi-{config.smto.name}",)
    if not chosen:
        raise InputError("variants is empty; name at least one, such as 'multi'.")
    for name in chosen:
        prefix, _, method = name.removesuffix(AT_REPRESENTATION).partition("-")
        if name not in PLAIN and (prefix != "multi" or method not in smto.SMTOS):
            raise InputError(
                f"variant {name!r} is not 'single', 'multi', or 'multi-' and one of: "
                f"{', '.join(smto.SMTOS)} (of gradients at the representation with "
                f"{AT_REPRESENTATION!r} behind it)"
                f"{did_you_mean(_closest(name))}"
            )
    return chosen


def _closest(name: str) -> str | None:
    """Return the variant most like one that is not known, if any is like it."""
    plain = None if "-" in name else closest(name, PLAIN)
    method = name.removeprefix("multi-").removesuffix(AT_REPRESENTATION)
    close = closest(method, smto.SMTOS)
    return plain or (close and f"multi-{close}")


def rotate(config: Config) -> bool:
    """Return whether a variant rotates what its heads see, as then all heads do.

    Raises:
      InputError: as `names` and `make`.
    """
    chosen = {name.partition("-")[2] for name in names(config)} & smto.SMTOS.keys()
    methods = [_smto(name, config, (1,)) for name in chosen]
    return any(isinstance(method, Rotation) for method in methods)


def optimizer(config: Config) -> OptimizerMaker:
    """Return the optimizer of a configuration, as a function of its learning rate.

    Raises:
      InputError: an unknown name or option, or a value out of its range.
    """
    fields = config.optimizer
    schedule = make_schedule(
        fields.schedule, config.steps, fields.warmup_steps, fields.final_fraction
    )
    return make_optimizer(
        fields.name,
        schedule,
        fields.clip_norm,
        fields.decayed,
        **fields.get(fields.name, {}),
    )


def make(
    name: str,
    config: Config,
    tasks: Sequence[str],
    sizes: Sequence[int],
    override: OptimizerMaker | None = None,
) -> Variant:
    """Resolve a variant of a configuration.

    Args:
      name: of the variant.
      config: the configuration.
      tasks: names of the setting's tasks.
      sizes: training examples of every task, for methods that go by them or count
        epochs: an epoch is a pass over the largest task.
      override: optimizer of a learning rate; the configuration's if not given.

    Raises:
      InputError: an unknown name, or a value out of range.
    """
    single = name == "single"
    if single and config.single_runs:
        pairs = _single_runs(config, tasks)
    else:
        numbers = np.arange(len(tasks))
        groups = numbers[:, None] if single else numbers[None]
        pairs = list(itertools.product(config.learning_rates, groups))
    runs = [(seed, *pair) for seed, pair in itertools.product(config.seeds, pairs)]
    chosen = name.partition("-")[2] or UNITARY
    return Variant(
        name=name,
        smto=NO_SMTO if single else chosen,
        method=UpdateRule(
            strategy=_strategy(chosen, config, len(pairs[0][1]), sizes),
            optimizer=override or optimizer(config),
            task_map=axis_map.make(config.task_map),
            parts=config.grad_accumulation,
            is_watched=not single and _is_watched(chosen, config, sizes),
        ),
        task_ids=np.stack([group for _, _, group in runs]).astype(np.int32),
        seeds=np.array([seed for seed, _, _ in runs], np.int32),
        learning_rates=np.array([rate for _, rate, _ in runs], np.float64),
    )


def _single_runs(config: Config, tasks: Sequence[str]) -> list[tuple[float, Any]]:
    """Learning rate and task number ``[1]`` of the runs that are named one by one."""
    named = tuple(config.single_runs)
    for pair in named:
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not is_pair or pair[0] not in tasks or named.count(pair) > 1:
            raise InputError(
                f"single_runs holds {pair!r}; name pairs of a task "
                f"({', '.join(tasks)}) and a learning rate, each once."
            )
        if not is_positive(pair[1]):
            raise InputError(
                f"single_runs: the learning rate of {pair[0]!r} is {pair[1]!r}; it "
                f"must be a positive number."
            )
    return [(rate, np.array([tasks.index(task)])) for task, rate in named]


def _strategy(
    name: str, config: Config, num_tasks: int, sizes: Sequence[int]
) -> Strategy:
    """Strategy of a variant of ``num_tasks`` tasks."""
    one_of("smto.head_grad", config.smto.head_grad, HEAD_GRADS)
    one_of("smto.path", config.smto.path, PATHS)
    base = _base(name)
    method = _smto(base, config, sizes)
    if isinstance(method, LossWeighting):
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
    }
    if base != name:
        if not isinstance(method, GramianWeighting):
            raise InputError(
                f"variant multi-{name} asks for {base} at the representation, but that "
                f"does not weigh a Gramian; name one that does, such as mgda-ub."
            )
        makers[GramianWeighting] = strategies.by_representation
    weighted = config.smto.head_grad == "weighted" or (
        config.smto.head_grad == "default" and isinstance(method, LossWeighting)
    )
    make_strategy = makers[type(method)]
    if make_strategy in CUT and config.grad_accumulation > 1:
        raise InputError(
            f"variant multi-{name} looks at the representation of a whole batch; leave "
            f"grad_accumulation {config.grad_accumulation} at 1, or the variant out."
        )
    return make_strategy(method, weighted)


def _goes_one_by_one(config: Config) -> bool:
    return axis_map.make(config.task_map) is axis_map.sequential


def _is_watched(name: str, config: Config, sizes: Sequence[int]) -> bool:
    """Tell whether the direction is found without the tasks' own gradients.

    Those at the representation never meet the trunk's, so nobody asks for them.
    """
    weighs_losses = isinstance(_smto(_base(name), config, sizes), LossWeighting)
    return weighs_losses and not _goes_one_by_one(config)


def _base(name: str) -> str:
    return name.removesuffix(AT_REPRESENTATION)


def _smto(name: str, config: Config, sizes: Sequence[int]) -> smto.Method:
    """A multi-task optimizer with its options, and those of methods inside it."""
    known = smto.options(name)
    chosen = {**known, **config.smto.get(name, {})}
    shared = {
        "reduction": config.smto.reduction,
        "sizes": tuple(sizes),
        "steps_per_epoch": -(-max(sizes) // config.batch_size),
    }
    chosen |= {option: shared[option] for option in shared.keys() & known.keys()}
    for option in smto.NESTED & known.keys():
        chosen[option] = _smto(chosen[option], config, sizes)
    return smto.make(name, **chosen)
