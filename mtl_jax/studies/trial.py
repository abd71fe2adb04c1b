"""A trial: one experiment of a study, trained in a folder of its own, once."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.console import eta
from mtl_jax.console.eta import Pace
from mtl_jax.storage import checkpoint, disk, manifest, provenance
from mtl_jax.training.loop import run
from mtl_jax.types import Config

FINISHED = "finished.json"
Say = Callable[[str], None]


class Trial(NamedTuple):
    """Runs of one method at one batch size; those of as many tasks are one program."""

    name: str
    """Name of its folder."""
    config: Config
    """Configuration of the experiment, as `training.config.default` makes it."""
    options: dict[str, Any]
    """Options of the multi-task optimizer that were set."""
    cost: int
    """Examples that it trains on, counted once a task."""
    judge: Callable[[Path], bool] | None = None
    """Tells of its folder, after every look, whether it is to end there; None: never.
    A worker gets it, too."""

    @property
    def variant(self) -> str:
        """Name of its first variant."""
        return self.config.variants[0]


Engine = Callable[[Sequence[Trial], Path, Say], int | None]
"""``(trials, folder, say)`` trains those that are not finished; returns the number of
the signal that stopped it, None if all are finished."""


def finish(trial: Trial, folder: Path, say: Say) -> int | None:
    """Train a trial from where it was left, unless it is finished.

    Its checkpoints are deleted at the end: a study goes on from the choice, not from
    the weights.

    Args:
      trial: the trial.
      folder: of all trials; this one's is made in it.
      say: told, in a sentence, what a person should know.

    Returns:
      Number of the signal that stopped it; None if it is finished.
    """
    trial_folder = folder / trial.name
    if seconds(trial, folder) is None:
        if not _is_trained(trial, trial_folder):
            judge = trial.judge and partial(trial.judge, trial_folder)
            outcome = run(trial.config, trial_folder, say, enough=judge)
            if outcome.signal:
                return outcome.signal
        spent = sum(
            sum(session.get("seconds", {}).values())
            for session in provenance.sessions(trial_folder)
        )
        content = disk.sealed({"seconds": round(spent, 3)})
        disk.write_json(trial_folder / FINISHED, content)
    shutil.rmtree(trial_folder / checkpoint.FOLDER, ignore_errors=True)
    return None


def seconds(trial: Trial, folder: Path) -> float | None:
    """Return the wall time that a finished trial took; None if it is not finished.

    Nor is it where that cannot be read: `finish` writes it again.
    """
    try:
        return float(disk.read_json(folder / trial.name / FINISHED)["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_trained(trial: Trial, folder: Path) -> bool:
    """Tell whether only the word that it is finished is missing."""
    known = manifest.read(folder)
    return known is not None and known.checkpoint == trial.config.steps


def local(trials: Sequence[Trial], folder: Path, say: Say) -> int | None:
    """Train trials in this process, one after another, each on all devices."""
    for number, trial in enumerate(trials, start=1):
        if seconds(trial, folder) is None:
            say(f"{folder.name} {number} of {len(trials)}: {trial.name}")
        if signal := finish(trial, folder, say):
            return signal
    return None


def remaining(
    trials: Sequence[Trial], folder: Path, like: Pace | None = None
) -> tuple[float, Pace] | None:
    """Estimate the seconds that trials still take, and the pace of finished ones.

    Args:
      trials: finished or not.
      folder: of all of them.
      like: pace to go by where none is finished.

    Returns:
      None where there is nothing to go by.
    """
    pairs = [(trial.cost, seconds(trial, folder)) for trial in trials]
    done = [(cost, spent) for cost, spent in pairs if spent is not None]
    pace = eta.pace(*zip(*done, strict=True)) if done else like
    if pace is None:
        return None
    left = [cost for cost, spent in pairs if spent is None]
    return eta.seconds(pace, left), pace
