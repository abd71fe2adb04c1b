"""Trials as jobs of SLURM, submitted by submitit.

A trial is a job. If that is killed, or stopped because its time is up, the trial is
submitted again and goes on from its last checkpoint: the folder must be on a file
system that all machines see, by the same path. Jobs that run when this process is
killed go on; the same command waits for them.
"""

import contextlib
import importlib.util
import pickle
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mtl_jax.console.signals import StopSignal
from mtl_jax.storage import disk, lock, manifest
from mtl_jax.studies import trial
from mtl_jax.studies.trial import Engine, Say, Trial
from mtl_jax.types import InputError

CLUSTER = "slurm"
JOBS = "jobs"
"""Folder of a trial's jobs: what was submitted, and their logs."""
JOB = "job.pickle"
POLL = 1.0
"""Seconds between looks at the jobs; submitit asks SLURM less often."""
TRIES = 4
"""Jobs of a trial that may end, one after another, without bringing it further."""
WAIT = 60.0
"""Seconds that jobs have to save what they have, when they are cancelled."""


class Attempt(NamedTuple):
    """A job at a trial."""

    trial: Trial
    job: Any
    reached: int
    """Step of the last checkpoint before it."""
    number: int = 1
    """Attempt that this is since the trial was brought further."""


def engine(
    parameters: Mapping[str, Any] | None = None, cluster: str = CLUSTER
) -> Engine:
    """Make an engine of a cluster.

    Args:
      parameters: of ``submitit.AutoExecutor.update_parameters``, such as
        ``timeout_min`` and ``slurm_partition``.
      cluster: as submitit names it; ``local`` is processes of this machine.

    Raises:
      InputError: submitit or SLURM is not there, or a parameter is unknown.
    """
    if importlib.util.find_spec("submitit") is None:
        raise InputError("submitit is not installed; pip install 'mtl_jax[slurm]'.")
    if cluster == CLUSTER and shutil.which("sbatch") is None:
        raise InputError(
            "there is no sbatch on this machine; give the command where SLURM takes "
            "jobs, or choose another --engine."
        )
    chosen = dict(parameters or {})
    try:
        _executor(Path(tempfile.gettempdir()), chosen, cluster)
    except (NameError, AssertionError, TypeError, RuntimeError) as error:
        first, *_ = str(error).splitlines()
        raise InputError(f"submitit does not take {chosen}: {first}") from error
    return partial(_run, chosen, cluster)


def _executor(folder: Path, parameters: dict[str, Any], cluster: str) -> Any:
    import submitit

    executor = submitit.AutoExecutor(folder, cluster=cluster)
    executor.update_parameters(**{"name": "mtl_jax", **parameters})
    return executor


def _run(
    parameters: dict[str, Any],
    cluster: str,
    trials: Sequence[Trial],
    folder: Path,
    say: Say,
) -> int | None:
    """An `Engine` on a cluster."""
    submit = partial(_submit, parameters, cluster, folder.absolute())
    todo = [planned for planned in trials if trial.seconds(planned, folder) is None]
    done, left = len(trials) - len(todo), [_begin(p, folder, submit) for p in todo]
    try:
        with StopSignal() as stop:
            while left and not stop.number:
                ended = [a for a in left if _has_ended(a, folder)]
                left = [a for a in left if a not in ended]
                for attempt in ended:
                    name = attempt.trial.name
                    if trouble := _trouble(attempt):
                        left.append(_again(attempt, trouble, folder, submit))
                        say(f"{name} {trouble} and is submitted again")
                    else:
                        done += 1
                        say(
                            f"{folder.name} {done} of {len(trials)}: {name} is finished"
                        )
                if not ended:
                    time.sleep(POLL)
            return stop.number
    finally:
        _cancel(left)


def _begin(planned: Trial, folder: Path, submit: Any) -> Attempt:
    """Take up the job that a killed process has left, or submit the first one."""
    reached = _reached(planned, folder)
    with contextlib.suppress(OSError, pickle.UnpicklingError, EOFError):
        job = pickle.loads((folder / planned.name / JOBS / JOB).read_bytes())
        attempt = Attempt(planned, job, reached)
        if not _has_ended(attempt, folder):
            return attempt
    return Attempt(planned, submit(planned), reached)


def _submit(
    parameters: dict[str, Any], cluster: str, folder: Path, planned: Trial
) -> Any:
    """Submit a trial, and leave word of its job."""
    jobs = folder / planned.name / JOBS
    jobs.mkdir(parents=True, exist_ok=True)
    finish = Finish(jax.config.values["jax_compilation_cache_dir"])
    job = _executor(jobs, parameters, cluster).submit(finish, planned, folder)
    with disk.whole(jobs / JOB) as file:
        pickle.dump(job, file)
    return job


class Finish(NamedTuple):
    """Work of a job."""

    cache: str | None
    """Folder of compiled programs."""

    def __call__(self, planned: Trial, folder: Path) -> int | str | None:
        """Finish a trial; a mistake in the input is returned as its message."""
        jax.config.update("jax_compilation_cache_dir", self.cache)
        try:
            return trial.finish(planned, folder, lambda _: None)
        except InputError as error:
            return str(error)

    def checkpoint(self, planned: Trial, folder: Path) -> Any:
        """Return the work that is left when time is up; training saves by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, planned, folder)


def _has_ended(attempt: Attempt, folder: Path) -> bool:
    """Tell whether a job has ended, and nobody else is at its trial."""
    return attempt.job.done() and not lock.is_held(folder / attempt.trial.name)


def _trouble(attempt: Attempt) -> str:
    """Say why a job has left its trial unfinished; empty where it is finished.

    Raises:
      InputError: a mistake in the input, which was found by the job.
      submitit.core.utils.FailedJobError: an error, which would happen again.
    """
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        result = attempt.job.result()
    except FailedJobError:
        raise
    except UncompletedJobError:
        return "was killed"
    if isinstance(result, str):
        raise InputError(result)
    return f"was stopped by signal {result}" if result else ""


def _again(attempt: Attempt, trouble: str, folder: Path, submit: Any) -> Attempt:
    """Submit a trial again.

    Raises:
      InputError: too many jobs have not brought it further.
    """
    planned, reached = attempt.trial, _reached(attempt.trial, folder)
    number = attempt.number + 1 if reached == attempt.reached else 1
    if number > TRIES:
        raise InputError(
            f"trial {planned.name} is given up after {TRIES} jobs that brought it no "
            f"further: the last one {trouble}. Look at its time limit, its memory and "
            f"its logs in {folder / planned.name / JOBS}; the same command goes on "
            f"from the last checkpoint."
        )
    return Attempt(planned, submit(planned), reached, number)


def _reached(planned: Trial, folder: Path) -> int:
    """Return the step of a trial's last checkpoint; -1 where it has none."""
    known = manifest.read(folder / planned.name)
    return known.checkpoint if known else -1


def _cancel(attempts: Sequence[Attempt]) -> None:
    """Cancel jobs, and wait until they have saved what they have."""
    for attempt in attempts:
        attempt.job.cancel(check=False)
    end = time.monotonic() + WAIT
    while time.monotonic() < end and not all(a.job.done() for a in attempts):
        time.sleep(POLL)
