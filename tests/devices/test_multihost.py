"""A job of two processes with two devices each does what one with four does."""

import contextlib
import os
import random
import signal
import socket
import time

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from mtl_jax.devices import address, multihost
from mtl_jax.storage import records
from mtl_jax.types import InputError
from tests import listening, small

CHANGES = {
    "steps": 60,
    "seeds": (0, 1, 2),  # of 4 devices one has a copy
    "variants": ("multi",),
    "checkpoint.every": 20,
    "steps_per_dispatch": 4,
    "trajectory.count": 4,
    "factors.names": ("conflict",),
}
PATIENCE = 300
"""Seconds that a process may take before the test gives up."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    with small.compiled_once(folder / "cache"):
        yield folder


@pytest.fixture
def start(monkeypatch):
    """Start processes of 4 devices in all; one that is left over is killed."""
    started = []

    def start_all(path, count, *, differing=None, **changes):
        port = free_port()
        monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(4 // count))
        for number in range(count):
            own = {**CHANGES, **changes, **((differing or {}) if number else {})}
            arguments = small.arguments(path, **own)
            if count > 1:
                arguments += [f"--coordinator=localhost:{port}"]
                arguments += [f"--process_count={count}", f"--process_id={number}"]
            started.append(small.fork(arguments, log(path, number)))
        return started[-count:]

    yield start_all
    for process in started:
        process.kill()


def free_port():
    """Below those that the system hands out: none is taken before it is used."""
    for port in random.sample(range(15_000, 32_000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("localhost", port))
            return port
    raise OSError("no port is free")


def log(path, number):
    return path.parent / f"{path.name}-{number}"


def ends(processes):
    """Exit codes."""
    for process in processes:
        process.join(PATIENCE)
    return [process.exitcode for process in processes]


def test_two_processes_stop_go_on_and_end_as_one(folder, start):
    one, two = folder / "one", folder / "two"
    assert ends(start(one, 1)) == [0]
    processes, begun = start(two, 2), time.monotonic()
    while not list((two / records.FOLDER).glob("*2.parquet")):
        assert time.monotonic() < begun + PATIENCE
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    assert [set(listening.hosts(process.pid)) for process in processes] == [
        {"127.0.0.1"},  # the meeting point, and collectives
        {"127.0.0.1"},  # collectives
    ]
    os.kill(processes[1].pid, signal.SIGTERM)
    assert ends(processes) == [128 + signal.SIGTERM] * 2
    said = [(log(two, number) / "out").read_text() for number in (0, 1)]
    assert "stopped by signal 15 at step" in said[0]
    assert "stopped" not in said[1]  # the first speaks for all
    assert ends(start(two, 2)) == [0, 0]
    from_step = [session["from_step"] for session in small.sessions(two)]
    assert from_step[0] == 0 < from_step[1] < 60
    assert len(small.sessions(two)[0]["devices"]) == 4
    assert_frame_equal(records.read(two), records.read(one), check_exact=True)
    assert small.checkpoint_of(two)[1] == small.checkpoint_of(one)[1]


def test_batch_over_two_processes(folder, start):
    changes = {"steps": 8, "factors.names": ()}
    path = folder / "shared"
    assert ends(start(path, 2, data_parallel=4, **changes)) == [0, 0]
    whole = small.run(folder / "whole", **{**CHANGES, **changes}).records
    assert_frame_equal(records.read(path), whole, rtol=1e-5, atol=1e-5)
    assert np.isfinite(whole["value"]).all()


def test_processes_must_be_of_one_configuration(tmp_path, folder, start):
    del folder
    path = tmp_path / "run"
    assert ends(start(path, 2, differing={"steps": 59})) == [2, 2]
    errors = [(log(path, number) / "err").read_text() for number in (0, 1)]
    assert all("error: the processes of this job have not" in text for text in errors)


def test_mistake_of_the_first_ends_the_others(tmp_path, folder, start):
    del folder
    path = tmp_path / "run"
    path.write_text("a file where a folder should be")
    codes = ends(start(path, 2))
    assert codes[0] == 2
    assert codes[1] not in (0, None)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (("localhost", 2, 0), "coordinator 'localhost' is not HOST:PORT"),
        (("localhost:0", 2, 0), "coordinator 'localhost:0' is not .* 1 to 65535"),
        (("localhost:99999", 2, 0), "'localhost:99999' is not HOST:PORT"),
        (("localhost:1", 0, 0), "process_count is 0; it must be at least 1"),
        (("localhost:1", 2, 2), "process_id is 2 of process_count 2; .* from 0"),
        (("localhost:1", 2, -1), "process_id is -1 of process_count 2"),
        (("localhost:1", 2, 1), "no first process answers at coordinator localhost:1"),
    ],
)
def test_job_that_cannot_be_joined(monkeypatch, job, message):
    monkeypatch.setattr(multihost, "PATIENCE", 0.1)
    with pytest.raises(InputError, match=message):
        multihost.join(*job)


@pytest.mark.parametrize(
    ("host", "inside"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.3.2.1", True)]
    + [("0.0.0.0", False), ("10.0.0.1", False), (socket.gethostname(), False)],
)
def test_loopback(host, inside):
    assert address.is_loopback(host) == inside
