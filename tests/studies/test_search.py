"""A search by Optuna: what it draws, what it finds, and what no kill takes from it."""

import importlib.util
import json
import math
import os
import pickle
import random
import signal
import time

import pytest
from pandas.testing import assert_frame_equal

from mtl_jax.storage import candidates, records
from mtl_jax.studies import grid, search, study, trial
from mtl_jax.types import InputError
from tests import small, tiny_study, workdirs
from tests.tiny_study import TASKS

optuna = pytest.importorskip("optuna")
BEST = 3e-3
"""Learning rate of the best accuracy that is pretended."""
SHAPE = {
    "grid__learning_rates": (1e-5, 1e-1),
    "grid__batch_sizes": (8, 16, 32),
    "grid__options__cagrad__c": (0.1, 0.9),
    "base__variants": ("single", "multi-cagrad"),
}
PATIENCE = 300
SEED = random.SystemRandom().randrange(10**6)


def config(trials=12, **changes):
    return tiny_study.config(**{**SHAPE, "search__trials": trials, **changes})


class Pretender(tiny_study.Pretender):
    """An engine of a smooth objective, which is interrupted when it is told to."""

    def __init__(self, kills=()):
        super().__init__()
        self.kills, self.count = list(kills), 0

    def __call__(self, trials, folder, say):
        for planned in trials:
            self.count += 1
            if self.count in self.kills:
                raise KeyboardInterrupt
            (rate,) = planned.config.learning_rates
            off = abs(math.log10(rate / BEST))
            off += abs(planned.options.get("c", 0.4) - 0.4)
            accuracy = 0.9 - 0.1 * off - 0.01 * (planned.config.batch_size != 16)
            of_all = {
                (planned.variant, task, rate, planned.config.batch_size): accuracy
                for task in TASKS
            }
            self.scores = {**self.scores, **of_all}
        return super().__call__(trials, folder, say)


def searched(path, engine=None, **changes):
    said = []
    run = study.run(config(**changes), path, engine or Pretender(), said.append)
    assert run == 0
    return candidates.read(path)[0], said


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "study"
    table, said = searched(path, trials=12)
    return path, table, said


def test_it_finds_what_is_best_between_the_ends_of_the_grid(whole):
    path, table, said = whole
    assert len(table) == 12 * 2 * len(TASKS)  # each task has its choice
    assert table["learning_rate"].between(1e-5, 1e-1).all()
    assert set(table["batch_size"]) == {8, 16, 32}
    alike = table.groupby("variant")["learning_rate"].nunique()
    assert alike.to_dict() == {"single": 12, "multi-cagrad": 12}
    chosen = table[table["chosen"]]
    assert chosen["learning_rate"].between(BEST / 5, BEST * 5).all()
    assert any("12 of 12 tried; best so far: learning_rate=" in text for text in said)
    content = json.loads((path / candidates.SELECTION).read_text())
    assert content["candidates_each"] == 12


def test_what_was_drawn_is_what_is_trained(whole):
    path, table, _ = whole
    finals = [trial.FINISHED in p.name for p in (path / "final").glob("*/*.json")]
    assert any(finals)
    selected = records.read(path / study.SELECTED)
    rates = set(selected[selected["task"] != ""]["learning_rate"])
    assert rates == set(table[table["chosen"]]["learning_rate"])
    options = table[table["variant"] == "multi-cagrad"]["options"]
    values = {grid.spelled_options("multi-cagrad", text)["c"] for text in options}
    assert len(values) == 12 and all(0.1 <= c <= 0.9 for c in values)


@pytest.mark.parametrize("kills", [(4, 9)])
def test_interrupted_it_goes_on_with_the_same_trials(tmp_path, whole, kills):
    _, expected, _ = whole
    engine = Pretender(kills)
    for _ in kills:
        with pytest.raises(KeyboardInterrupt):
            searched(tmp_path / "s", engine, trials=12)
    table, _ = searched(tmp_path / "s", engine, trials=12)
    assert_frame_equal(table, expected, check_exact=True)


def test_a_trial_that_was_half_drawn_is_drawn_again(tmp_path):
    expected, _ = searched(tmp_path / "whole", trials=2)
    drawn, places = tmp_path / "s", search._places
    with pytest.raises(KeyboardInterrupt):
        searched(drawn, Pretender([1]), trials=2)
    for place in places(config(2), TASKS, drawn):
        opened = search._open(place)
        for left in opened.get_trials():
            opened.tell(left.number, state=optuna.trial.TrialState.FAIL)
        opened.ask().suggest_float("learning_rate", 1e-5, 1e-1, log=True)
    assert_frame_equal(searched(drawn, trials=2)[0], expected)


def test_several_are_drawn_together(tmp_path):
    sizes = []

    class Engine(Pretender):
        def __call__(self, trials, folder, say):
            sizes.append(len({planned.name for planned in trials}))
            return super().__call__(trials, folder, say)

    searched(tmp_path / "s", Engine(), trials=5, search__at_once=2)
    assert sizes[:3] == [4, 4, 2]  # of two variants


