"""Holding a folder where the file system has no `flock`; else see test_workdir."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from mtl_jax.storage import lock
from mtl_jax.types import InputError


def without_locks(monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    without_locks(monkeypatch, errno.ENOLCK)
    return tmp_path


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_one_process_holds_it(folder, monkeypatch, number):
    without_locks(monkeypatch, number)
    with lock.hold(folder):
        with pytest.raises(InputError, match="in use.*holder.*wait.*delete that file"):
            lock.hold(folder).__enter__()
        assert (folder / lock.HOLDER).exists()
    with lock.hold(folder):
        pass
    assert not (folder / lock.HOLDER).exists()


def test_the_dead_hold_nothing(folder):
    code = f"""
import errno, fcntl, os, pathlib
from mtl_jax.storage import lock
def fail(*_): raise OSError(errno.ENOLCK, "no locks")
fcntl.flock = fail
with lock.hold(pathlib.Path({str(folder)!r})):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert (folder / lock.HOLDER).exists()
    with lock.hold(folder):
        pass


@pytest.mark.parametrize("content", ["elsewhere 4194305", "", "elsewhere"])
def test_who_cannot_be_seen_may_live(folder, content):
    (folder / lock.HOLDER).write_text(content)
    with pytest.raises(InputError, match="in use"):
        lock.hold(folder).__enter__()
    assert (folder / lock.HOLDER).read_text() == content


def test_another_error_is_a_message(tmp_path, monkeypatch):
    without_locks(monkeypatch, errno.EIO)
    with pytest.raises(InputError, match="Input/output error; choose another"):
        lock.hold(tmp_path).__enter__()
