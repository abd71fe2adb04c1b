import errno
import logging
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from mtl_jax.data import cache
from mtl_jax.types import InputError

ARRAYS = {"x": np.arange(5000, dtype=np.uint8), "y": np.arange(7, dtype=np.int32)}
SOURCES = {"file": "digest"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path))


def build():
    return {name: array.copy() for name, array in ARRAYS.items()}


def never():
    raise AssertionError("built again")


def entries():
    return sorted(cache.folder().iterdir())


def assert_equal(arrays):
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_builds_once_and_maps_into_memory():
    assert_equal(cache.arrays("name", SOURCES, build))
    again = cache.arrays("name", SOURCES, never)
    assert_equal(again)
    assert all(isinstance(array, np.memmap) for array in again.values())
    assert len(entries()) == 1


def test_other_sources_are_other_entries():
    cache.arrays("name", SOURCES, build)
    for sources in ({"file": "other"}, {"other": "digest"}):
        with pytest.raises(AssertionError, match="built again"):
            cache.arrays("name", sources, never)


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def zero(file):
    file.write_bytes(bytes(file.stat().st_size))


def flip(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)


@pytest.mark.parametrize("file", ["x.npy", cache.DIGESTS])
@pytest.mark.parametrize("damage", [cut, zero, flip, lambda file: file.unlink()])
def test_damaged_entry_is_built_again(file, damage, caplog):
    cache.arrays("name", SOURCES, build)
    damage(entries()[0] / file)
    assert_equal(cache.arrays("name", SOURCES, build))
    assert "was damaged" in caplog.text
    assert_equal(cache.arrays("name", SOURCES, never))
    assert len(entries()) == 1


def test_left_over_of_a_killed_process_is_deleted():
    """Keep what a living one writes."""
    code = """
import os, numpy
from mtl_jax.data import cache
numpy.save = lambda *_: os.kill(os.getpid(), 9)
cache.arrays("other", {}, lambda: {"x": numpy.zeros(3)})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (dead,) = entries()
    assert dead.name.startswith(cache.WRITING)
    alive = Path(tempfile.mkdtemp(prefix=cache.WRITING, dir=cache.folder()))
    held = cache._lock(alive)
    assert held is not None
    cache.arrays("name", SOURCES, build)
    assert alive in entries() and dead not in entries()
    os.close(held)
    cache.arrays("third", SOURCES, build)
    assert len(entries()) == 2


def test_process_that_was_faster_wins(caplog):
    def build_slowly():
        cache.arrays("name", SOURCES, build)
        faster.append((entries()[0] / "x.npy").stat().st_ino)
        return build()

    faster = []
    assert_equal(cache.arrays("name", SOURCES, build_slowly))
    assert (entries()[0] / "x.npy").stat().st_ino == faster[0]
    assert len(entries()) == 1 and not caplog.records


def test_many_at_once():
    def slow():
        together.wait(10)  # nobody writes before everybody has found nothing
        return build()

    def use(place):
        results[place] = cache.arrays("name", SOURCES, slow)

    together, results = threading.Barrier(4), {}
    threads = [threading.Thread(target=use, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 4
    for arrays in results.values():
        assert_equal(arrays)
    assert len(entries()) == 1


def test_unwritable_folder_is_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "file"))
    assert_equal(cache.arrays("name", SOURCES, build))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "going on without the cache" in caplog.text


def test_full_disk_is_a_warning_and_leaves_nothing(monkeypatch, caplog):
    def full(file, _):
        with open(file, "wb") as opened:
            opened.write(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert_equal(cache.arrays("name", SOURCES, build))
    assert "No space left" in caplog.text
    assert entries() == []


def test_errors_of_the_source_are_not_hidden():
    def broken():
        raise InputError("truncated")

    with pytest.raises(InputError, match="truncated"):
        cache.arrays("name", SOURCES, broken)
    assert not cache.folder().exists()


def test_folder(monkeypatch, tmp_path):
    assert cache.folder() == tmp_path / "mtl_jax" / "data"
    monkeypatch.delenv("MTL_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "mtl_jax" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder() == tmp_path / "home" / ".cache" / "mtl_jax" / "data"
