"""Go back to the checkpoints that a training run has kept, and add to its records."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.console.stopwatch import Stopwatch
from mtl_jax.options import name_list
from mtl_jax.storage import checkpoint, commands, provenance, records, workdir
from mtl_jax.storage.records import Row
from mtl_jax.training.compile import blank_states
from mtl_jax.training.config import fields
from mtl_jax.training.resolve import Experiment, resolve
from mtl_jax.training.step import TrainState
from mtl_jax.types import Config, InputError

Look = Callable[[list[TrainState], int], list[Row]]
"""``(states of all variants, step) -> rows`` that join the records of the step."""
Prepare = Callable[[list[TrainState], Path, Stopwatch], Look]
"""``(states of all variants, for their shapes, folder, watch) -> look``: compiles."""


class Work(NamedTuple):
    """Work at the checkpoints of a run."""

    verb: str
    doing: str
    """Its participle: ``measuring``."""
    changeable: tuple[str, ...]
    """Fields of the configuration that may differ from training's, as of `is_among`."""
    check: Callable[[Config], None]
    """Raises for changes that do not suit the configuration of training."""
    admit: Callable[[Experiment], Prepare]
    """Raises where the experiment is unfit, before anything is noted of the work."""


def need_validation(made: Experiment, why: str) -> None:
    """Raise an `InputError` unless the run has evaluated validation data.

    Args:
      made: the run's experiment.
      why: it is needed, a sentence without its full stop.
    """
    evaluated = name_list("evaluate", made.config.evaluate)
    if "validation" not in evaluated:
        raise InputError(
            f"the run evaluates {', '.join(evaluated)}; {why}: train with "
            f"--config.evaluate=probe,validation,test."
        )


@contextlib.contextmanager
def reopened(
    path: str | Path,
    changes: dict[str, Any],
    changeable: tuple[str, ...] = workdir.FREE,
    check: Callable[[Config], None] = lambda _: None,
) -> Iterator[tuple[Path, Experiment]]:
    """Claim the workdir of a training run, as a context of folder and experiment.

    Args:
      path: the workdir.
      changes: fields of its configuration by dotted name.
      changeable: as of `Work`.
      check: as of `Work`.

    Raises:
      InputError: no training run is there, or other data; or as the check does.
    """
    if not os.path.isdir(path):
        raise InputError(f"there is no workdir {path}; name that of a training run.")
    commands.check_run(path)
    with workdir.claim(path) as folder:
        config = workdir.config(folder, fields())
        check(config)
        config.update_from_flattened_dict(changes)
        records.check(folder)
        made = resolve(config)
        workdir.check(folder, config, made.data, changeable, later=fields())
        yield folder, made


def revisit(
    path: str | Path, changes: dict[str, Any], work: Work, say: Callable[[str], None]
) -> dict[str, float]:
    """Look at every trajectory point of which there is a checkpoint.

    Args:
      path: the workdir of a training run.
      changes: fields of its configuration by dotted name.
      work: what is done there.
      say: told, in a sentence, what a person should know.

    Returns:
      Wall time in seconds by what it went into.

    Raises:
      InputError: no training run is there, or other data; no checkpoint of a point; or
        as the work does.
    """
    watch = Stopwatch("records")
    with reopened(path, changes, work.changeable, work.check) as (folder, made):
        config = made.config
        prepare = work.admit(made)
        with checkpoint.open_manager(folder, config.checkpoint.keep_last) as saved:
            points = made.points.tolist()
            steps = [step for step in points if step in saved.all_steps()]
            if not steps:
                raise InputError(
                    f"{folder} holds no checkpoint of a trajectory point to "
                    f"{work.verb}."
                )
            say(f"{work.doing} {len(steps)} of {len(points)} trajectory points")
            if len(steps) < len(points):
                say("to keep all of them, train with --config.checkpoint.keep_points=1")
            provenance.add_session(folder, steps[-1], made.data)
            with watch("compilation"):
                states = [blank_states(made.setting, v) for v in made.variants]
                look = prepare(states, folder, watch)
            for step in steps:
                with watch("checkpoints"):
                    restored = checkpoint.read(saved, step, states, say)
                if restored is not None:
                    rows = look(restored, step)
                    records.merge(folder, step, rows)
                    say(f"step {step}: {len(rows)} values")
        seconds = watch.seconds()
        provenance.note(folder, seconds=seconds)
    return seconds