def test_a_pruner_ends_what_falls_behind(tmp_path):
    ended = {}

    class Engine(Pretender):
        """Looks step by step, as training does."""

        def _rows(self, one):
            rows, shown = super()._rows(one), []
            folder = tmp_path / "looks" / one.name
            if one.judge is None:  # of what was chosen
                return rows
            judge = pickle.loads(pickle.dumps(one.judge))  # as workers get it
            for step in (0, 6, 12):
                shown += [row for row in rows if row["step"] == step]
                workdirs.write(folder / str(step), shown)
                if judge(folder / str(step)):
                    ended[one.name] = step
                    break
            return shown

    names = ("multi",)
    table, said = searched(
        tmp_path / "s", Engine(), base__variants=names, search__sampler="random"
    )
    assert ended and set(ended.values()) == {6}  # 0 is before it warms up
    assert any(f"{len(ended)} of them ended early" in text for text in said)
    (place,) = search._places(config(12, base__variants=names), TASKS, tmp_path / "s")
    states = [t.state for t in search._open(place).get_trials()]
    assert states.count(optuna.trial.TrialState.PRUNED) == len(ended)
    assert len(table) == 12 * len(TASKS)  # they stay candidates


def test_a_diverged_trial_is_worth_nothing(tmp_path):
    class Engine(Pretender):
        def _rows(self, one):
            rows = super()._rows(one)
            if one.config.learning_rates[0] > BEST:
                rows = [{**row, "value": math.nan} for row in rows]
            return rows

    table, _ = searched(tmp_path / "s", Engine(), trials=6)
    assert all(rate <= BEST for rate in table[table["chosen"]]["learning_rate"])


def test_the_remaining_time_counts_what_is_not_drawn(tmp_path):
    small_one = config(4)
    assert study.remaining(small_one, TASKS, tmp_path / "s") is None
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "s", Pretender([3]), trials=4)
    left, _ = study.remaining(small_one, TASKS, tmp_path / "s") or (0, None)
    assert left > 6  # six trials of a second
    searched(tmp_path / "s", trials=4)
    left, _ = study.remaining(small_one, TASKS, tmp_path / "s") or (1, None)
    assert left == 0


WRONG = [
    ({"search__trials": -1}, "search.trials is -1; give a whole number, at least 0"),
    ({"search__at_once": 0}, "search.at_once is 0; .*at least 1"),
    ({"search__sampler": "tpa"}, "search.sampler 'tpa' is not one of: tpe, random"),
    ({"search__pruner": "all"}, "search.pruner 'all' is not one of: none, median"),
    ({"grid__learning_rates": (0.1,)}, "draws rates between .*name two, or sweep"),
    ({"base__epochs": 2.0}, "base.epochs is 2, and search.pruner=median"),
    ({"grid__options__cagrad__c": ()}, "without values: .*name at least one"),
    ({"grid__options__cagrad__c": (0.1, -1.0)}, "cagrad.*-1"),
]


@pytest.mark.parametrize(("changes", "match"), WRONG)
def test_what_is_unfit_is_said_at_once(tmp_path, changes, match):
    bad = tiny_study.config(**{**SHAPE, "search__trials": 3, **changes})
    with pytest.raises(InputError, match=match):
        study.run(bad, tmp_path / "s", Pretender(), lambda _: None)
    assert not (tmp_path / "s").exists()


def test_a_damaged_log_and_no_optuna(tmp_path, monkeypatch):
    searched(tmp_path / "s", trials=2)
    log = tmp_path / "s" / search.LOG
    log.write_bytes(b"nonsense\n" + log.read_bytes())
    with pytest.raises(InputError, match="search.log cannot be read"):
        searched(tmp_path / "s", trials=2)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'mtl_jax\[optuna\]'"):
        searched(tmp_path / "t", trials=2)


def start(path):
    changes = {"base__variants": ("multi",), "search__trials": 3}
    changes |= {"grid__learning_rates": (1e-4, 1e-1), "grid__batch_sizes": (8,)}
    arguments = tiny_study.arguments(path, **changes)
    return small.fork(arguments, path.parent / f"{path.name}-log", command="sweep")


def test_killed_processes_lose_and_repeat_nothing(tmp_path):
    def progress(path):
        return len(list(path.glob("*/*/records/*.parquet")))

    dice = random.Random(SEED)
    print(f"seed of the kills: {SEED}")
    with small.compiled_once(tmp_path / "cache"):
        process = start(tmp_path / "whole")
        process.join(PATIENCE)
        assert process.exitcode == 0
        killed = 0
        for moment in sorted(dice.sample(range(progress(tmp_path / "whole") - 4), 3)):
            process, begun = start(tmp_path / "s"), time.monotonic()
            while progress(tmp_path / "s") < moment and process.exitcode is None:
                assert time.monotonic() < begun + PATIENCE
                time.sleep(0.001)
            time.sleep(dice.uniform(0, 0.1))
            os.kill(process.pid, signal.SIGKILL)
            process.join(PATIENCE)
            killed += process.exitcode == -signal.SIGKILL
        assert killed >= 2
        process = start(tmp_path / "s")
        process.join(PATIENCE)
        assert process.exitcode == 0
    for name in (candidates.TABLE, candidates.SELECTION):
        assert (tmp_path / "s" / name).read_text() == (
            tmp_path / "whole" / name
        ).read_text()
    for part in ("sweep/*", "final/*", "selected"):
        for folder in (tmp_path / "whole").glob(part):
            other = tmp_path / "s" / folder.relative_to(tmp_path / "whole")
            expected = records.read(folder)
            assert_frame_equal(records.read(other), expected, check_exact=True)
