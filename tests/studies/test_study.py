"""A study: what it chooses, what it leaves, and what no kill can take from it."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from mtl_jax import analysis
from mtl_jax.storage import candidates, records
from mtl_jax.studies import reproduce, study, trial
from mtl_jax.types import DataMissing, InputError
from tests import small, tiny_study
from tests.tiny_study import TASKS, Pretender

BEST = {
    ("single", "digits_0", 1e-2, 8): 0.9,
    ("single", "digits_1", 1e-3, 16): 0.8,
    ("single", "digits_2", 1e-3, 16): 0.7,
    ("multi", "digits_0", 1e-2, 16): 0.9,
    ("multi", "digits_1", 1e-2, 16): 0.9,
    ("multi", "digits_2", 1e-3, 8): 0.99,
}
PATIENCE = 300
"""Seconds that a process may take before the test gives up."""
SEED = random.SystemRandom().randrange(10**6)


def cells(df):
    chosen = df[df["task"] != ""].drop_duplicates(["variant", "task"])
    rows = chosen[["variant", "task", "learning_rate", "batch_size"]]
    return set(rows.itertuples(index=False, name=None))


class TestChoice:
    def test_per_task(self, tmp_path):
        engine, said = Pretender(BEST), []
        config = tiny_study.config()
        assert study.run(config, tmp_path / "s", engine, said.append) == 0
        df = records.read(tmp_path / "s" / study.SELECTED)
        assert cells(df) == set(BEST)
        assert set(df["seed"]) == {1, 2}
        assert analysis.transfer(df)["comparable"].all()
        content = json.loads((tmp_path / "s" / candidates.SELECTION).read_text())
        assert content["rule"] == study.RULE and content["candidates_each"] == 4
        assert {
            (r["variant"], r["task"], r["learning_rate"], r["batch_size"])
            for r in content["chosen"]
        } == set(BEST)
        words = "chosen for multi, digits_2: adam, learning rate 0.001, batch 8"
        assert any(words in text for text in said)

    def test_per_model(self, tmp_path):
        engine = Pretender(BEST)
        config = tiny_study.config(select__over="model")
        study.run(config, tmp_path / "s", engine, lambda _: None)
        df = records.read(tmp_path / "s" / study.SELECTED)
        joint = {("multi", task, 1e-2, 16) for task in TASKS}
        assert cells(df[df["variant"] == "multi"]) == joint
        names = [trained.name for trained in engine.trained]
        assert names.count("multi-adam-b16") == 2
        assert names.count("multi-adam-b8") == 1

    def test_one_optimizer_for_all_variants(self, tmp_path):
        # Adam is better for multi-task runs, momentum by more for one single task.
        scores = {(*cell, "adam"): score for cell, score in BEST.items()}
        scores |= {(*cell, "momentum"): score - 0.05 for cell, score in BEST.items()}
        scores[("single", "digits_2", 1e-2, 8, "momentum")] = 0.99
        scores[("multi", "digits_0", 1e-3, 16, "momentum")] = 0.89
        engine = Pretender(scores)
        config = tiny_study.config(grid__optimizers=("adam", "momentum"))
        said: list[str] = []
        study.run(config, tmp_path / "s", engine, said.append)
        content = json.loads((tmp_path / "s" / candidates.SELECTION).read_text())
        assert content["optimizer"] == "momentum" and content["candidates_each"] == 8
        means = {"adam": (0.8 + 0.93) / 2}  # of three tasks, then of two variants
        means["momentum"] = ((0.85 + 0.75 + 0.99) / 3 + (0.89 + 0.85 + 0.94) / 3) / 2
        assert content["optimizers"] == pytest.approx(means)
        assert {row["optimizer"] for row in content["chosen"]} == {"momentum"}
        assert any("single, digits_2: momentum, learning rate 0.01" in t for t in said)
        finals = [t for t in engine.trained if t.config.seeds == (1, 2)]
        assert {t.config.optimizer.name for t in finals} == {"momentum"}
        chosen = {("single", "digits_2", 1e-2, 8), ("multi", "digits_0", 1e-3, 16)}
        selected = tmp_path / "s" / study.SELECTED
        assert chosen <= cells(records.read(selected))
        assert json.loads((selected / "config.json").read_text())["optimizer.name"] == (
            "momentum"
        )
        whole, _ = candidates.read(tmp_path / "s")
        of_run, _ = candidates.read(selected)
        assert len(whole) == 2 * len(of_run) == 48
        assert set(of_run["optimizer"]) == {"momentum"}
        assert len(of_run[of_run["chosen"]]) == whole["chosen"].sum() == 6

    def test_an_optimizer_that_diverges_is_taken_last(self, tmp_path, monkeypatch):
        config = tiny_study.config(grid__optimizers=("adam", "momentum"))
        pretend = Pretender({(*cell, "adam"): 0.99 for cell in BEST})

        def diverge(trained):
            rows = Pretender._rows(pretend, trained)
            adam = trained.config.optimizer.name == "adam"
            if adam and trained.variant == "multi":
                runs = {(row["learning_rate"], row["seed"]): row for row in rows}
                mark = {"step": 12, "split": "train", "task": "", "name": "diverged"}
                rows += [{**row, **mark, "value": 1.0} for row in runs.values()]
            return rows

        monkeypatch.setattr(pretend, "_rows", diverge)
        study.run(config, tmp_path / "s", pretend, lambda _: None)
        content = json.loads((tmp_path / "s" / candidates.SELECTION).read_text())
        assert content["optimizer"] == "momentum"
        assert content["optimizers"] == {"adam": None, "momentum": pytest.approx(0.1)}

    def test_a_second_time_nothing_is_trained(self, tmp_path):
        engine, config = Pretender(BEST), tiny_study.config()
        study.run(config, tmp_path / "s", engine, lambda _: None)
        count = len(engine.trained)
        before = records.read(tmp_path / "s" / study.SELECTED)
        study.run(config, tmp_path / "s", engine, lambda _: None)
        assert len(engine.trained) == count == 4 + 4
        assert_frame_equal(records.read(tmp_path / "s" / study.SELECTED), before)

    def test_of_another_config_it_is_refused(self, tmp_path):
        study.run(tiny_study.config(), tmp_path / "s", Pretender(), lambda _: None)
        changed = tiny_study.config(base__steps=13)
        with pytest.raises(InputError, match="base.steps was 12, now 13"):
            study.run(changed, tmp_path / "s", Pretender(), lambda _: None)

    def test_that_is_refused_binds_nothing(self, tmp_path):
        def refuse(*_):
            raise InputError("no space")

        with pytest.raises(InputError, match="no space"):
            study.run(tiny_study.config(), tmp_path / "s", refuse, lambda _: None)
        changed = tiny_study.config(base__steps=13)
        assert study.run(changed, tmp_path / "s", Pretender(), lambda _: None) == 0

    def test_a_signal_ends_it(self, tmp_path):
        config = tiny_study.config()
        assert study.run(config, tmp_path / "s", lambda *_: 15, lambda _: None) == 15
        assert not (tmp_path / "s" / candidates.SELECTION).exists()

    def test_the_remaining_time_falls_to_nothing(self, tmp_path):
        config, folder = tiny_study.config(), tmp_path / "s"
        assert study.remaining(config, TASKS, folder) is None
        study.run(config, folder, Pretender(BEST), lambda _: None)
        left, pace = study.remaining(config, TASKS, folder) or (np.nan, None)
        assert left == 0
        other = study.remaining(config, TASKS, tmp_path / "other", pace)
        assert other and other[0] > 4


WRONG = [
    ({"grid__batch_sizes": ()}, "grid.batch_sizes are \\(\\); name at least one"),
    (
        {"grid__batch_sizes": (8, 8)},
        "sizes are \\(8, 8\\); 8 is there twice.* each once",
    ),
    ({"grid__batch_sizes": (8, 0)}, "sizes are \\(8, 0\\); 0 is unfit: .*above 0"),
    ({"grid__batch_sizes": (8, 1000)}, "batch_size 1000 is larger than .*, 299"),
    ({"grid__points": 0}, "points is 0.*at least 1"),
    ({"grid__learning_rates": (0.1, -1.0)}, "grid.learning_rates are .*-1.0 is unfit"),
    ({"grid__seeds": ()}, "grid.seeds are \\(\\)"),
    ({"final__seeds": ()}, "final.seeds are \\(\\)"),
    ({"final__seeds": (1, 1)}, "final.seeds are \\(1, 1\\); 1 is there twice"),
    ({"select__over": "all"}, "select.over 'all' is not one of: model, task"),
    ({"base__variants": ("multi-nash",)}, "multi-nash"),
    (
        {"base__variants": ("multi-cagrad",), "grid__options__cagrad__c": (0.1, -1.0)},
        "cagrad.*-1",
    ),
]


@pytest.mark.parametrize(("changes", "match"), WRONG)
def test_what_is_unfit_is_said_before_anything_is_trained(tmp_path, changes, match):
    config, engine = tiny_study.config(**changes), Pretender()
    with pytest.raises(InputError, match=match):
        study.run(config, tmp_path / "s", engine, lambda _: None)
    assert not engine.trained and not (tmp_path / "s").exists()


class TestReproduce:
    def config(self, **studies):
        from ml_collections import ConfigDict

        return ConfigDict({"data": {"dir": ""}, "studies": studies})

    def test_settings_without_data_are_left_out(self, tmp_path, monkeypatch):
        there, missing, said = tiny_study.config(), tiny_study.config(), []
        check = study.check

        def look(config):
            if config.base.steps == 13:
                raise DataMissing("no such files; put them there")
            return check(config)

        monkeypatch.setattr(study, "check", look)
        missing.base.steps = 13
        config = self.config(digits=there, elsewhere=missing)
        signal, done = reproduce.run(config, tmp_path, Pretender(BEST), said.append)
        assert (signal, done) == (0, [tmp_path / "digits" / study.SELECTED])
        assert "left out: elsewhere. no such files; put them there" in said
        assert any("about" in text and "left" in text for text in said)
        with pytest.raises(InputError, match="no study has its data"):
            only = self.config(elsewhere=missing)
            reproduce.run(only, tmp_path, Pretender(), said.append)


def files(folder):
    """List the files of the finished trials, with the times of their last change."""
    return {
        path: path.stat().st_mtime_ns
        for done in folder.glob(f"*/*/{trial.FINISHED}")
        for path in done.parent.rglob("*")
        if path.is_file() and "checkpoints" not in path.parts
    }


def progress(folder):
    return len(list(folder.glob("*/*/records/*.parquet")))


def everything(folder):
    """Read records of all trials, by their folders, and of what was chosen."""
    parts = [*folder.glob("sweep/*"), *folder.glob("final/*"), folder / study.SELECTED]
    return {path.relative_to(folder): records.read(path) for path in parts}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    with small.compiled_once(folder / "cache"):
        process = start(folder / "uninterrupted")
        process.join(PATIENCE)
        assert process.exitcode == 0
        yield folder / "uninterrupted"


def start(path):
    log = path.parent / f"{path.name}-log"
    return small.fork(tiny_study.arguments(path), log, command="sweep")


def test_ten_kills_lose_and_repeat_nothing(tmp_path, uninterrupted):
    path, dice = tmp_path / "study", random.Random(SEED)
    print(f"seed of the kills: {SEED}")
    whole = progress(uninterrupted)
    moments = sorted(dice.sample(range(whole - 4), 10))
    finished, killed = {}, 0
    for moment in moments:
        process, begun = start(path), time.monotonic()
        while progress(path) < moment and process.exitcode is None:
            assert time.monotonic() < begun + PATIENCE
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.1))
        if process.exitcode is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE)
        killed += process.exitcode == -signal.SIGKILL
        now = files(path)
        assert finished.items() <= now.items()  # none is lost, none touched again
        finished = now
    assert killed >= 8
    process = start(path)
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert finished.items() <= files(path).items()
    trained, expected = everything(path), everything(uninterrupted)
    assert trained.keys() == expected.keys()
    for name, df in expected.items():
        assert_frame_equal(trained[name], df, check_exact=True)
    for name in (candidates.TABLE, candidates.SELECTION):
        assert (path / name).read_text() == (uninterrupted / name).read_text()


def test_a_polite_stop(tmp_path, uninterrupted):
    path = tmp_path / "study"
    process = start(path)
    while progress(path) < 3:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGTERM)
    process.join(PATIENCE)
    assert process.exitcode == 128 + signal.SIGTERM
    text = (tmp_path / "study-log" / "out").read_text()
    assert "stopped by signal 15" in text and "Traceback" not in text
    process = start(path)
    process.join(PATIENCE)
    assert process.exitcode == 0
    chosen = (path / candidates.SELECTION).read_text()
    assert chosen == (uninterrupted / candidates.SELECTION).read_text()
