"""Variants of an experiment: which tasks train together, and by which optimizer.

``single`` trains every task alone, ``single-NAME`` too, by the update rule of a
multi-task optimizer that means something for one task (``single-fmtl``), ``multi`` all
of them on the sum of their losses, ``multi-NAME`` all of them with the multi-task
optimizer NAME, and ``multi-NAME-ub`` with NAME on gradients at the shared
representation. Options of NAME may stand behind it, ``multi-cagrad@c=0.2``; see
`mtl_jax.training.tuning`. Groups of tasks instead of all stand behind a colon,
``multi:a/b+c``, ``single:a``; see `mtl_jax.training.groups`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mtl_jax import smto
from mtl_jax.analysis.variant import family_of
from mtl_jax.devices import axis_map
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.options import closest, did_you_mean, is_positive, name_list
from mtl_jax.smto import Rotation
from mtl_jax.smto.strategies import Strategy
from mtl_jax.training import groups, methods, tuning
from mtl_jax.training.groups import SINGLE, Group, Label
from mtl_jax.training.maps import Maps, named_maps
from mtl_jax.training.optimizers import (
    OptimizerMaker,
    is_elementwise,
    make_optimizer,
)
from mtl_jax.training.schedules import make_schedule
from mtl_jax.training.step import UpdateRule
from mtl_jax.types import GROUP, OPTION, Config, InputError

if TYPE_CHECKING:
    import pandas as pd

PLAIN = (SINGLE, "multi")
"""Variants that name no multi-task optimizer."""
UNITARY = "sum"
NO_SMTO = "none"


class Variant(NamedTuple):
    """Runs side by side: ``R`` = seeds x learning rates x groups of tasks x options.

    Groups of as many tasks, and an optimizer with other numbers as its options, are one
    stack of runs, hence one program.
    """

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
    labels: tuple[Label, ...]
    """Names of the runs ``[R]``."""
    run_map: AxisMap
    """Map over the runs of a device."""
    options: Mapping[str, np.ndarray] = MappingProxyType({})
    """Options of the multi-task optimizer that differ between runs, float32 ``[R]``, or
    ``[R, T]`` where an option has a number for every task."""
    strategy_of: Callable[[Mapping[str, Any]], Strategy] | None = None
    """From such options of a run to its strategy."""
    rays: Mapping[str, np.ndarray] = MappingProxyType({})
    """Preferences ``[T]`` at which one model of all of them is looked at, by the
    variants of the records that it is then; empty for a model of one."""
    shares: np.ndarray | None = None
    """Preference ``[T]`` that the model is told, of a variant that is `shown`."""

    @property
    def shown(self) -> list["Variant"]:
        """Return the variants of the records: itself, or of a model for each ray."""
        if not self.rays:
            return [self]

        def at(name: str, shares: np.ndarray) -> Variant:
            labels = tuple(label._replace(variant=name) for label in self.labels)
            return self._replace(name=name, labels=labels, rays={}, shares=shares)

        return list(map(at, self.rays, self.rays.values()))

    @property
    def inputs(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Learning rates, float32, tasks and options of the runs, for programs."""
        rates = self.learning_rates.astype(np.float32)
        return rates, self.task_ids, dict(self.options)

    def rule(self, options: Mapping[str, Any]) -> UpdateRule:
        """Return the update rule of a run with its options."""
        if not (options and self.strategy_of):
            return self.method
        return self.method._replace(strategy=self.strategy_of(options))

    @property
    def measured(self) -> int:
        """Number of leading tasks that task factors look at: the target, or all."""
        return 1 if self.labels[0].target else self.task_ids.shape[1]


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
    listed = []
    for name in chosen:
        full, colon, group = name.partition(GROUP)
        method = full.partition(OPTION)[0]
        prefix, _, base = method.removesuffix(methods.AT_REPRESENTATION).partition("-")
        if method not in PLAIN and (prefix not in PLAIN or base not in smto.SMTOS):
            raise InputError(
                f"variant {name!r} is not 'single', 'multi', or 'multi-' and one of: "
                f"{', '.join(smto.SMTOS)} (of gradients at the representation with "
                f"{methods.AT_REPRESENTATION!r} behind it; of some tasks with "
                f"{GROUP!r} and their names behind it){did_you_mean(_closest(method))}"
            )
        _, options = tuning.parse(full, base)
        listed.append(tuning.spell(method, options) + colon + group)
    return tuple(listed)


