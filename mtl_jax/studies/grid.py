"""The grids of a study: the trials of its sweep, and those of what was chosen.

Every variant tries every learning rate with every batch size and every optimizer, so
all have the same number of candidates: an equal tuning budget. Where a multi-task
optimizer has options to tune, each candidate has one combination of their values,
spread over the grid as in a Latin square: candidate (i, j) has combination (i + j)
modulo their number.
"""

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from mtl_jax import smto
from mtl_jax.analysis.curves import Frame
from mtl_jax.options import check_items, name_list, one_of, some_of
from mtl_jax.studies.trial import Trial
from mtl_jax.training import groups, tuning, variants
from mtl_jax.training.optimizers import OPTIMIZERS
from mtl_jax.types import GROUP, OPTION, Config, InputError

KINDS: dict[type, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    int: (int, "whole numbers"),
    float: (int | float, "numbers"),
}
"""Types of values that are tried of an option, by that of its default."""
SWEPT = ("validation",)
"""Test data are not looked at before the choice is made."""


def sweep(study: Config, tasks: Sequence[str]) -> list[Trial]:
    """List the trials that try all candidates, cheapest first; none of a single one.

    Args:
      study: as `configs/sweeps/default.py` makes it.
      tasks: names of the setting's tasks.

    Raises:
      InputError: options that are not there, or do not fit in the grid.
    """
    grid, trials = study.grid, []
    places = enumerate(grid.batch_sizes)
    for optimizer, names, (j, batch_size) in itertools.product(
        optimizers(study), families(study, tasks), places
    ):
        tried = combinations(study, names[0])
        for k, options in enumerate(tried):
            rates = tuple(
                rate
                for i, rate in enumerate(grid.learning_rates)
                if (i + j) % len(tried) == k
            )
            if rates:
                cell = (names, optimizer, batch_size, options)
                trials.append(candidate(study, tasks, cell, rates))
    return sorted(trials, key=lambda trial: trial.cost) if has_choice(study) else []


def candidate(
    study: Config,
    tasks: Sequence[str],
    cell: tuple[Sequence[str], str, int, dict[str, Any]],
    rates: tuple[float, ...],
) -> Trial:
    """Make the trial of candidates, which looks at validation only.

    Args:
      study: as in `sweep`.
      tasks: as in `sweep`.
      cell: variants, optimizer, batch size, and options of the multi-task optimizer.
      rates: learning rates.
    """
    changes = {
        "seeds": tuple(study.grid.seeds),
        "evaluate": SWEPT,
        "factors.names": (),
        "trajectory.dense": 0,
        "trajectory.count": study.grid.points,
        "trajectory.epochs": 0.0,
        "trajectory.loss_levels": (),
        "checkpoint.keep_points": False,
        "checkpoint.keep_last": 1,
        "learning_rates": rates,
    }
    return _trial(study, *cell, changes, len(rates) * len(tasks) * len(cell[0]))


def final(study: Config, tasks: Sequence[str], chosen: Frame) -> list[Trial]:
    """List the trials that train what was chosen, with all seeds and measurements.

    Groups of tasks for which the same was chosen train in one trial.

    Args:
      study: as in `sweep`.
      tasks: as in `sweep`.
      chosen: rows of `analysis.candidates`, with ``optimizer`` and ``options`` of each.
    """
    trials = []
    for names in families(study, tasks):
        is_single = groups.is_single(names[0])
        plans: dict[tuple, dict[str, Frame]] = {}
        for name in names:
            of_name = chosen[variants.is_of(name, chosen["variant"], chosen["task"])]
            keys = [
                (row.optimizer, int(row.batch_size), row.options)
                for row in of_name.itertuples()
            ]
            for cell in dict.fromkeys(keys):
                here = of_name[[key == cell for key in keys]]
                rates = () if is_single else tuple(here["learning_rate"].unique())
                plans.setdefault((*cell, rates), {})[name] = here
        for (optimizer, batch_size, spelled, _), members in plans.items():
            here = pd.concat(members.values())
            rates = tuple(dict.fromkeys(here["learning_rate"]))
            changes: dict[str, Any] = {
                "learning_rates": rates,
                "seeds": tuple(study.final.seeds),
            }
            runs = len(rates) * len(tasks) * len(members)
            if is_single:
                pairs = zip(here["task"], here["learning_rate"], strict=True)
                changes["single_runs"] = tuple(pairs)
                runs = len(here)
            options = spelled_options(names[0], spelled)
            cell = (list(members), optimizer, batch_size, options)
            trials.append(_trial(study, *cell, changes, runs))
    return trials


def families(study: Config, tasks: Sequence[str]) -> list[list[str]]:
    """List the study's variants, those of a method that differ in their tasks together.

    Each stands for one group of tasks, as `variants.expand` makes it.
    """
    by_method: dict[str, list[str]] = {}
    for name in variants.expand(study.base, tasks):
        method = name.partition(GROUP)[0] if GROUP in name else f"{name}{GROUP}"
        by_method.setdefault(method, []).append(name)
    return list(by_method.values())


def has_choice(study: Config) -> bool:
    """Tell whether there is more than one candidate of every variant."""
    grid = study.grid
    cells = len(grid.learning_rates) * len(grid.batch_sizes) * len(optimizers(study))
    return cells > 1


