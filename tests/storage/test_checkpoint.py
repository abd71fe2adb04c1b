import contextlib
import shutil
from typing import Any

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mtl_jax.storage import checkpoint
from mtl_jax.types import InputError, Params

STATE = {
    "params": Params(
        {"w": np.arange(6000, dtype=np.float32)}, [np.ones((2, 3), np.float32)]
    ),
    "step": np.array(7, np.int32),
}


def shifted(step):
    return jax.tree.map(lambda leaf: leaf + np.asarray(step, leaf.dtype), STATE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Make a workdir with the checkpoints 1, 2 and 3."""
    path = tmp_path_factory.mktemp("saved")
    with checkpoint.open_manager(path, keep_last=3) as manager:
        for step in (1, 2, 3):
            checkpoint.save(manager, step, shifted(step))
    return path


@pytest.fixture
def workdir(saved, tmp_path):
    """Make a copy to be damaged."""
    return shutil.copytree(saved, tmp_path / "run")


def restore(workdir) -> Any:
    said: list[str] = []
    with checkpoint.open_manager(workdir, keep_last=3) as manager:
        restored = checkpoint.restore(manager, STATE, said.append)
        return restored, said, sorted(manager.all_steps())


def assert_equal(actual, expected):
    chex.assert_trees_all_equal(actual, expected, strict=True)  # and their dtypes


def test_newest_is_restored_as_it_was_saved(saved):
    (step, state), said, steps = restore(saved)
    assert (step, said, steps) == (3, [], [1, 2, 3])
    assert_equal(state, shifted(3))


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path) == (None, [], [])


def empty(path):
    path.write_bytes(b"")


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [empty, halve, zero, delete])
@pytest.mark.parametrize(
    "pattern",
    [
        "state/ocdbt.process_0/d/*",
        "state/d/*",
        "state/manifest.ocdbt",
        "state/_METADATA",
        "checksum/metadata",
    ],
)
def test_damaged_file_is_detected(workdir, damage, pattern):
    files = (workdir / checkpoint.FOLDER / "3").glob(pattern)
    damage(max(files, key=lambda file: file.stat().st_size))
    (step, state), said, steps = restore(workdir)
    assert step == 2
    assert_equal(state, shifted(2))
    (message,) = said
    assert message.startswith("checkpoint 3 is damaged and passed over: ")
    assert steps == [1, 2]  # the damaged one is gone, its step will be saved again


def test_zeros_that_orbax_reads_without_complaint_are_detected(workdir):
    zeros = jax.tree.map(np.zeros_like, STATE)
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(zeros),
        checksum=ocp.args.JsonSave({"crc32": checkpoint.checksum(shifted(4))}),
    )
    with checkpoint.open_manager(workdir, keep_last=4) as manager:
        manager.save(4, args=items)
    (step, _), said, _ = restore(workdir)
    assert step == 3
    assert said == ["checkpoint 4 is damaged and passed over: its checksum is wrong"]


def test_all_damaged(workdir):
    for file in (workdir / checkpoint.FOLDER).rglob("d/*"):
        empty(file)
    with pytest.raises(InputError, match=r"none of .* \[3, 2, 1\] .* delete that"):
        restore(workdir)


def test_another_structure_is_not_restored(saved, tmp_path):
    workdir = shutil.copytree(saved, tmp_path / "run")
    other = {**STATE, "step": np.zeros(3, np.int32)}
    with checkpoint.open_manager(workdir, 3) as manager, pytest.raises(InputError):
        checkpoint.restore(manager, other, lambda _: None)
    assert len(list((workdir / checkpoint.FOLDER).iterdir())) == 3  # nothing is lost


@pytest.mark.parametrize(
    ("keep_last", "keep_steps", "kept"),
    [(1, (), [9]), (2, (), [8, 9]), (2, (0, 5), [0, 5, 8, 9])],
)
def test_what_is_kept(tmp_path, keep_last, keep_steps, kept):
    with checkpoint.open_manager(tmp_path, keep_last, keep_steps) as manager:
        for step in range(10):
            checkpoint.save(manager, step, STATE)
    folders = (tmp_path / checkpoint.FOLDER).iterdir()
    assert sorted(int(folder.name) for folder in folders) == kept


def test_keep_last_must_be_positive(tmp_path):
    opened = checkpoint.open_manager(tmp_path, 0)
    with pytest.raises(InputError, match="keep_last is 0; keep at least 1"), opened:
        pass


def test_step_that_is_there_is_not_saved_again(workdir):
    with checkpoint.open_manager(workdir, 3) as manager:
        checkpoint.save(manager, 3, STATE)
    (step, state), _, _ = restore(workdir)
    assert step == 3
    assert_equal(state, shifted(3))


def test_state_may_change_while_it_is_saved(tmp_path):
    state = jax.tree.map(jax.numpy.asarray, STATE)
    expected = jax.device_get(state)
    with checkpoint.open_manager(tmp_path, 1) as manager:
        checkpoint.save(manager, 1, state)
        jax.tree.map(lambda leaf: leaf.delete(), state)  # as donation does
    with checkpoint.open_manager(tmp_path, 1) as manager:
        restored = checkpoint.restore(manager, expected, lambda _: None)
    assert restored is not None
    assert_equal(restored[1], expected)


def test_checksum_knows_every_bit():
    state = shifted(0)
    before = checkpoint.checksum(state)
    assert checkpoint.checksum(shifted(0)) == before
    state["params"].heads[0][1, 2] = np.nextafter(np.float32(1), 2)
    assert checkpoint.checksum(state) != before


@pytest.mark.parametrize("way", ["save", "finish"])
def test_full_disk_is_one_message(tmp_path, monkeypatch, way):
    """Let tensorstore fail: what it says of a full disk is a ValueError."""

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: no space left\nand much more")

    names = {"save": "save", "finish": "wait_until_finished"}
    expected = pytest.raises(InputError, match="cannot write.*left; free space")
    with expected, contextlib.ExitStack() as stack:
        manager = stack.enter_context(checkpoint.open_manager(tmp_path, 1))
        monkeypatch.setattr(manager, names[way], full)
        checkpoint.save(manager, 1, STATE)