def smto_of(name: str) -> str:
    """Return the multi-task optimizer that a variant names; empty for none.

    >>> smto_of("multi-mgda-ub:a/b"), smto_of("single")
    ('mgda', '')
    """
    method = name.partition(GROUP)[0].partition(OPTION)[0]
    return methods.base_of(method.partition("-")[2])


def _closest(name: str) -> str | None:
    """Return the variant most like one that is not known, if any is like it."""
    plain = None if "-" in name else closest(name, PLAIN)
    method = name.removeprefix("multi-").removesuffix(methods.AT_REPRESENTATION)
    close = closest(method, smto.SMTOS)
    return plain or (close and f"multi-{close}")


def label(name: str) -> str:
    """Return the variant of the records that a name with one group stands for.

    >>> label("single:a"), label("multi:a/b")
    ('single', 'multi:a/b')
    """
    return name.partition(GROUP)[0] if groups.is_single(name) else name


def is_of(name: str, variants: "pd.Series", tasks: "pd.Series") -> "pd.Series":
    """Tell which rows of a table are of a name with one group.

    Args:
      name: as `expand` returns it.
      variants: of the rows, as the records have them.
      tasks: of the rows.
    """
    task = name.partition(GROUP)[2] if groups.is_single(name) else ""
    return (variants == label(name)) & ((tasks == task) | (not task))


def rotate(config: Config) -> bool:
    """Return whether a variant rotates what its heads see, as then all heads do.

    Raises:
      InputError: as `names` and `make`.
    """
    chosen = {smto_of(name) for name in names(config)} - {""}
    made = [methods.make(name, config, (1,)) for name in chosen]
    return any(isinstance(method, Rotation) for method in made)


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


def make_all(
    config: Config,
    tasks: Sequence[str],
    sizes: Sequence[int],
    override: OptimizerMaker | None = None,
    maps: Maps | None = None,
) -> list[Variant]:
    """Resolve all variants of a configuration, in stacks of runs.

    Args:
      config: the configuration.
      tasks: names of the setting's tasks.
      sizes: training examples of every task, for methods that go by them or count
        epochs: an epoch is a pass over the largest task of a group.
      override: optimizer of a learning rate; the configuration's if not given.
      maps: of runs and tasks; those that the configuration names if not given.

    Raises:
      InputError: an unknown name, a variant or a task twice, or a value out of range.
    """
    maps = maps or named_maps(config)
    stacks: dict[tuple, list[tuple[str, Group]]] = {}
    for method, group in _members(names(config), config, tasks):
        # Where a method goes by the sizes of its tasks, each group has its program.
        of_group = tuple(sizes[task] for task in group.tasks)
        is_shown = _ray(method, group, config, of_group) is not None
        program = family_of(method) if is_shown else _program(method)
        key = program, len(group.tasks), group.has_target, of_group
        chosen = key[:3] if method in PLAIN else key
        stacks.setdefault(chosen, []).append((method, group))
    return [
        _stack(members, config, tasks, sizes, override, maps)
        for members in stacks.values()
    ]


def _program(method: str) -> tuple:
    """Key of a program: a method with its options, but for the values of numbers."""
    name, options = tuning.parse(method, smto_of(method))
    numbers = tuning.numbers(smto_of(method), options)
    fixed = {k: v for k, v in options.items() if k not in numbers}
    return name, tuple(numbers), tuple(fixed.items())


def _ray(
    method: str, group: Group, config: Config, sizes: Sequence[int]
) -> np.ndarray | None:
    """Preference ``[T]`` that a model of all of them is told; None for other models."""
    base = smto_of(method)
    if not base:
        return None
    options = tuning.parse(method, base)[1]
    shares = methods.shown_at(base, config, sizes, options)
    if shares is not None and group.name:
        raise InputError(
            f"variant {method}{GROUP}{group.name} tells its model a preference over "
            f"all tasks; leave the group {group.name} out."
        )
    return shares


def expand(config: Config, tasks: Sequence[str]) -> tuple[str, ...]:
    """Return the names of `names`, one for every group and point of a lattice.

    `make_all` takes them as it takes those.

    Raises:
      InputError: as `make_all`.
    """
    expanded = (
        f"{method}{GROUP}{group.name}" if GROUP in listed else method
        for listed in names(config)
        for method, group in _members([listed], config, tasks)
    )
    return tuple(dict.fromkeys(expanded))  # every task alone is one name


