"""A run that was stopped or killed, however often, ends as if it had not been."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import jax
import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from mtl_jax.storage import checkpoint, records
from tests import small

CHANGES = {
    "steps": 60,
    "checkpoint.every": 4,
    "steps_per_dispatch": 4,
    "trajectory.count": 8,
    "factors.names": ("conflict", "distance_from_start"),
}
"""15 saves, and records at 10 steps."""
SEED = random.SystemRandom().randrange(10**6)
PATIENCE = 60
"""Seconds that a process may take before the test gives up."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    with small.compiled_once(folder / "cache"):
        yield folder


@pytest.fixture(scope="module")
def uninterrupted(folder):
    """A workdir that no signal has seen."""
    path = folder / "uninterrupted"
    process = small.fork(small.arguments(path, **CHANGES), folder / "log")
    process.join(PATIENCE)
    assert process.exitcode == 0
    return path


@pytest.fixture
def dice():
    print(f"seed of the kill points: {SEED}")
    return random.Random(SEED)


class Forked:
    """The entry point in a forked process."""

    def __init__(self, path):
        self.log = path.parent / f"{path.name}-log"
        self.process = small.fork(small.arguments(path, **CHANGES), self.log)
        self.pid = self.process.pid

    def wait(self):
        self.process.join(PATIENCE)
        return self.process.exitcode

    def ended(self):
        return self.process.exitcode is not None

    def said(self):
        return (self.log / "out").read_text()


class Commanded:
    """The real command."""

    def __init__(self, path):
        command = small.command(small.arguments(path, **CHANGES))
        self.log = path.parent / f"{path.name}-log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=small.ROOT, stdout=log, stderr=log
            )
        self.pid = self.process.pid

    def wait(self):
        return self.process.wait(PATIENCE)

    def ended(self):
        return self.process.poll() is not None

    def said(self):
        return self.log.read_text()


def last_step(path, kind):
    """Newest step of which there are records, or a checkpoint, be it unfinished."""
    names = {"records": records.FOLDER, "saved": checkpoint.FOLDER}
    steps = [-1]
    with contextlib.suppress(FileNotFoundError):
        steps += [
            int(entry.name.split(".")[0]) for entry in (path / names[kind]).iterdir()
        ]
    return max(steps)


def is_saving(path, step):
    """Whether Orbax is about to write a checkpoint of that step or a later one."""
    temporary = (path / checkpoint.FOLDER).glob("*.orbax-checkpoint-tmp*")
    return any(int(entry.name.split(".")[0]) >= step for entry in temporary)


def interrupt(program, path, number, moment, step, delay):
    """Send a signal once the run is past a step, or in the middle of a save.

    Past a step is what has records of it or, as there are more of them, a checkpoint.

    Returns its exit code, or None if it came to its end before the signal.
    """
    begun = time.monotonic()
    while not (
        is_saving(path, step) if moment == "save" else last_step(path, moment) >= step
    ):
        if program.ended():
            assert program.wait() == 0, program.said()
            return None
        assert time.monotonic() < begun + PATIENCE
        time.sleep(0.0005)
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):
        os.kill(program.pid, number)
    return program.wait() or None


def assert_same_end(path, uninterrupted):
    found, expected = records.read(path), records.read(uninterrupted)
    assert_frame_equal(found, expected, check_exact=True)
    (state, crc), (other, other_crc) = map(small.checkpoint_of, (path, uninterrupted))
    assert crc == other_crc
    leaves, others = jax.tree.leaves(state), jax.tree.leaves(other)
    assert len(leaves) == len(others) > 20
    for leaf, other in zip(leaves, others, strict=True):
        assert leaf.dtype == other.dtype
        np.testing.assert_array_equal(leaf, other)
    assert not list((path / records.FOLDER).glob("*.unfinished"))