def only(study: Config, tasks: Sequence[str]) -> Frame:
    """Return the table of `analysis.candidates` where there is no choice."""
    grid, (optimizer,) = study.grid, optimizers(study)
    candidate = {
        "learning_rate": grid.learning_rates[0],
        "batch_size": grid.batch_sizes[0],
        "by": "",
        "validation": math.nan,
        "runs": 0,
        "diverged": 0,
        "chosen": True,
        "optimizer": optimizer,
    }
    rows = []
    for name in variants.expand(study.base, tasks):
        label, task = variants.label(name), name.partition(GROUP)[2]
        alone = [task] if task else list(tasks)
        for of_row in alone if groups.is_single(name) else [""]:
            rows.append(
                {"setting": study.base.setting, "variant": label, "task": of_row}
                | {"options": text(combinations(study, name)[0])}
            )
    return pd.DataFrame([{**row, **candidate} for row in rows])


def optimizers(study: Config) -> tuple[str, ...]:
    """List the names of the optimizers that are tried.

    Raises:
      InputError: one is not known, or there is none.
    """
    names = some_of("grid.optimizers", study.grid.optimizers, OPTIMIZERS)
    if not names:
        raise InputError("grid.optimizers is empty; name at least one, such as adam.")
    return names


def combinations(study: Config, variant: str) -> list[dict[str, Any]]:
    """List the combinations of values that are tried of a variant's options.

    What its name gives is not tried.

    Raises:
      InputError: more than the grid has room for, or as `check_options`.
    """
    name, values = variants.smto_of(variant), tried_values(study, variant)
    points = [
        dict(zip(values, point, strict=True))
        for point in itertools.product(*values.values())
    ]
    most = len(study.grid.learning_rates) + len(study.grid.batch_sizes) - 1
    if not 0 < len(points) <= most:
        raise InputError(
            f"grid.options.{name} has {len(points)} combinations; a grid of "
            f"{len(study.grid.learning_rates)} learning rates and "
            f"{len(study.grid.batch_sizes)} batch sizes tries 1 to {most}."
        )
    return points


def tried_values(study: Config, variant: str) -> dict[str, tuple[Any, ...]]:
    """Return the values that are tried of a variant's options; of none that it gives.

    Raises:
      InputError: as `check_options`.
    """
    name = variants.smto_of(variant)
    _, given = tuning.parse(variant.partition(GROUP)[0], name)
    return {
        option: _values(name, option, values)
        for option, values in study.grid.options.get(name, {}).items()
        if option not in given
    }


def check_options(study: Config) -> None:
    """Raise an `InputError` for options of no multi-task optimizer, or no values."""
    for name, options in study.grid.options.items():
        one_of("grid.options", name, smto.SMTOS)
        for option, values in options.items():
            _values(name, option, values)


def _values(name: str, option: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the values of an option of a multi-task optimizer that are tried."""
    field, known = f"grid.options.{name}", smto.options(name)
    default = known[one_of(field, option, known)]
    if isinstance(default, str):
        return name_list(f"{field}.{option}", values)

    if isinstance(default, bool | int | float):
        types, words = KINDS[type(default)]

        def fits(value: Any) -> bool:
            same = isinstance(value, bool) == isinstance(default, bool)
            return same and isinstance(value, types)

        rule = f"name {words}, each once"
        check_items(f"{field}.{option}", values, fits, rule, empty=True)
    return tuple(values)


def text(options: dict[str, Any]) -> str:
    """Spell options in words: ``c=0.4, rescale=1``."""
    return ", ".join(f"{name}={value}" for name, value in options.items())


def spelled_options(variant: str, spelled: str) -> dict[str, Any]:
    """Return the options of a variant that `text` spelled.

    >>> spelled_options("multi-cagrad:a/b", "c=0.4, rescale=1")
    {'c': 0.4, 'rescale': 1}
    """
    parts = spelled.split(", ") if spelled else []
    name = variant.partition(GROUP)[0].partition(OPTION)[0]
    full = OPTION.join([name, *parts])
    _, options = tuning.parse(full, variants.smto_of(variant))
    return {name: options[name] for name in (part.partition("=")[0] for part in parts)}


def _trial(
    study: Config,
    names: Sequence[str],
    optimizer: str,
    batch_size: int,
    options: dict[str, Any],
    changes: dict[str, Any],
    runs: int,
) -> Trial:
    """A trial of the study's base with changes; ``runs`` counts tasks, per seed."""
    config = study.base.copy_and_resolve_references()  # a fifth of deepcopy's time
    method = variants.smto_of(names[0])
    method_options = {
        f"smto.{method}.{option}": value for option, value in options.items()
    }
    config.update_from_flattened_dict(
        {
            "variants": tuple(names),
            "smto.name": "",
            "optimizer.name": optimizer,
            "batch_size": batch_size,
            "single_runs": (),
            **changes,
            **method_options,
        }
    )
    parts = [name_of(names, changes["learning_rates"])]
    parts += [_word(f"{name}{value}") for name, value in options.items()]
    parts.append(optimizer)
    cost = config.steps * batch_size * runs * len(config.seeds)
    return Trial("-".join([*parts, f"b{batch_size}"]), config, options, cost)


def name_of(names: Sequence[str], rates: Sequence[float] = ()) -> str:
    """Name variants, for a folder; of several groups their number and the rates."""
    if len(names) == 1:
        return _word(names[0])
    method = names[0].partition(GROUP)[0]
    return "-".join(
        [method, f"{len(names)}_groups", *(f"lr{rate:g}" for rate in rates)]
    )


def _word(text: str) -> str:
    """Spell a text as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.+_-]+", "_", text)
