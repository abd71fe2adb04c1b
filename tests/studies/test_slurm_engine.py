"""Trials as jobs of submitit's local executor: the same results, whatever is killed."""

import importlib.util
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from mtl_jax.storage import lock, records
from mtl_jax.studies import grid, slurm_engine, trial
from mtl_jax.types import InputError
from tests import small, tiny_study

submitit = pytest.importorskip("submitit")
LIMIT = {"timeout_min": 10}
PATIENCE = 300


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(slurm_engine, "POLL", 0.05)
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 0)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("PYTHONPATH", str(small.ROOT))
    monkeypatch.chdir(small.ROOT)


def trials(**changes):
    planned = grid.sweep(tiny_study.config(**changes), tiny_study.TASKS)
    return [each for each in planned if each.variant == "multi"]


def tasks_of(folder):
    """Processes at a trial, by the command line that submitit gives them."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"submitit.core._submit" in words and str(folder).encode() in words[-2]:
            yield int(entry.name)


def interrupt(folder, planned, number):
    """Send a signal to a trial's task as soon as it has made a checkpoint."""
    begun, before = time.monotonic(), slurm_engine._reached(planned, folder)
    while slurm_engine._reached(planned, folder) == before:
        assert time.monotonic() < begun + PATIENCE
        time.sleep(0.005)
    for process in tasks_of(folder / planned.name):
        os.kill(process, number)


def test_what_is_killed_or_out_of_time_goes_on(tmp_path, monkeypatch):
    (planned,) = trials(base__steps=400, grid__batch_sizes=(8,))
    said, has_ended = [], slurm_engine._has_ended
    numbers, seen = [signal.SIGUSR2, signal.SIGKILL], []

    def look(attempt, folder):
        if numbers and attempt.job.job_id not in seen:
            seen.append(attempt.job.job_id)
            interrupt(folder, planned, numbers.pop(0))
        return has_ended(attempt, folder)

    monkeypatch.setattr(slurm_engine, "_has_ended", look)
    engine = slurm_engine.engine(LIMIT, "local")
    assert engine([planned], tmp_path / "jobs", said.append) is None
    assert said == [
        f"{planned.name} was stopped by signal 12 and is submitted again",
        f"{planned.name} was killed and is submitted again",
        f"jobs 1 of 1: {planned.name} is finished",
    ]
    assert len(small.sessions(tmp_path / "jobs" / planned.name)) == 3
    assert trial.local([planned], tmp_path / "here", said.append) is None
    trained = records.read(tmp_path / "jobs" / planned.name)
    assert_frame_equal(trained, records.read(tmp_path / "here" / planned.name))
    count = len(said)
    assert engine([planned], tmp_path / "jobs", said.append) is None
    assert len(said) == count  # a second time there is nothing to do


class Dying(slurm_engine.Finish):
    def __call__(self, planned, folder):
        del planned
        with (folder / "tries").open("a") as file:
            file.write("x")
        os._exit(1)


def test_a_job_that_always_dies_and_a_mistake_in_the_input(tmp_path, monkeypatch):
    good, bad = trials()
    bad.config.optimizer.name = "nonsense"
    engine = slurm_engine.engine(LIMIT, "local")
    with pytest.raises(InputError, match="'nonsense' is not one of"):
        engine([bad], tmp_path / "a", print)
    monkeypatch.setattr(slurm_engine, "TRIES", 2)
    monkeypatch.setattr(slurm_engine, "Finish", Dying)
    with pytest.raises(InputError, match=f"{good.name} is given up after 2 jobs"):
        engine([good], tmp_path / "b", print)
    assert (tmp_path / "b" / "tries").read_text() == "xx"


class Job:
    """A job that another process has left in SLURM's queue."""

    def __init__(self, path):
        self.path = path

    def done(self):
        with self.path.open("a") as file:
            file.write("x")
        return self.path.read_text() == "xxx"

    def result(self):
        return None


def test_jobs_that_a_killed_process_has_left_are_waited_for(tmp_path, monkeypatch):
    planned, _ = trials()
    jobs = tmp_path / "s" / planned.name / slurm_engine.JOBS
    jobs.mkdir(parents=True)
    job = pickle.dumps(Job(tmp_path / "looks"))
    (jobs / slurm_engine.JOB).write_bytes(job)
    monkeypatch.setattr(slurm_engine, "_submit", lambda *_: pytest.fail("submitted"))
    said: list[str] = []
    engine = slurm_engine.engine(LIMIT, "local")
    assert engine([planned], tmp_path / "s", said.append) is None
    assert said == [f"s 1 of 1: {planned.name} is finished"]
    attempt = slurm_engine.Attempt(planned, Job(tmp_path / "looks"), -1)
    (tmp_path / "looks").write_text("xx")
    with lock.hold(tmp_path / "s" / planned.name):  # somebody else is at it
        assert not slurm_engine._has_ended(attempt, tmp_path / "s")


def test_a_signal_cancels_all_jobs(tmp_path, monkeypatch):
    cancelled, sent = [], []

    class Endless:
        def done(self):
            if not sent:  # a second one would act
                sent.append(signal.raise_signal(signal.SIGTERM))
            return bool(cancelled)

        def cancel(self, check):
            cancelled.append(check)

    monkeypatch.setattr(slurm_engine, "_submit", lambda *_: Endless())
    engine = slurm_engine.engine(LIMIT, "local")
    assert engine(trials(), tmp_path / "s", print) == signal.SIGTERM
    assert cancelled == [False, False]


@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        ({"slurm_partitoin": "gpu"}, "submitit does not take .*'slurm_partitoin'"),
        (
            {"nonsense": "gpu"},
            "submitit does not take .*'nonsense' need to be prefixed",
        ),
        ({"timeout_min": "an hour"}, '"timeout_min" expected type'),
    ],
)
def test_parameters_that_are_none(chosen, match):
    with pytest.raises(InputError, match=match):
        slurm_engine.engine(chosen, "local")


def test_without_slurm_or_submitit(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="no sbatch on this machine"):
        slurm_engine.engine()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'mtl_jax\[slurm\]'"):
        slurm_engine.engine()