@pytest.mark.parametrize("start", [Forked, Commanded])
def test_killed_again_and_again(tmp_path, uninterrupted, dice, start):
    """SIGKILL early, at any time, and in the middle of saves, all in one run."""
    path, times = tmp_path / "run", {Forked: 4, Commanded: 1}[start]
    # A later kill asks for a later step, so that every session does some work.
    steps, killed = sorted(dice.sample(range(0, 40), 2 * times)), 0
    moments = ["records", "save"] * times
    dice.shuffle(moments)
    for step, moment in zip(steps, moments, strict=True):
        delay = dice.uniform(0, 0.02) if moment == "save" else dice.uniform(0, 0.2)
        print(f"SIGKILL in {moment} from step {step} on, after {delay * 1e3:.1f} ms")
        code = interrupt(start(path), path, signal.SIGKILL, moment, step, delay)
        if code is None:
            break  # a slow machine: the run was faster than the kill
        assert code == -signal.SIGKILL
        killed += 1
    assert killed >= times
    assert start(path).wait() == 0
    assert_same_end(path, uninterrupted)


@pytest.mark.parametrize(
    ("start", "numbers"),
    [
        (Forked, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)),
        (Commanded, (signal.SIGTERM,)),
    ],
)
def test_stopped_politely(tmp_path, uninterrupted, dice, start, numbers):
    path, stopped_at = tmp_path / "run", 0
    for number in numbers:
        step, delay = stopped_at + 1 + dice.randrange(4), dice.uniform(0, 0.05)
        print(f"{number.name} from step {step} on, after {delay * 1e3:.1f} ms")
        program = start(path)
        assert interrupt(program, path, number, "saved", step, delay) == 128 + number
        assert f"stopped by signal {int(number)} at step" in program.said()
        assert "Traceback" not in program.said()
        saved = max(map(int, (p.name for p in (path / "checkpoints").iterdir())))
        assert stopped_at < saved
        assert small.sessions(path)[-1]["from_step"] == stopped_at  # nothing repeated
        stopped_at = saved
    assert start(path).wait() == 0
    assert small.sessions(path)[-1]["from_step"] == stopped_at
    assert_same_end(path, uninterrupted)


def test_stopped_and_killed_in_this_process(tmp_path, uninterrupted, monkeypatch):
    """An exception at a save, then a signal, then the rest; all in one process."""
    path, save = tmp_path / "run", checkpoint.save

    def fail(manager, step, state):
        if step == 20:
            raise ConnectionAbortedError("the cable was pulled")
        save(manager, step, state)

    def stop(manager, step, state):
        save(manager, step, state)
        if step == 40:  # heard at the next boundary
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(checkpoint, "save", fail)
    with pytest.raises(Exception, match="cable|cannot write"):
        small.run(path, **CHANGES)
    assert last_step(path, "saved") == 16
    monkeypatch.setattr(checkpoint, "save", stop)
    stopped = small.run(path, **CHANGES)
    assert stopped.said == [f"going on from step 16 of 60 in {path}"]
    assert (stopped.outcome.step, stopped.outcome.signal) == (44, signal.SIGINT)
    monkeypatch.undo()
    ended = small.run(path, **CHANGES)
    assert ended.said == [f"going on from step 44 of 60 in {path}"]
    assert (ended.outcome.step, ended.outcome.signal) == (60, None)
    assert_same_end(path, uninterrupted)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [halve, zero])
@pytest.mark.parametrize(
    "pattern", ["state/ocdbt.process_0/d/*", "state/manifest.ocdbt"]
)
def test_damaged_newest_checkpoint_is_passed_over(
    tmp_path, uninterrupted, damage, pattern
):
    path = tmp_path / "run"
    shutil.copytree(uninterrupted, path)
    newest = path / checkpoint.FOLDER / "60"
    damage(max(newest.glob(pattern), key=lambda file: file.stat().st_size))
    found = small.run(path, **CHANGES)
    passed_over, going_on = found.said
    assert passed_over.startswith("checkpoint 60 is damaged and passed over: ")
    assert going_on == f"going on from step 56 of 60 in {path}"
    assert_same_end(path, uninterrupted)
