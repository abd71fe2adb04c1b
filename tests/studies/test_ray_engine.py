"""Trials on a local Ray cluster: the same results, also when a worker is killed."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from mtl_jax.storage import records
from mtl_jax.studies import grid, ray_engine
from mtl_jax.types import InputError
from tests import listening, small, tiny_study

CHANGES = {"base__steps": 200, "base__variants": "('multi',)"}
"""Trials that take long enough to be killed."""
PATIENCE = 500


def command(path, *more):
    arguments = tiny_study.arguments(path, **CHANGES)
    return [sys.executable, "-m", "experiments.sweep", *arguments, *more]


def workers():
    """List process ids of the workers that train; Ray names them after what they do."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name = (entry / "cmdline").read_bytes().split(b"\0")[0]
        except OSError:
            continue
        if name.startswith(b"ray::_finish"):
            yield int(entry.name)


def training(path):
    """List trials under way."""
    return [
        folder
        for folder in path.glob("sweep/*")
        if list(folder.glob("checkpoints/[0-9]*"))
        and not (folder / "finished.json").exists()
    ]


@pytest.fixture
def environment(tmp_path):
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray's 15 waits for all other tests
    }


@pytest.fixture
def on_ray(tmp_path, environment):
    """Start the study on a cluster; whatever is left of it is killed."""
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command(tmp_path / "ray", "--engine=ray"),
            cwd=small.ROOT, env=environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        yield process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_killed_worker_changes_nothing(tmp_path, environment, on_ray):
    log, begun = tmp_path / "log", time.monotonic()
    while not training(tmp_path / "ray"):
        assert on_ray.poll() is None, log.read_text()
        assert time.monotonic() < begun + PATIENCE
        time.sleep(0.005)
    victims = list(workers())
    assert victims
    for worker in victims:
        os.kill(worker, signal.SIGKILL)
    assert on_ray.wait(PATIENCE) == 0, log.read_text()
    text = log.read_text()
    assert "sweep 2 of 2" in text and "Traceback" not in text
    sessions = [len(small.sessions(f)) for f in (tmp_path / "ray").glob("sweep/*")]
    assert max(sessions) == 2  # one was taken up again
    subprocess.run(
        command(tmp_path / "local"), cwd=small.ROOT, env=environment, check=True,
        capture_output=True,
    )  # fmt: skip
    for part in ("sweep/*", "final/*", "selected"):
        expected = sorted((tmp_path / "local").glob(part))
        assert expected
        for folder in expected:
            other = tmp_path / "ray" / folder.relative_to(tmp_path / "local")
            trained = records.read(other)
            assert_frame_equal(trained, records.read(folder), check_exact=True)


def test_without_ray(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'mtl_jax\[ray\]'"):
        ray_engine.engine()


def test_worker_that_always_dies_and_where_the_cluster_listens(tmp_path, monkeypatch):
    good, bad = grid.sweep(tiny_study.config(), tiny_study.TASKS)[:2]
    heard, said = [], []

    def finish(trial, folder):
        if trial.name == good.name:
            return
        with (folder / "tries").open("a") as file:
            file.write("x")
        os._exit(1)

    def say(text):
        said.append(text)
        for process in listening.family(os.getpid()):
            with contextlib.suppress(OSError):
                heard.extend(listening.hosts(process))

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_engine, "_finish", finish)
    monkeypatch.setattr(ray_engine, "TRIES", 2)
    with pytest.raises(InputError, match=f"{bad.name} is given up after 2 tries"):
        ray_engine.engine()([good, bad], tmp_path, say)
    assert (tmp_path / "tries").read_text() == "xx"
    assert good.name in said[0]
    assert len(heard) > 3 and set(heard) == {"127.0.0.1"}
    assert (
        not ray_engine.ALONE.keys() & os.environ.keys()
    )  # nor other clusters of users


@pytest.mark.parametrize(
    ("cluster_address", "message"),
    [
        ("nonsense", "address 'nonsense' is not HOST:PORT"),
        ("localhost:70000", "'localhost:70000' is not HOST:PORT with a port of 1 to"),
        ("localhost:1", "answers at localhost:1: no connection .*ray start --head"),
    ],
)
def test_no_cluster(tmp_path, monkeypatch, cluster_address, message):
    monkeypatch.setattr(ray_engine, "ANSWER", 0.1)
    trials = grid.sweep(tiny_study.config(), tiny_study.TASKS)
    with pytest.raises(InputError, match=message):
        ray_engine.engine(cluster_address)(trials, tmp_path, lambda _: None)
