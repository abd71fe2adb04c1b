import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from mtl_jax.storage import checkpoint, workdir
from mtl_jax.types import InputError

DATA = {"checksum": 17, "seed": 0}


def config(**changes):
    fields = ConfigDict({"steps": 10, "seeds": (0, 1), "model": {"widths": (8,)}})
    fields.checkpoint = ConfigDict({"every": 5})
    fields.data = ConfigDict({"dir": "/here", "source": "auto", "seed": 0})
    fields.update_from_flattened_dict(changes)
    return fields


def test_claim_makes_the_folder(tmp_path):
    with workdir.claim(tmp_path / "a" / "b") as folder:
        assert folder.is_dir()


def test_claim_of_a_file(tmp_path):
    (tmp_path / "a").write_text("")
    for path in ("a", "a/b"):
        with pytest.raises(InputError, match="cannot be written to.*choose another"):
            workdir.claim(tmp_path / path).__enter__()


def test_second_claim_waits_for_the_first_to_end(tmp_path):
    with (
        workdir.claim(tmp_path),
        pytest.raises(InputError, match="in use"),
        workdir.claim(tmp_path),
    ):
        pass
    with workdir.claim(tmp_path):
        pass


def test_killed_process_holds_no_claim(tmp_path):
    code = f"import os; from mtl_jax.storage import workdir\nwith workdir.claim({str(tmp_path)!r}): os.kill(os.getpid(), 9)"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    with workdir.claim(tmp_path):
        pass


