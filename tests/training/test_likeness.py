"""Likeness of tasks of a workdir, against inputs and trunks taken by hand."""

import re

import jax
import numpy as np
import pytest

from mtl_jax.analysis.grouping import covariance_similarity
from mtl_jax.metrics import linear_cka
from mtl_jax.storage import checkpoint, lock
from mtl_jax.training import likeness as module
from mtl_jax.training.compile import state_shapes
from mtl_jax.training.likeness import likeness
from mtl_jax.training.resolve import resolve
from tests import small
from tests.experiments.test_bad_input import only_message

VARIANTS = ("single", "multi", "multi:pairs")
CHANGES = {"variants": VARIANTS, "data.relation": "transformed"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("likeness")
    with small.compiled_once(folder / "cache"):
        changes = {name.replace(".", "__"): value for name, value in CHANGES.items()}
        yield small.run(folder / "run", **changes)


@pytest.fixture(scope="module")
def table(run):
    said = []
    made = likeness(run.path, said.append)
    assert said == [
        "overlap: no two tasks share an input; affinity and cosines of gradients mean "
        "little."
    ]
    return made


def test_likeness_is_that_of_inputs_and_trunks(run, table):
    made = resolve(small.config(CHANGES))
    assert (table[table["predictor"] == "overlap"]["value"] == 0).all()
    x, tasks = made.setting.data.x, made.setting.tasks
    dense = covariance_similarity([x[rows] for rows in made.splits["probe"]])
    index = ["predictor", "seed", "target", "auxiliary"]
    values = table.set_index(index)["value"]
    assert values["covariance", -1, tasks[0], tasks[2]] == pytest.approx(dense[0, 2])
    shapes = [state_shapes(made.setting, variant) for variant in made.variants]
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    with checkpoint.open_manager(run.path, 1) as saved:
        restored = checkpoint.read(saved, 12, like, print)
    assert restored is not None
    state = restored[0]
    single = made.variants[0]
    pool = x[module._pool(made)].reshape(-1, 64) / np.float32(255)

    def features(seed, task):
        (place,) = np.flatnonzero(
            (single.seeds == seed) & (single.task_ids[:, 0] == task)
        )
        (layer,) = jax.tree.map(lambda leaf: leaf[place], state.params.shared).values()
        return np.maximum(pool @ layer["kernel"] + layer["bias"], 0)

    for seed in (0, 1):
        by_hand = linear_cka(features(seed, 0), features(seed, 2))
        value = values["cka", seed, tasks[0], tasks[2]]
        assert value == pytest.approx(float(by_hand), abs=1e-4)


def told(arguments, log):
    """Run the command; its exit code, and what it printed."""
    process = small.fork(arguments, log, command="group")
    process.join(60)
    return process.exitcode, (log / "out").read_text(), (log / "err").read_text()


def test_the_command_prints_and_goes_on_without_data(run, tmp_path):
    workdir = f"--workdir={run.path}"
    code, out, err = told([workdir, "--by=hoa,cka"], tmp_path / "log")
    assert (code, err) == (0, "")
    assert "pairs: a task has at most 2 such groups" in out
    assert "trunks" in out and "Best groups (at most 2 models)" in out
    with lock.hold(run.path):
        code, out, _ = told([workdir, "--budget=1"], tmp_path / "log")
    assert code == 0 and "Best groups (at most 1 models)" in out
    assert re.search("cka, covariance, overlap: workdir .* is in use", out)
    assert "tag: not in the records; it needs" in out
    message = only_message(*told([workdir, "--by=hao"], tmp_path / "log"))
    assert "predictor 'hao' is not one of: hoa, " in message
    assert message.endswith("did you mean 'hoa'?")


def test_runs_without_single_tasks_have_no_trunks_to_compare(run, tmp_path):
    del run  # for its cache
    made = small.run(tmp_path / "run", variants=("multi",), seeds=(0,))
    said = []
    table = likeness(made.path, said.append)
    assert set(table["predictor"]) == {"covariance", "overlap"}
    assert said[1:] == [
        "cka: no checkpoint of single-task runs; train the variant single."
    ]
