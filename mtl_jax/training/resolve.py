"""An experiment, resolved: its setting, variants, splits and trajectory points."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from mtl_jax.data import Dataset, schedule
from mtl_jax.devices import target as targets
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.devices.target import Target
from mtl_jax.metrics import factors
from mtl_jax.metrics.factors import Factors
from mtl_jax.options import (
    check_items,
    is_positive,
    is_whole,
    name_list,
    one_of,
    some_of,
)
from mtl_jax.storage import checkpoint, commands, trackers, workdir
from mtl_jax.training import (
    fingerprint,
    forms,
    profile,
    streaming,
    trajectory,
    variants,
)
from mtl_jax.training.optimizers import OptimizerMaker
from mtl_jax.training.setting import Setting, make_setting, with_rotations
from mtl_jax.training.tasks import load_setting
from mtl_jax.training.variants import Variant
from mtl_jax.types import ONE_INPUT, Config, InputError

PROBE = "probe"
SPLITS = (PROBE, "train", "validation", "test")


@dataclass(frozen=True)
class Experiment:
    """A configuration, resolved."""

    config: Config
    setting: Setting
    variants: list[Variant]
    splits: dict[str, tuple[np.ndarray, ...]]
    """Rows of the pool per split and task; ``probe`` is one of them."""
    points: np.ndarray
    """Steps at which the runs are looked at."""
    traced: tuple[int, ...]
    """Ends of the steps that are traced, as `profile.span`."""
    factors: Factors
    """As `factors.make` makes them."""
    view_map: AxisMap
    """Map over the tasks that a device measures, one by one."""
    target: Target
    """Devices that its programs are for."""

    @property
    def shown(self) -> list[tuple[int, Variant]]:
        """Return the variants of the records, and the numbers of those they are of."""
        return [
            (i, v) for i, variant in enumerate(self.variants) for v in variant.shown
        ]

    @cached_property
    def data(self) -> dict[str, Any]:
        """Identity of the data: its checksum, and where it came from."""
        made = self.setting
        contents = jax.tree.leaves((made.data.x, made.data.y, self.splits, made.start))
        return {"checksum": checkpoint.checksum(contents), **made.data.provenance}


def resolve(
    config: Config,
    setting: Setting | None = None,
    optimizer: OptimizerMaker | None = None,
    target: Target | None = None,
    dataset: Dataset | None = None,
) -> Experiment:
    """Resolve a configuration, as `config.default` makes it.

    Args:
      config: the configuration.
      setting: tasks and model; those of the configuration if not given.
      optimizer: of a learning rate; the configuration's if not given.
      target: devices that its programs are for; those at hand if not given.
      dataset: in place of the configuration's.

    Raises:
      InputError: a value of it is unfit, or its data is.
    """
    target = target or targets.here()
    commands.check_config("train", config)
    _check(config, len(target.devices))
    variants.names(config)  # raises where one is unknown
    _points(config, config.steps)
    if optimizer is None:
        variants.optimizer(config)  # raises where its options are unfit
    chosen = factors.make(config.factors)
    rotated = variants.rotate(config)
    if setting is None and ":" in config.setting:
        setting = load_setting(config.setting)
    config = _named(config, setting, optimizer)
    settled = forms.settle(config, target.platform)
    if setting is None:
        setting = make_setting(settled, rotated=rotated, dataset=dataset)
    elif rotated:
        setting = with_rotations(setting)
    splits = _splits(config, setting)
    sizes = tuple(map(len, splits["train"]))
    epoch = max(sizes) / config.batch_size
    if config.epochs:
        config.steps = settled.steps = max(1, round(config.epochs * epoch))
    maps = forms.maps(settled, setting, target.platform)
    made = variants.make_all(settled, setting.tasks, sizes, optimizer, maps)
    _check_told(made, setting)
    return Experiment(
        config=config,
        setting=setting,
        variants=made,
        splits=splits,
        points=_points(config, config.trajectory.epochs * epoch),
        traced=profile.span(config.profile, config.steps),
        factors=chosen,
        view_map=maps.runs(1),
        target=target,
    )


def another_variant(made: Experiment, name: str, **changes: Any) -> Variant:
    """Make a variant that an experiment does not train, as it would train it.

    Args:
      made: the experiment.
      name: of the variant.
      changes: fields of its configuration, such as ``seeds``.
    """
    config = made.config.copy_and_resolve_references()
    config.update({"variants": (name,), "single_runs": (), **changes})
    config.smto.name = ""
    settled = forms.settle(config, made.target.platform)
    sizes = tuple(map(len, made.splits["train"]))
    maps = forms.maps(settled, made.setting, made.target.platform)
    (variant,) = variants.make_all(settled, made.setting.tasks, sizes, None, maps)
    return variant


def _check_told(made: list[Variant], setting: Setting) -> None:
    """Refuse variants that tell a preference to a trunk that asks for none."""
    telling = [variant.name for variant in made if variant.rays]
    if telling and not setting.trunk.is_conditioned:
        raise InputError(
            f"variant {telling[0]} tells its model a preference, and the trunk "
            f"{type(setting.trunk).__name__} asks for none; choose "
            f"--config.model.name=palora, with that trunk as its encoder."
        )


def _points(config: Config, spacing: float) -> np.ndarray:
    """Steps at which the runs are looked at, the even ones ``spacing`` steps apart."""
    fields = config.trajectory
    return trajectory.points(
        config.steps, fields.dense, fields.count, spacing if fields.epochs else 0.0
    )


def _named(
    config: Config, setting: Setting | None, optimizer: OptimizerMaker | None
) -> Config:
    """The configuration, with the names of what is given as an object in its place.

    A workdir is bound to them: to what a model or an optimizer computes.
    """
    config = config.copy_and_resolve_references()
    if setting is not None:
        name = fingerprint.described(setting.trunk)
        config.model.name = f"{name} {fingerprint.of_setting(setting)}"
    if optimizer is not None:
        name = fingerprint.described(optimizer)
        config.optimizer.name = f"{name} {fingerprint.of_optimizer(optimizer)}"
    return config


def _check(config: Config, devices: int) -> None:
    """Raise an `InputError` for the first value that is out of its range."""
    for field in ("batch_size", "eval_batch_size", "probe_size", "steps_per_dispatch"):
        if config[field] < 1:
            raise InputError(f"{field} is {config[field]}; it must be at least 1.")
    _check_data_parallel(config, devices)
    if config.grad_accumulation < 1 or config.batch_size % config.grad_accumulation:
        raise InputError(
            f"batch_size {config.batch_size} cannot be cut into grad_accumulation "
            f"{config.grad_accumulation} equal parts; choose a number that divides it."
        )
    for field in ("epochs", "stop_loss", "trajectory.epochs"):
        value = workdir.flat(config)[field]
        if not (value == 0 or is_positive(value)):
            raise InputError(
                f"{field} is {value!r}; it must be a positive number, or 0 for none."
            )
    one_of("data.stream", config.data.stream, streaming.CHOICES)
    if config.checkpoint.every < 1:
        raise InputError(
            f"checkpoint.every is {config.checkpoint.every}; it must be at least 1 "
            f"step."
        )
    if config.data.seed < 0:
        raise InputError(f"data.seed is {config.data.seed}; it must not be negative.")
    check_seeds("seeds", config.seeds)
    check_rates("learning_rates", config.learning_rates)
    if not some_of("evaluate", config.evaluate, SPLITS):
        raise InputError(f"evaluate is empty; name some of {', '.join(SPLITS)}.")
    some_of("log", config.log, trackers.TRACKERS)
    check_items(
        "trajectory.loss_levels",
        config.trajectory.loss_levels,
        is_positive,
        "name positive numbers, each once",
        empty=True,
    )


def check_seeds(field: str, seeds: Sequence[Any]) -> None:
    """Raise an `InputError` for the first of a field's seeds that is none."""
    check_items(
        field,
        seeds,
        lambda seed: is_whole(seed, least=0) and seed < 2**31,
        "name at least one whole number, each once, none negative: 0,1,2",
    )