def test_error_in_the_folder_is_a_message(tmp_path):
    said = f"cannot write to workdir {tmp_path}: .*records: No space.*same command"
    with pytest.raises(InputError, match=said), workdir.claim(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", f"{tmp_path}/records")


@pytest.mark.parametrize("name", ["/data/x.png", 3, None])
def test_error_elsewhere_is_not_of_the_folder(tmp_path, name):
    with pytest.raises(OSError, match="cannot be read") as raised:  # noqa: SIM117
        with workdir.claim(tmp_path):
            raise OSError(errno.EIO, "cannot be read", name)
    assert not isinstance(raised.value, InputError)


def test_name_that_the_locale_spells_otherwise(tmp_path, monkeypatch):
    """Refuse what libraries beneath would write elsewhere, or end in an error."""
    (tmp_path / "\N{GREEK SMALL LETTER MU}").mkdir()
    with workdir.claim(tmp_path / "\N{GREEK SMALL LETTER MU}"):
        pass
    monkeypatch.setattr(os, "fsencode", lambda path: str(path).encode("latin-1"))
    for name in ("caf\xe9", "\u03bc", "caf\udce9"):
        with pytest.raises(InputError, match="PYTHONUTF8=1.*choose another") as raised:
            workdir.claim(tmp_path / name).__enter__()
        assert str(raised.value).isascii()


@pytest.mark.parametrize("content", ["[]", "3", "null", '"steps"'])
def test_config_of_another_shape(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    for look in (workdir.config, lambda folder: workdir.bind(folder, config(), DATA)):
        with pytest.raises(InputError, match="config.json cannot be read.*choose"):
            look(tmp_path)


def test_config_that_was_edited_is_not_believed(tmp_path):
    """Say what changed where it is compared; refuse it where it is needed."""
    workdir.bind(tmp_path, config(), DATA)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"steps": 10', '"steps": 11'))
    with pytest.raises(InputError, match="steps was 11, now 10.*damaged or edited"):
        workdir.bind(tmp_path, config(), DATA)
    with pytest.raises(InputError, match="config.json.*damaged or edited.*copy"):
        workdir.config(tmp_path)


def test_admit_writes_nothing(tmp_path):
    workdir.admit(tmp_path, config(), DATA)
    assert not list(tmp_path.iterdir())
    workdir.bind(tmp_path, config(), DATA)
    with pytest.raises(InputError, match="steps was 10, now 11"):
        workdir.admit(tmp_path, config(steps=11), DATA)


def test_config_of_before_a_field_was_renamed(tmp_path):
    workdir.bind(tmp_path, config(chunk=5), DATA)
    assert workdir.config(tmp_path).steps_per_dispatch == 5
    workdir.check(tmp_path, config(steps_per_dispatch=5), DATA)


def test_config_of_before_a_field_was_added(tmp_path):
    workdir.bind(tmp_path, config(), DATA)
    later = {"optimizer.schedule": "constant", "elsewhere": 1}
    added = config(optimizer={"schedule": "constant"})
    workdir.admit(tmp_path, added, DATA, later=later)
    assert workdir.config(tmp_path, later).optimizer.schedule == "constant"
    with pytest.raises(InputError, match="schedule was 'constant', now 'cosine'"):
        workdir.admit(
            tmp_path, config(optimizer={"schedule": "cosine"}), DATA, later=later
        )


def test_bind_keeps_the_config(tmp_path):
    workdir.bind(tmp_path, config(), DATA)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["model.widths"] == [8]
    assert stored["seeds"] == [0, 1]
    assert stored["data (its contents)"] == 17
    workdir.bind(tmp_path, config(), DATA)


@pytest.mark.parametrize(
    ("changes", "data", "said"),
    [
        ({"steps": 11}, DATA, "steps was 10, now 11"),
        ({"model.widths": (9,)}, DATA, r"model.widths was \[8\], now \[9\]"),
        ({"steps": 1, "seeds": (2,)}, DATA, "seeds was .*; steps was 10, now 1"),
        ({"data.seed": 1}, DATA, "data.seed was 0, now 1"),
        ({}, {"checksum": 18}, r"data \(its contents\) was 17, now 18"),
    ],
)
def test_bind_names_what_changed(tmp_path, changes, data, said):
    workdir.bind(tmp_path, config(), DATA)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(InputError, match=f"another configuration: {said}.*Choose"):
        workdir.bind(tmp_path, config(**changes), data)
    assert (tmp_path / "config.json").read_text() == before


def test_bind_names_fields_that_came_or_went(tmp_path):
    new = config()
    new.extra = 1
    workdir.bind(tmp_path, new, DATA)
    with pytest.raises(InputError, match="extra was 1, now None"):
        workdir.bind(tmp_path, config(), DATA)


@pytest.mark.parametrize(
    "changes", [{"checkpoint.every": 1}, {"data.dir": "/there", "data.source": "tfds"}]
)
def test_bind_allows_what_does_not_change_the_run(tmp_path, changes):
    workdir.bind(tmp_path, config(), DATA)
    workdir.bind(tmp_path, config(**changes), DATA)


def test_bind_refuses_foreign_checkpoints(tmp_path):
    (tmp_path / checkpoint.FOLDER / "100").mkdir(parents=True)
    with pytest.raises(InputError, match="not of this program.*choose another"):
        workdir.bind(tmp_path, config(), DATA)


def test_bind_accepts_a_folder_with_other_things(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / checkpoint.FOLDER).mkdir()  # killed before the first checkpoint
    workdir.bind(tmp_path, config(), DATA)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["{", "", "\xff"])
def test_bind_refuses_a_damaged_config(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode("latin1"))
    with pytest.raises(InputError, match="config.json cannot be read.*choose"):
        workdir.bind(tmp_path, config(), DATA)


def test_space(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=5 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    workdir.check_space(tmp_path, 5 * 2**20)
    with pytest.raises(InputError, match="has 5 MiB free.*needs about 7 MiB; free"):
        workdir.check_space(tmp_path, 7 * 2**20)


def test_splits_come_back(tmp_path):
    rows = {
        "train": (np.arange(3), np.arange(5)),
        "test": (np.array([9]), np.array([8])),
    }
    workdir.save_splits(tmp_path, rows)
    with np.load(tmp_path / "splits.npz") as stored:
        assert sorted(stored) == ["test/0", "test/1", "train/0", "train/1"]
        np.testing.assert_array_equal(stored["train/1"], np.arange(5))
    assert [path.name for path in tmp_path.iterdir()] == ["splits.npz"]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    workdir.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        workdir.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