def make(
    name: str,
    config: Config,
    tasks: Sequence[str],
    sizes: Sequence[int],
    override: OptimizerMaker | None = None,
) -> Variant:
    """Resolve a variant whose groups have as many tasks each; see `make_all`."""
    members = list(_members([name], config, tasks))
    return _stack(members, config, tasks, sizes, override, named_maps(config))


def _members(
    chosen: Iterable[str], config: Config, tasks: Sequence[str]
) -> Iterator[tuple[str, Group]]:
    """Yield the methods and groups of tasks that names of variants stand for."""
    draw, seen = groups.make_draw(config.groups), set()
    for method, group in groups.members(chosen, tasks, draw):
        for point in tuning.points(method, smto_of(method), len(group.tasks)):
            if (point, group.name) in seen:
                raise InputError(f"variants name {point} twice; name it once.")
            seen.add((point, group.name))
            yield point, group


def _stack(
    members: list[tuple[str, Group]],
    config: Config,
    tasks: Sequence[str],
    sizes: Sequence[int],
    override: OptimizerMaker | None,
    maps: Maps,
) -> Variant:
    """Runs of the methods of one program on groups of as many tasks.

    One model of all preferences is one run of a seed and a rate; the members are what
    it is shown as.
    """
    rays: dict[str, np.ndarray] = {}
    for name, group in members:
        shares = _ray(name, group, config, [sizes[task] for task in group.tasks])
        if shares is not None:
            rays[name] = shares
    if rays:
        members = [(family_of(members[0][0]), members[0][1])]
    method = members[0][0].partition(OPTION)[0]
    single = groups.is_single(method)
    pairs: list[tuple[float, tuple[str, Group]]]
    if single and config.single_runs:
        alone = members[0][0]
        pairs = [(rate, (alone, g)) for rate, g in _single_runs(config, tasks)]
    else:
        pairs = list(itertools.product(config.learning_rates, members))
    runs = [(seed, *pair) for seed in config.seeds for pair in pairs]
    labels = groups.labels([member for _, _, member in runs], tasks)
    chosen = method.partition("-")[2] or UNITARY
    first = members[0][1].tasks
    of_group, size = [sizes[task] for task in first], len(first)
    by_name = {label.variant: None for label in labels}
    base = smto_of(method)
    options = [tuning.parse(full, base)[1] for _, _, (full, _) in runs]
    for of_run in {tuning.spell("", each): each for each in options}.values():
        make_strategy = partial(methods.strategy, chosen, config, size, of_group)
        make_strategy(of_run)  # raises where they are unfit
    numbers = [tuning.numbers(base, of_run) for of_run in options]
    fixed = {k: v for k, v in options[0].items() if k not in numbers[0]}
    return Variant(
        name=next(iter(by_name)) if len(by_name) == 1 else f"{method} of {size} tasks",
        smto=NO_SMTO if method == SINGLE else chosen,
        method=UpdateRule(
            strategy=methods.strategy(chosen, config, size, of_group, options[0]),
            optimizer=override or optimizer(config),
            task_map=axis_map.make(config.task_map),
            chunk=maps.chunk,
            is_joined=maps.is_joined
            and not override
            and is_elementwise(config.optimizer.name, config.optimizer.decayed),
            parts=config.grad_accumulation,
            is_watched=not single and methods.is_watched(chosen, config, of_group),
        ),
        task_ids=np.array([group.tasks for _, _, (_, group) in runs], np.int32),
        seeds=np.array([seed for seed, _, _ in runs], np.int32),
        learning_rates=np.array([rate for _, rate, _ in runs], np.float64),
        labels=labels,
        run_map=maps.runs(size),
        options={
            name: np.array([of_run[name] for of_run in numbers], np.float32)
            for name in numbers[0]
        },
        strategy_of=lambda traced: methods.strategy(
            chosen, config, size, of_group, {**fixed, **traced}
        ),
        rays=rays,
    )


def _single_runs(config: Config, tasks: Sequence[str]) -> list[tuple[float, Group]]:
    """Learning rate and task of the runs that are named one by one."""
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
    return [(rate, Group(task, (tasks.index(task),), False)) for task, rate in named]
