import errno
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mtl_jax.data import cache, prepare
from mtl_jax.types import InputError

COUNT = 70
PARTS = {"x": ((4, 3), np.uint8), "y": ((2,), np.float32)}
SOURCES = {"list.txt": "digest", "size": "4x3"}


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(prepare, "BLOCK", 16)


def example(i):
    rng = np.random.default_rng(i)
    x = rng.integers(256, size=(4, 3), dtype=np.uint8)
    return {"x": x, "y": rng.normal(size=2).astype(np.float32)}


def arrays(decode=example, sources=SOURCES, parts=PARTS, count=COUNT, **options):
    return prepare.arrays("name", sources, parts, count, decode, **options)


def never(i):
    raise AssertionError(f"decoded {i} again")


class Counting:
    """Decodes, and knows what it has decoded."""

    def __init__(self, fail=None):
        self.seen, self.fail = [], fail

    def __call__(self, i):
        if i == self.fail:
            raise InputError(f"image {i} is truncated")
        self.seen.append(i)
        return example(i)


def entry():
    (folder,) = cache.folder().iterdir()
    return folder


def assert_equal(mapped):
    assert list(mapped) == list(PARTS)
    for part, (shape, dtype) in PARTS.items():
        assert mapped[part].dtype == dtype and mapped[part].shape == (COUNT, *shape)
        plain = np.stack([example(i)[part] for i in range(COUNT)])
        np.testing.assert_array_equal(mapped[part], plain)


@pytest.mark.parametrize("workers", [None, 1, 5])
def test_decodes_once_and_maps_into_memory(workers):
    assert_equal(arrays(workers=workers))
    again = arrays(never)
    assert_equal(again)
    for part, array in again.items():
        assert isinstance(array, np.memmap) and not array.flags.writeable
        np.testing.assert_array_equal(np.load(entry() / f"{part}.npy"), array)


def test_decodes_in_threads():
    def decode(i):
        together.wait(20)  # two examples at a time, or never
        return example(i)

    together = threading.Barrier(2)
    assert_equal(arrays(decode, workers=2))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 48])
def test_any_count(count):
    mapped = arrays(count=count)
    for part in PARTS:
        expected = np.stack([example(i)[part] for i in range(count)])
        np.testing.assert_array_equal(mapped[part], expected)
    arrays(never, count=count)


def test_scalars():
    mapped = arrays(lambda i: {"n": np.int32(i)}, parts={"n": ((), np.int32)})
    np.testing.assert_array_equal(mapped["n"], np.arange(COUNT))


@pytest.mark.parametrize(
    "other",
    [
        {"sources": {**SOURCES, "size": "8x6"}},
        {"count": COUNT - 1},
        {"parts": {**PARTS, "y": ((2,), np.float64)}},
        {"parts": {**PARTS, "x": ((3, 4), np.uint8)}},
    ],
)
def test_whatever_else_is_asked_for_is_another_entry(other):
    arrays()
    with pytest.raises(AssertionError, match="decoded 0 again"):
        arrays(never, **other)
    assert_equal(arrays(never))


def test_an_error_stops_and_keeps_what_was_finished():
    with pytest.raises(InputError, match="image 40 is truncated"):
        arrays(Counting(fail=40))
    assert list(json.loads((entry() / prepare.RECORD).read_text())) == ["0", "1"]
    repaired = Counting()
    assert_equal(arrays(repaired))
    assert sorted(repaired.seen) == list(range(32, COUNT))


def test_a_file_that_cannot_be_read_is_no_trouble_with_the_cache():
    def decode(i):
        return {"x": Path(f"/nowhere/{i}.png").read_bytes()}

    with pytest.raises(InputError, match="example 0 .*No such file.*/nowhere/0.png"):
        arrays(decode, workers=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"x": np.zeros((1, 3), np.uint8)},  # would be broadcast
        {"y": np.zeros(2)},
        {"z": np.zeros(2)},
    ],
)
def test_decode_must_return_the_stated_form(wrong):
    with pytest.raises(TypeError, match="expected"):
        arrays(lambda i: {**example(i), **wrong})


PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_prepare as t
t.prepare.BLOCK = 16

def slowly(i):
    with open({log!r}, "a") as file:
        file.write(f"{{i}}\\n")
    time.sleep(0.05)
    while i > 40 and {held} and not Path({go!r}).exists():
        time.sleep(0.01)
    return t.example(i)

t.arrays(slowly, workers=2)
"""


@pytest.fixture
def process(tmp_path):
    """Start a process that prepares slowly, and says what it has decoded."""
    paths = {"log": str(tmp_path / "i"), "go": str(tmp_path / "go")}
    started = []

    def start(held=False):
        """Start one; if held, it does not end before there is the file ``go``."""
        tests = str(Path(__file__).parent)
        command = [
            sys.executable,
            "-c",
            PROGRAM.format(tests=tests, held=held, **paths),
        ]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for running in started:
        running.kill()
        running.wait()
        running.stderr.close()


def decoded(tmp_path):
    log = tmp_path / "i"
    return [int(i) for i in log.read_text().split()] if log.exists() else []


def wait_for(tmp_path, i):
    for _ in range(2000):
        if i in decoded(tmp_path):
            return
        time.sleep(0.01)
    raise AssertionError(f"{i} was never decoded")


@pytest.mark.parametrize("last", [0, 20, 40])
def test_goes_on_after_a_kill(tmp_path, process, last):
    killed = process()
    wait_for(tmp_path, last)
    killed.kill()
    assert killed.wait() == -9
    (folder,) = (tmp_path / "mtl_jax" / "data").iterdir()
    record = folder / prepare.RECORD
    finished = json.loads(record.read_text()) if record.exists() else {}
    assert len(finished) >= last // 16
    rest = Counting()
    assert_equal(arrays(rest))
    assert sorted(rest.seen) == list(range(16 * len(finished), COUNT))


def test_two_processes_at_once_decode_once(tmp_path, process):
    first = process(held=True)
    wait_for(tmp_path, 0)
    second = process()
    said = second.stderr.readline()
    (tmp_path / "go").touch()
    errors = [running.communicate()[1] for running in (first, second)]
    assert first.returncode == second.returncode == 0
    assert sorted(decoded(tmp_path)) == list(range(COUNT))
    assert "decoded 70 examples" in errors[0]
    assert "waiting for the process that prepares" in said
    assert_equal(arrays(never))


def test_another_takes_over_from_a_killed_one(tmp_path, process):
    first = process(held=True)
    wait_for(tmp_path, 0)
    second = process()
    assert "waiting" in second.stderr.readline()
    wait_for(tmp_path, 20)
    first.kill()
    first.wait()
    lines = second.communicate()[1].splitlines()
    assert second.returncode == 0
    assert lines[0].split()[:4] != ["decoding", "70", "of", "70"]
    assert lines[0].startswith("decoding") and len(lines) == 2
    assert_equal(arrays(never))


def test_many_threads_at_once():
    results, decode = {}, Counting()

    def use(place):
        results[place] = arrays(decode)

    threads = [threading.Thread(target=use, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 4 and sorted(decode.seen) == list(range(COUNT))
    for mapped in results.values():
        assert_equal(mapped)


def cut(file):
    os.truncate(file, file.stat().st_size - 1)


def zero(file):
    file.write_bytes(bytes(file.stat().st_size))


def empty(file):
    file.write_bytes(b"")


def remove(file):
    file.unlink()


def other_header(file):
    np.save(file, np.load(file).reshape(-1))


@pytest.mark.parametrize("file", ["x.npy", "y.npy", prepare.RECORD])
@pytest.mark.parametrize("damage", [cut, zero, empty, remove, other_header])
def test_damaged_files_are_built_again(file, damage, caplog):
    if damage is other_header and file == prepare.RECORD:
        damage = lambda file: file.write_text("[1, 2]")  # noqa: E731
    before = arrays()
    kept = before["x"].copy()
    damage(entry() / file)
    rebuilt = Counting()
    assert_equal(arrays(rebuilt))
    assert sorted(rebuilt.seen) == list(range(COUNT))
    assert (damage is remove and file == prepare.RECORD) or "damaged" in caplog.text
    assert_equal(arrays(never))
    if damage is remove:  # who has the old file mapped is not disturbed
        np.testing.assert_array_equal(before["x"], kept)


@pytest.mark.parametrize(("place", "first"), [(-1, 64), (-3 * 12 * 8, 32)])
def test_only_damaged_blocks_are_decoded_again(place, first, caplog):
    arrays()
    content = bytearray((entry() / "x.npy").read_bytes())
    content[place] ^= 1
    (entry() / "x.npy").write_bytes(content)
    rebuilt = Counting()
    assert_equal(arrays(rebuilt))
    assert sorted(rebuilt.seen) == list(range(first, min(first + 16, COUNT)))
    assert "damaged" in caplog.text
    assert_equal(arrays(never))


def test_damage_during_the_preparation_is_found():
    with pytest.raises(InputError):
        arrays(Counting(fail=40))
    content = bytearray((entry() / "y.npy").read_bytes())
    content[128 + 8 * 17] ^= 1  # example 17
    (entry() / "y.npy").write_bytes(content)
    rest = Counting()
    assert_equal(arrays(rest))
    assert sorted(rest.seen) == list(range(16, COUNT))


class Disk(NamedTuple):
    free: int


def test_full_disk_is_found_before(monkeypatch):
    monkeypatch.setattr(prepare, "IN_MEMORY", 0)
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda _: Disk(1_000))
    with pytest.raises(InputError) as error:
        arrays(never)
    size = COUNT * (12 + 8)
    for word in (f"{size / 1e9:.2f} GB", "0.00 GB are free", "MTL_JAX_CACHE"):
        assert word in str(error.value)
    assert str(cache.folder()) in str(error.value)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_disk_that_fills_up_keeps_what_was_finished(monkeypatch):
    monkeypatch.setattr(prepare, "IN_MEMORY", 0)
    # Two files, the record and the name of that: two blocks, and a file.
    syncs, sync = iter(range(9)), os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: sync(file) if next(syncs) < 8 else full()
    )
    with pytest.raises(InputError, match="No space left.*make room"):
        arrays()
    monkeypatch.setattr(os, "fsync", sync)
    rest = Counting()
    assert_equal(arrays(rest))
    assert sorted(rest.seen) == list(range(32, COUNT))


def test_only_what_is_missing_needs_room(monkeypatch):
    monkeypatch.setattr(prepare, "IN_MEMORY", 0)
    with pytest.raises(InputError):
        arrays(Counting(fail=69))
    room = (COUNT - 64) * (12 + 8)
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda _: Disk(room))
    assert_equal(arrays())


def test_what_is_small_stays_in_memory_without_a_cache(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "file"))
    assert_equal(arrays())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "going on without the cache" in caplog.text
    monkeypatch.setattr(prepare, "IN_MEMORY", COUNT * (12 + 8) - 1)
    with pytest.raises(InputError, match="Not a directory.*set MTL_JAX_CACHE"):
        arrays(never)


def test_no_home(monkeypatch, caplog):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache, "folder", homeless)
    assert_equal(arrays())
    assert "home directory" in caplog.text


def test_finished_entry_needs_no_right_to_write(monkeypatch):
    arrays()

    def forbidden(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(prepare.fcntl, "flock", forbidden)
    monkeypatch.setattr(prepare, "_write", forbidden)
    assert_equal(arrays(never))


def test_a_log_file_has_two_lines_and_a_second_start_none(capfd):
    arrays()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("decoding 70 of 70 examples") and "GB" in lines[0]
    assert lines[1] == "decoded 70 examples"
    arrays(never)
    assert capfd.readouterr() == ("", "")


def test_folder_of_the_cache_is_said_as_it_is(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "[bold]" / ":a:"
    monkeypatch.setenv("MTL_JAX_CACHE", str(folder))
    prepare.arrays(
        "small", {}, {"x": ((), np.uint8)}, 3, lambda i: {"x": np.array(i, np.uint8)}
    )
    assert f" once, into {folder}/mtl_jax/data/small-" in capfd.readouterr().err
