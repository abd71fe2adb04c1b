"""Measure factors afterwards, over the checkpoints that a training run has kept."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.console.stopwatch import Stopwatch
from mtl_jax.metrics import factors
from mtl_jax.storage import workdir
from mtl_jax.storage.records import Row
from mtl_jax.training import record_rows
from mtl_jax.training.factor_programs import CompiledFactor, compile_factors
from mtl_jax.training.resolve import Experiment
from mtl_jax.training.revisit import Look, Prepare, Work, revisit
from mtl_jax.training.step import TrainState, told
from mtl_jax.types import Config, InputError

CHANGEABLE = ("factors.", *workdir.FREE)


def remeasure(
    path: str | Path, changes: dict[str, Any], say: Callable[[str], None] = print
) -> dict[str, float]:
    """Measure the factors of a workdir's configuration where checkpoints are kept.

    What is found joins the records of that step, and replaces what they hold of it. The
    programs and the probe are those of training, hence the numbers, too.

    Args:
      path: the workdir of a training run.
      changes: fields of its configuration by dotted name: ``factors.names``, options of
        factors, ``data.dir``.
      say: told, in a sentence, what a person should know.

    Returns:
      Wall time in seconds by what it went into.

    Raises:
      InputError: no training run is there, or other data; a change that is not one of
        the above, or of a factor that training measured; nothing to measure.
    """
    work = Work(
        verb="measure",
        doing="measuring",
        changeable=CHANGEABLE,
        check=partial(_check, changes),
        admit=_admit,
    )
    return revisit(path, changes, work, say)


def _check(changes: dict[str, Any], config: Config) -> None:
    """Refuse what would make the records speak of two things by one name."""
    for field, value in changes.items():
        if not workdir.is_among(field, CHANGEABLE):
            raise InputError(
                f"{field} cannot be changed after training; only factors.* and "
                f"{', '.join(workdir.FREE)} can."
            )
        measured = [f"factors.{name}." for name in factors.names(config.factors)]
        old = workdir.flat(config).get(field, value)
        if field.startswith(tuple(measured)) and old != value:
            raise InputError(
                f"{field} was {old} in training, now {value}; choose the old value, or "
                f"train again in another --workdir."
            )


def _admit(made: Experiment) -> Prepare:
    """Return what compiles the factors; raises where there are none."""
    if not factors.names(made.config.factors):
        raise InputError("factors.names is empty; name at least one factor.")

    def prepare(states: list[TrainState], folder: Path, watch: Stopwatch) -> Look:
        del folder
        return partial(_rows, made, compile_factors(made, states), watch)

    return prepare


def _rows(
    made: Experiment,
    compiled: list[list[CompiledFactor]],
    watch: Stopwatch,
    states: list[TrainState],
    step: int,
) -> list[Row]:
    """Values of the factors of all runs at a step."""
    rows = []
    for number, variant in made.shown:
        row = partial(record_rows.row, made.setting, variant, made.config.batch_size)
        state = told(states[number], variant.shares)
        sound = np.flatnonzero(state.diverged < 0).tolist()
        for factor in compiled[number]:
            with watch(factor.name):
                values = factor.measure(state)
            rows += factor.rows(row, step, sound, values)
    return rows