def check_rates(field: str, rates: Sequence[Any]) -> None:
    """Raise an `InputError` for the first of a field's learning rates that is none."""
    rule = "name at least one positive number, each once: 1e-2,1e-3"
    check_items(field, rates, is_positive, rule)


def _check_data_parallel(config: Config, devices: int) -> None:
    share = config.data_parallel
    for field in ("batch_size", "eval_batch_size"):
        if share > 0 and config[field] % share:
            raise InputError(
                f"{field} {config[field]} cannot be split evenly over data_parallel "
                f"{share}; choose a multiple."
            )
    if share < 1 or devices % share:
        raise InputError(
            f"data_parallel is {share}, and there are {devices} devices; choose 1 or "
            f"a number that divides them."
        )


def _splits(config: Config, setting: Setting) -> dict[str, tuple[np.ndarray, ...]]:
    """Rows of the splits and of the probe; checks the batch size against them."""
    rows = setting.data.rows
    smallest = min(map(len, rows["train"]))
    if config.batch_size > smallest:
        raise InputError(
            f"batch_size {config.batch_size} is larger than the smallest training "
            f"split of {setting.name}, {smallest} examples; choose at most that."
        )
    if config.factors.names and smallest < 2:
        raise InputError(
            f"factors are measured on at least 2 examples of a task, and the smallest "
            f"training split of {setting.name} has {smallest}; leave factors.names "
            f"empty, or leave that task out."
        )
    absent = {*name_list("evaluate", config.evaluate)} - {PROBE, *rows}
    if absent:
        raise InputError(
            f"evaluate names {', '.join(sorted(absent))}, and {setting.name} has the "
            f"splits {', '.join(rows)}; name of them what is to be evaluated."
        )
    one_input = setting.batch_axes == ONE_INPUT  # then tasks share their probe
    probe = tuple(
        schedule.probe(part, config.data.seed, 0 if one_input else t, config.probe_size)
        for t, part in enumerate(rows["train"])
    )
    return {PROBE: probe, **rows}
