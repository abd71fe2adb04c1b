"""Measure factors afterwards, over the checkpoints that a training run has kept."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.console.stopwatch import Stopwatch
from mtl_jax.metrics import factors
from mtl_jax.storage import checkpoint, commands, provenance, records, workdir
from mtl_jax.storage.records import Row
from mtl_jax.training import record_rows
from mtl_jax.training.compile import blank_states
from mtl_jax.training.config import fields
from mtl_jax.training.factor_programs import CompiledFactor, compile_factors
from mtl_jax.training.resolve import Experiment, resolve
from mtl_jax.types import InputError

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
    if not os.path.isdir(path):
        raise InputError(f"there is no workdir {path}; name that of a training run.")
    commands.check_run(path)
    watch = Stopwatch("records")
    with workdir.claim(path) as folder:
        config = workdir.config(folder, fields())
        _check(config, changes)
        config.update_from_flattened_dict(changes)
        records.check(folder)
        made = resolve(config)
        workdir.check(folder, config, made.data, CHANGEABLE, later=fields())
        if not factors.names(config.factors):
            raise InputError("factors.names is empty; name at least one factor.")
        with checkpoint.open_manager(folder, config.checkpoint.keep_last) as saved:
            points = made.points.tolist()
            steps = [step for step in points if step in saved.all_steps()]
            if not steps:
                raise InputError(
                    f"{folder} holds no checkpoint of a trajectory point to measure."
                )
            say(f"measuring {len(steps)} of {len(points)} trajectory points")
            if len(steps) < len(points):
                say("to keep all of them, train with --config.checkpoint.keep_points=1")
            provenance.add_session(folder, steps[-1], made.data)
            with watch("compilation"):
                states = [
                    blank_states(made.setting, variant) for variant in made.variants
                ]
                compiled = compile_factors(made, states)
            for step in steps:
                with watch("checkpoints"):
                    restored = checkpoint.read(saved, step, states, say)
                if restored is not None:
                    rows = _rows(made, compiled, restored, step, watch)
                    records.merge(folder, step, rows)
                    say(f"step {step}: {len(rows)} values")
        seconds = watch.seconds()
        provenance.note(folder, seconds=seconds)
    return seconds


def _check(config: Any, changes: dict[str, Any]) -> None:
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


def _rows(
    made: Experiment,
    compiled: list[list[CompiledFactor]],
    states: list,
    step: int,
    watch: Stopwatch,
) -> list[Row]:
    """Values of the factors of all runs at a step."""
    rows = []
    for variant, chosen, state in zip(made.variants, compiled, states, strict=True):
        row = partial(record_rows.row, made.setting, variant, made.config.batch_size)
        sound = np.flatnonzero(state.diverged < 0).tolist()
        for factor in chosen:
            with watch(factor.name):
                values = factor.measure(state)
            rows += factor.rows(row, step, sound, values)
    return rows
