"""Curves in other people's dashboards, of real packages where they are installed."""

import csv
import json
import sqlite3

import pytest

from mtl_jax.storage import checkpoint, trackers
from mtl_jax.types import InputError
from tests import small

NAME = "test/digits_0/accuracy/multi"


def followed(path, log, **changes):
    return small.run(path, variants=("multi",), log=log, **changes)


def wanted(run):
    """Means over seeds of one curve, by step."""
    df = run.records.query("split == 'test' & task == 'digits_0' & name == 'accuracy'")
    return df.groupby("step")["value"].mean().to_dict()


def test_a_file_has_the_means_of_every_look(tmp_path):
    run = followed(tmp_path / "run", ("csv",))
    with (run.path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    shown = {int(r["step"]): float(r["value"]) for r in rows if r["name"] == NAME}
    assert shown == pytest.approx(wanted(run))
    assert sorted(shown) == [0, 1, 2, 5, 12]
    again = followed(run.path, ("csv",), steps=14)  # a run that goes on
    with (run.path / "log.csv").open() as file:
        steps = [int(r["step"]) for r in csv.DictReader(file) if r["name"] == NAME]
    assert steps == [0, 1, 2, 5, 12, 14] and again.outcome.step == 14


def killed_before_its_last_checkpoint(path, monkeypatch, log):
    """Train until all looks are made but the last one is not saved."""
    save = checkpoint.save

    def fail(manager, step, state):
        if step == 12:
            raise KeyboardInterrupt
        save(manager, step, state)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", fail)
        followed(path, log)


def test_looks_that_are_made_again_are_not_there_twice(tmp_path, monkeypatch):
    path = tmp_path / "run" / "log.csv"
    killed_before_its_last_checkpoint(path.parent, monkeypatch, ("csv",))
    before = path.read_bytes()
    assert f"\n12,{NAME}" in before.decode()
    path.write_bytes(before + b"12,test/digits_0/lo")  # a kill cuts where it likes
    followed(path.parent, ("csv",))
    assert path.read_bytes() == before
    with trackers.follow("csv", path.parent, {}, 0, print):  # from the beginning
        assert path.read_text() == "step,name,value\n"


def test_rates_and_scopes_are_told_apart():
    row = small_row()
    other = row._replace(learning_rate=0.2, value=3.0)
    factor = row._replace(name="fisher_trace", scope="task", value=float("nan"))
    assert trackers.means([row, other, factor]) == {
        "test/a/loss/multi,0.1": 1.0,
        "test/a/loss/multi,0.2": 3.0,
    }
    found = trackers.means([factor._replace(value=2.0)])
    assert found == {"test/a/fisher_trace.task/multi": 2.0}


def small_row():
    return trackers.Row(
        "s", "multi", 0, 0, 0.1, 8, "sum", 5, 1.0, "test", "a", "loss", 1.0
    )


def test_one_that_fails_is_left_and_training_goes_on(tmp_path, monkeypatch):
    calls = []

    def failing(*_):
        def log(step, _):
            calls.append(step)
            raise ConnectionError("no network")

        return log

    monkeypatch.setitem(trackers.TRACKERS, "csv", failing)
    run = followed(tmp_path / "run", ("csv",))
    assert run.outcome.step == 12 and calls == [0]
    (said,) = (text for text in run.said if "csv" in text)
    assert "ConnectionError: no network" in said and "records have everything" in said


@pytest.mark.parametrize(
    ("log", "words"),
    [("mlflow", "'mlflow' is not one of: csv"), ("wandb", "pip install wandb")],
)
def test_trackers_that_are_not_there(tmp_path, monkeypatch, log, words):
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=words):
        followed(tmp_path / "run", (log,))


def test_tensorboard(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    name = "tensorboard.backend.event_processing.event_accumulator"
    events = pytest.importorskip(name)
    log = ("tensorboard",)
    killed_before_its_last_checkpoint(tmp_path / "run", monkeypatch, log)
    run = followed(tmp_path / "run", log)
    accumulator = events.EventAccumulator(str(run.path / "events"))
    accumulator.Reload()
    shown = [(e.step, e.value) for e in accumulator.Scalars(NAME)]
    assert [step for step, _ in shown] == [0, 1, 2, 5, 12]
    assert dict(shown) == pytest.approx(wanted(run))


def test_wandb(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    seen = {}
    init = wandb.init

    def spied(**options):
        run = init(**options)
        log = run.log

        def logged(values, step):
            seen[step] = values[NAME]
            log(values, step=step)

        monkeypatch.setattr(run, "log", logged)
        return run

    monkeypatch.setattr(wandb, "init", spied)
    run = followed(tmp_path / "run", ("wandb",))
    assert seen == pytest.approx(wanted(run))
    assert list((run.path / "wandb").glob("offline-run-*/*.wandb"))


def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read at import
    pytest.importorskip("trackio")
    run = followed(tmp_path / "run", ("trackio",))
    (path,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(path) as base:
        rows = base.execute("select step, metrics from metrics").fetchall()
    values = {step: json.loads(metrics) for step, metrics in rows}
    shown = {step: each[NAME] for step, each in values.items() if NAME in each}
    assert shown == pytest.approx(wanted(run))
