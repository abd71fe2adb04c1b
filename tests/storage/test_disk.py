import errno
import json
import os

import pytest

from mtl_jax.storage import disk


def noted(monkeypatch, path):
    """Note the calls that put a file on the disk, in their order."""
    calls = []
    fsync, replace = os.fsync, type(path).replace

    def note(name, function):
        return lambda *arguments: (calls.append(name), function(*arguments))[1]

    monkeypatch.setattr(os, "fsync", note("fsync", fsync))
    monkeypatch.setattr(type(path), "replace", note("replace", replace))
    return calls


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path, monkeypatch
):
    calls = noted(monkeypatch, tmp_path)
    disk.write_json(tmp_path / "a.json", {"a": 1})
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_error_leaves_the_old_file_and_names_it(tmp_path, monkeypatch, place):
    path = tmp_path / "a.json"
    disk.write_json(path, {"a": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    owner = {"fsync": os, "replace": type(tmp_path)}[place]
    monkeypatch.setattr(owner, place, full)
    with pytest.raises(OSError, match="No space left") as raised:
        disk.write_json(path, {"a": 2})
    assert raised.value.filename == str(path)
    assert disk.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def of_files(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files)
    disk.write_json(tmp_path / "a.json", {"a": 1})
    assert disk.read_json(tmp_path / "a.json") == {"a": 1}


CONTENT = {"text": "caf\xe9", "numbers": (1, 2.5, -0.0), "none": None, "in": {"2": 3}}


def test_seal_comes_off_again(tmp_path):
    disk.write_json(tmp_path / "a.json", disk.sealed(CONTENT))
    assert disk.read_json(tmp_path / "a.json") == {**CONTENT, "numbers": [1, 2.5, -0.0]}
    assert disk.opened(CONTENT) == CONTENT  # of a version without seals


def test_any_value_that_changes_breaks_the_seal():
    plain = json.loads(json.dumps(disk.sealed(CONTENT)))
    for changed in ({"text": "cafe"}, {"numbers": [1, 2.5, 0.0]}, {"more": 1}):
        with pytest.raises(ValueError, match="checksum is wrong"):
            disk.opened({**plain, **changed})
    del plain["none"]
    with pytest.raises(ValueError, match="checksum is wrong"):
        disk.opened(plain)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10**5])
def test_what_is_no_object_is_a_value_error(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r".*"):
        disk.read_json(tmp_path / "a.json")
