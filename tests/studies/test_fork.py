"""ForkMerge of a run: what joins its records, and that it goes on bit for bit."""

import shutil

import jax
import numpy as np
import pytest

from mtl_jax.studies import fork as module
from mtl_jax.studies.fork import fork
from mtl_jax.types import InputError
from tests import small

TASKS = ("digits_0", "digits_1", "digits_2")
# 18.7 steps are an epoch: merges at steps 4, 7 and 11; tasks are ranked at step 4.
OPTIONS = {"topk": (0, 1, 2), "epoch_step": 0.2, "ranking_epochs": 0.2}
BARELY = {"variants": ("single",), "seeds": (0,), "learning_rates": (3e-3,)}


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """A small run of single tasks, and ForkMerge of all of them beside it."""
    folder = tmp_path_factory.mktemp("fork")
    with small.compiled_once(folder / "cache"):
        run = small.run(folder / "run", **BARELY)
        shutil.copytree(run.path, folder / "trained")
        said = []
        fork(run.path, **OPTIONS, say=said.append)
        yield folder, small.records.read(run.path), said


def rows_of(df, name, split="probe"):
    return df[(df["name"] == name) & (df["split"] == split)]


def test_every_target_is_a_variant_at_every_point(forked):
    _, df, said = forked
    single, ours = df[df["variant"] == "single"], df[df["variant"] != "single"]
    assert set(ours["variant"]) == {f"forkmerge:{task}/all" for task in TASKS}
    assert set(ours["step"]) == set(single["step"]) and len(said) == 5
    assert (ours["target"] == ours["task"]).all()
    assert set(ours["group"]) == {
        f"{task}/{'+'.join(t for t in TASKS if t != task)}" for task in TASKS
    }
    for name, split in (("loss", "test"), ("accuracy", "validation")):
        before, after = rows_of(single, name, split), rows_of(ours, name, split)
        assert len(before) == len(after) == 3 * 5
        both = before.merge(after, on=["step", "task"])
        assert (both["direction_x"] == both["direction_y"]).all()
        assert (both["value_x"] == both["value_y"])[both["step"] == 0].all()


def test_weights_of_branches_sum_to_one(forked):
    _, df, _ = forked
    names = [f"merging_coefficient/top_{k}" for k in (0, 1, 2)]
    weights = df[df["name"].isin(names)].pivot_table("value", ["task", "step"], "name")
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    # At the start branches are one. A step later the first, alone, is its target's
    # single-task run: where it is the model, it is so to the last bit.
    assert (weights.xs(0, level="step")[names[0]] == 1).all()
    early = [task for task in TASKS if weights.loc[(task, 2), names[0]] == 1]
    assert early
    for task in early:
        same = df[(df["task"] == task) & (df["step"] == 2)]
        losses = rows_of(same, "loss", "test")["value"]
        assert len(losses) == 2 and np.ptp(losses) < 1e-6


def test_tasks_are_ranked_by_short_runs_of_pairs(forked, tmp_path):
    folder, df, _ = forked
    pairs = small.run(
        tmp_path, **{**BARELY, "variants": ("multi:digits_1/each",)}, steps=4
    ).records
    here = pairs[(pairs["step"] == 4) & (pairs["task"] == "digits_1")]
    seen = {}
    for other in ("digits_0", "digits_2"):
        of_pair = here[here["variant"] == f"multi:digits_1/{other}"]
        (value,) = rows_of(of_pair, "loss", "validation")["value"]
        ranked = df[(df["name"] == f"ranking_loss/{other}") & (df["step"] == 0)]
        (loss,) = ranked[ranked["task"] == "digits_1"]["value"]
        assert loss == pytest.approx(value, rel=1e-5)
        seen[TASKS.index(other)] = loss
    stored, _ = small.checkpoint_of(folder / "run" / module.FOLDER)
    assert stored["tasks"][1].tolist() == [1, *sorted(seen, key=seen.__getitem__)]


def test_targets_may_be_named_in_any_order(forked):
    folder, _, _ = forked
    said = []
    assert fork(folder / "run", TASKS[::-1], **OPTIONS, say=said.append).step == 12
    assert said == ["forkmerge is where its run is: step 12"]


class StopsAtFourth:
    """Hears a signal at the fourth boundary: step 4, where branches are merged."""

    def __init__(self):
        self.boundaries = 0

    @property
    def number(self):
        self.boundaries += 1
        return 15 if self.boundaries == 4 else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_stopped_and_prolonged_it_ends_in_the_same_bits(forked, tmp_path, monkeypatch):
    folder, whole, _ = forked
    path = tmp_path / "run"
    run = small.run(path, **{**BARELY, "steps": 6})
    with monkeypatch.context() as patch:
        patch.setattr(module, "StopSignal", StopsAtFourth)
        outcome = fork(path, **OPTIONS, say=lambda _: None)
    assert (outcome.step, outcome.signal) == (4, 15)
    merged, _ = small.checkpoint_of(path / module.FOLDER)
    states = merged["states"]
    for leaf in jax.tree.leaves(states["params"]):
        assert (leaf.reshape(3, 3, -1) == leaf.reshape(3, 3, -1)[:, :1]).all()
    moments = [leaf for leaf in jax.tree.leaves(states["opt"]) if leaf.ndim > 1]
    assert any((leaf[0] != leaf[1]).any() for leaf in moments)
    assert fork(path, **OPTIONS, say=lambda _: None).step == 6
    small.run(path, **BARELY)
    assert fork(path, **OPTIONS, say=lambda _: None).step == 12
    ends = [small.checkpoint_of(p / module.FOLDER) for p in (path, folder / "run")]
    assert ends[0][1] == ends[1][1]
    last = [df[df["step"] == 12] for df in (small.records.read(run.path), whole)]
    keys = ["variant", "split", "task", "name"]
    values = [df.set_index(keys)["value"].sort_index() for df in last]
    assert values[0].equals(values[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"targets": "digit_0"}, "'digit_0' is not one of: digits_0"),
        ({"topk": (5, 9)}, "topk is .5, 9., of 2 auxiliary tasks: a single branch; "),
        ({"topk": (0, -1)}, "-1 is unfit: name numbers of tasks"),
        ({"epoch_step": 0}, "epoch_step is 0; it must be a positive number"),
        ({"ranking_epochs": 0.01}, "at least a step, 0.0535 of an epoch here; 0.01"),
        ({"epoch_step": 1}, "epoch_step was 0.2, now 1; give the old value to go on"),
    ],
)
def test_choices_out_of_range(forked, options, words):
    with pytest.raises(InputError, match=words):
        fork(forked[0] / "run", **{**OPTIONS, **options}, say=lambda _: None)


def test_records_that_were_made_anew_are_not_joined_by_old_models(forked, tmp_path):
    folder, _, _ = forked
    shutil.copytree(folder / "trained", tmp_path / "run")
    shutil.copytree(folder / "run" / module.FOLDER, tmp_path / "run" / module.FOLDER)
    with pytest.raises(InputError, match="was at step 12, and training has made"):
        fork(tmp_path / "run", **OPTIONS, say=lambda _: None)


def test_fewer_auxiliary_tasks_than_named_are_said(forked, tmp_path):
    shutil.copytree(forked[0] / "trained", tmp_path / "run")
    said = []
    with pytest.raises(InputError, match="no workdir"):
        fork(tmp_path / "none", say=said.append)
    assert module._sizes((0, 3, 5), 2, said.append) == [0, 2]
    assert said == ["a target has 2 auxiliary tasks: branches with 0, 2 of them"]
