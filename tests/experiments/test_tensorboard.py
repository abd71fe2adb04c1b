"""Records as events of TensorBoard: every finite value, and a word on the others."""

import math

import pytest
from absl.testing import flagsaver

from mtl_jax.types import InputError
from tests import workdirs

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
pytest.importorskip("tensorboardX")


def export(workdir, logdir):
    from experiments import tensorboard

    with flagsaver.as_parsed(workdir=str(workdir), logdir=str(logdir)):
        tensorboard.tensorboard()


def test_values_that_are_not_finite_are_counted(tmp_path, capfd, caplog):
    rows = workdirs.trajectories(factors=())
    lost = [row for row in rows if row["variant"] == "multi" and row["step"] == 5]
    for row, value in zip(lost, [math.nan, math.inf, -math.inf], strict=False):
        row["value"] = value
    workdirs.write(tmp_path / "run", rows)
    export(tmp_path / "run", tmp_path / "events")
    out, err = capfd.readouterr()
    text = out + err + caplog.text
    assert f"left out: 3 of {len(rows)} values, which are not finite" in out
    assert "NaN" not in text and len(text.splitlines()) == 2
    written = 0
    for folder in (tmp_path / "events").iterdir():
        accumulator = events.EventAccumulator(str(folder))
        accumulator.Reload()
        for tag in accumulator.Tags()["scalars"]:
            written += len(accumulator.Scalars(tag))
    assert written == len(rows) - 3


def test_records_that_are_finite_are_not_spoken_of(tmp_path, capsys):
    workdirs.write(tmp_path / "run", workdirs.trajectories(factors=(), seeds=(0,)))
    export(tmp_path / "run", tmp_path / "events")
    assert capsys.readouterr().out == f"written to {tmp_path / 'events'}\n"


def test_folders_that_cannot_be_taken(tmp_path):
    with pytest.raises(InputError, match="holds no records"):
        export(tmp_path / "run", tmp_path / "events")
    assert not (tmp_path / "events").exists()
    workdirs.write(tmp_path / "run", workdirs.trajectories(factors=(), seeds=(0,)))
    with pytest.raises(InputError, match="run exists already; choose a new one"):
        export(tmp_path / "run", tmp_path / "run")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="events cannot be made: Not a directory"):
        export(tmp_path / "run", tmp_path / "file" / "events")
