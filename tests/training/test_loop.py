"""An experiment end to end, on the digits shrunk to a second (`small.CHANGES`)."""

import functools
import io
import itertools
import json

import jax
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from rich.console import Console

from mtl_jax.report import terminal_table
from mtl_jax.storage import records
from mtl_jax.storage.records import Row
from mtl_jax.training import loop as run
from mtl_jax.training.setting import load_dataset
from tests import small

RATES = (1e-3, 1e-2)
DIVERGING = 1e30
POINTS = [0, 1, 2, 5, 12]
SPLITS = ["probe", "validation", "test"]
TASKS = ["digits_0", "digits_1", "digits_2"]
KEYS = ["variant", "run", "step", "split", "task", "name"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of this module; programs that occur twice are compiled once."""
    folder = tmp_path_factory.mktemp("runs")
    with small.compiled_once(folder / "cache"):
        yield folder


@pytest.fixture(scope="module")
def reference(folder):
    return small.run(folder / "reference", learning_rates=RATES)


@pytest.fixture(scope="module")
def diverged(folder):
    """Beside the reference's first rate one that cannot go well, and a third seed."""
    rates = (RATES[0], DIVERGING)
    return small.run(folder / "diverged", learning_rates=rates, seeds=(0, 1, 2))


# A method of every family, but for those that have a test of their own.
FAMILIES = ("fixed", "famo", "pcgrad", "modo", "graddrop_rep", "pcgrad-ub")


@pytest.fixture(scope="module")
def methods(folder):
    """A method of every family; ``fixed`` looks at the first task only."""
    names = ("single", "multi", *(f"multi-{name}" for name in FAMILIES))
    return small.run(
        folder / "methods",
        variants=names,
        seeds=(0,),
        smto__name="rlw",
        smto__fixed__weights=(1.0, 0.0, 0.0),
    )


def sort(df):
    return df.sort_values(KEYS, ignore_index=True)


def at_rate(df, rate):
    return df[df["learning_rate"] == rate]


def test_records_hold_every_row_once(reference):
    runs = {"single": range(12), "multi": range(4)}  # 2 seeds x 2 rates x groups
    groups = {"single": [[t] for t in TASKS] * 4, "multi": [TASKS] * 4}
    expected = [
        (variant, run, step, split, task, name)
        for variant, numbers in runs.items()
        for run in numbers
        for task in groups[variant][run]
        for step, split, name in itertools.product(POINTS, SPLITS, ["loss", "accuracy"])
    ]
    # What the optimizers of several tasks did at the steps before.
    of_run = ["direction_norm", "solver_residual", "solver_failed", "skipped_steps"]
    of_task = ["weight", "direction_cosine"]
    expected += [
        ("multi", run, step, "train", task, name)
        for run in range(4)
        for step in POINTS
        if step > 0
        for task, names in [("", of_run), *[(task, of_task) for task in TASKS]]
        for name in names
    ]
    found = reference.records[KEYS].itertuples(index=False, name=None)
    assert sorted(found) == sorted(expected)


def test_records_have_the_columns_of_a_row(reference):
    df = reference.records
    assert tuple(df.columns) == Row._fields
    for name, kind in Row.__annotations__.items():
        if kind is str:
            assert pd.api.types.is_string_dtype(df[name])
        else:
            assert df[name].dtype == {int: np.int64, float: np.float64}[kind]


def test_constant_columns_say_what_ran(reference):
    df = reference.records
    assert set(df["setting"]) == {"digits"}
    assert set(df["batch_size"]) == {16}
    assert set(zip(df["variant"], df["smto"], strict=True)) == {
        ("single", "none"),
        ("multi", "sum"),
    }
    assert set(df["seed"]) == {0, 1}
    assert set(df["learning_rate"]) == set(RATES)
    np.testing.assert_allclose(df["epoch"], df["step"] * 16 / 299)


def test_training_lowers_the_loss(reference):
    df = at_rate(reference.records, 1e-2)
    probe = df[(df["split"] == "probe") & (df["name"] == "loss")]
    by_step = probe.groupby("step")["value"].mean()
    assert by_step[12] < 0.9 * by_step[0]


def test_one_config_gives_one_table(folder, reference):
    again = small.run(folder / "again", learning_rates=RATES)
    assert_frame_equal(again.records, reference.records, check_exact=True)


def test_run_in_a_stack_equals_the_run_alone_bit_for_bit(folder, reference):
    alone = small.run(folder / "alone", seeds=(1,), learning_rates=RATES[1:]).records
    df = at_rate(reference.records, RATES[1])
    stacked = df[df["seed"] == 1]
    # A run's number depends on its company.
    stacked, alone = (sort(df).drop(columns="run") for df in (stacked, alone))
    assert_frame_equal(stacked, alone, check_exact=True)


def test_single_and_multi_start_from_one_point(reference):
    df = reference.records
    start = df[df["step"] == 0].drop(columns=["run", "smto"])
    keys = ["seed", "learning_rate", "split", "task", "name"]
    single, multi = (
        start[start["variant"] == variant]
        .drop(columns="variant")
        .sort_values(keys, ignore_index=True)
        for variant in ("single", "multi")
    )
    assert len(single) == 2 * 2 * 3 * 3 * 2
    assert_frame_equal(single, multi, check_exact=True)


def test_seeds_and_tasks_start_from_different_points(reference):
    df = reference.records
    start = df[(df["step"] == 0) & (df["name"] == "loss") & (df["variant"] == "multi")]
    assert start["value"].nunique() == 2 * 3 * 3  # seeds, tasks, splits; not rates


def test_multi_that_weighs_one_task_trains_as_single(methods):
    """Batches, optimizer and steps are shared: only the other tasks differ."""
    df = methods.records[methods.records["split"].isin(SPLITS)]
    df = df[df["task"] == "digits_0"]
    single, fixed = (
        sort(df[df["variant"] == variant])["value"]
        for variant in ("single", "multi-fixed")
    )
    np.testing.assert_allclose(single, fixed, rtol=2e-6)


@pytest.fixture(scope="module")
def mapped(folder):
    """Make runs of loss weightings and of a Gramian one, some of which diverge."""

    @functools.cache
    def make(run_map, task_map):
        return small.run(
            folder / f"{run_map}-{task_map}",
            variants=("multi", "multi-famo", "multi-pcgrad"),
            learning_rates=(RATES[0], DIVERGING),
            run_map=run_map,
            task_map=task_map,
        )

    return make


@pytest.mark.parametrize(
    "maps", [("vmap", "sequential"), ("sequential", "vmap"), ("auto", "auto")]
)
def test_vmap_equals_one_after_another(mapped, maps):
    expected = mapped("sequential", "sequential").records
    assert_frame_equal(mapped(*maps).records, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("run_map", "what"), [("sequential", "factors"), ("vmap", "all numbers")]
)
def test_a_run_that_goes_on_with_other_devices_says_what_that_means(
    folder, monkeypatch, run_map, what
):
    path, devices = folder / f"moved-{run_map}", jax.devices()
    changes = {"run_map": run_map, "variants": ("multi",)}
    with monkeypatch.context() as patch:
        patch.setattr(run, "StopSignal", small.Stopped)
        patch.setattr(jax, "devices", lambda: devices[:1])
        assert small.run(path, **changes).said == []
    with monkeypatch.context() as patch:
        patch.setattr(run, "StopSignal", small.Stopped)
        going_on, moved = small.run(path, **changes).said
    assert going_on.startswith("going on from step 1 ")
    assert "was on 1 x cpu and goes on with 2 x cpu: " in moved
    assert f"rounding may make {what}" in moved
    assert len(small.run(path, **changes).said) == 1  # the same devices again


def test_diverged_run_is_frozen_and_marked(diverged):
    df = diverged.records
    lost = at_rate(df, DIVERGING)
    marks = df[df["name"] == "diverged"]
    assert_frame_equal(marks, lost[lost["name"] == "diverged"])  # no sound run has one
    assert marks[["variant", "run"]].drop_duplicates().shape == marks[KEYS[:2]].shape
    assert len(marks) == 3 * (3 + 1)
    assert set(marks["step"]) == {1}  # the second update: the first is finite
    assert set(zip(marks["split"], marks["task"], strict=True)) == {("train", "")}
    values = lost[lost["name"] != "diverged"]
    assert set(values["step"]) == {0, 1}  # nothing is said of a frozen run


def test_diverged_run_harms_no_other(diverged, reference):
    df = at_rate(diverged.records, RATES[0])
    sound = df[df["seed"] < 2]
    # Runs are numbered seed by seed, so a third seed leaves the numbers as they are.
    expected = at_rate(reference.records, RATES[0])
    assert_frame_equal(sort(sound), sort(expected), check_exact=True)


def test_closing_table_shows_single_against_multi(diverged):
    text = io.StringIO()
    Console(file=text, width=160).print(terminal_table.table(diverged.records))
    rows = [line.split() for line in text.getvalue().splitlines()]
    shown = {tuple(row[:3]) for row in rows if row and row[0] in ("single", "multi")}
    means = {(v, "0.001", task) for v in ("single", "multi") for task in TASKS}
    assert means < shown
    assert "step 12: mean ± s.d. over 3 seeds" in text.getvalue()
    assert text.getvalue().count("diverged at step 1\n".strip()) == 12
    df = diverged.records
    one = df[
        (df["variant"] == "multi")
        & (df["step"] == 12)
        & (df["split"] == "test")
        & (df["task"] == "digits_1")
        & (df["name"] == "loss")
    ]["value"]
    (row,) = (row for row in rows if row[:3] == ["multi", "0.001", "digits_1"])
    assert len(one) == 3
    assert row[7:9] == [f"{one.mean():.3f}", f"±{one.std():.3f}"]


def test_loss_levels_add_points_at_chunk_ends(folder):
    changes = {
        "trajectory__dense": 0,
        "trajectory__count": 1,
        "learning_rates": (0.02,),
    }
    every = {
        "checkpoint__every": 1,
        "checkpoint__keep_last": 99,
        "steps_per_dispatch": 3,
    }
    level = 2.25
    plain = small.run(folder / "plain", **changes, **every).records
    found = small.run(
        folder / "levels", **changes, **every, trajectory__loss_levels=(level, 1e-6)
    )
    ends = [1, 3, 6, 9, 12]
    for place, variant in enumerate(("single", "multi")):
        reached = [
            int((lowest_losses(found.path, step)[place] <= level).sum())
            for step in ends
        ]
        rises = {
            step
            for step, before, now in zip(ends, [0, *reached], reached, strict=False)
            if now > before
        }
        assert rises - {1, 12}  # or the level shows nothing
        own = found.records[found.records["variant"] == variant]
        assert set(own["step"]) == {0, 1, 12} | rises
    shared = found.records[found.records["step"].isin([0, 1, 12])]
    assert_frame_equal(sort(shared), sort(plain), check_exact=True)


def lowest_losses(path, step):
    return [state["lowest_loss"] for state in small.checkpoint_of(path, step)[0]]


def test_all_methods_run_side_by_side(methods):
    df = methods.records
    names = (*FAMILIES, "rlw")
    assert set(df["variant"]) == {"single", "multi", *(f"multi-{s}" for s in names)}
    assert np.isfinite(df["value"]).all()
    counts = df[df["split"].isin(SPLITS)].groupby("variant")["value"].count()
    assert set(counts) == {len(POINTS) * 3 * 3 * 2}
    multi = df[df["variant"].str.startswith("multi-")]
    assert (multi["variant"] == "multi-" + multi["smto"]).all()
    last = df[(df["step"] == 12) & (df["name"] == "loss") & (df["split"] == "probe")]
    # No method is another one under a false name, but for two that may be plain
    # multi-task training: sum always is, pcgrad is while no gradients conflict.
    last = last[(last["task"] == "digits_0") & (last["variant"] != "single")]
    assert last["value"].nunique() >= len(names)


def test_updates_are_recorded(methods):
    df = methods.records[methods.records["split"] == "train"]

    def of(variant, name):
        own = df[(df["variant"] == variant) & (df["name"] == name)]
        return own.pivot(index="step", columns="task", values="value")

    assert (of("multi-fixed", "weight").to_numpy() == [[1, 0, 0]] * 4).all()
    assert of("multi-famo", "weight").sum(axis=1).to_numpy() == pytest.approx(3)
    # Gradients that nearly agree: every task gains from the direction.
    assert (of("multi-pcgrad", "direction_cosine") > 0).all(axis=None)
    assert (of("multi-pcgrad", "direction_norm") > 0).all(axis=None)
    assert (of("multi-pcgrad", "solver_residual") == 0).all(axis=None)
    assert (df[df["name"].isin(["solver_failed", "skipped_steps"])]["value"] == 0).all()
    # What looks at the representation does not make the parameters' gradients.
    assert not len(of("multi-pcgrad-ub", "direction_cosine"))


def test_smto_name_adds_its_variant(methods):
    assert json.loads((methods.path / "config.json").read_text())["smto.name"] == "rlw"
    assert methods.records["variant"].unique()[-1] == "multi-rlw"


def test_config_is_stored(reference):
    stored = json.loads((reference.path / "config.json").read_text())
    expected = {
        "setting": "digits",
        "steps": 12,
        "seeds": [0, 1],
        "learning_rates": list(RATES),
        "model.mlp.widths": [16],
        "data.relation": "same",
    }
    assert {field: stored[field] for field in expected} == expected


def test_session_is_stored(reference):
    stored = json.loads((reference.path / "run.json").read_text())
    (session,) = stored["sessions"]
    assert session["from_step"] == 0
    assert session["devices"]
    assert len(session["git_revision"].strip("+")) == 40
    for package in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
        assert session["versions"][package]
    assert stored["data"]["seed"] == 0
    assert stored["data"]["sources"]["digits"]["kind"].startswith("sklearn")


def test_splits_are_stored(reference):
    rows = load_dataset("digits").rows
    with np.load(reference.path / "splits.npz") as stored:
        names = [f"{split}/{t}" for split in (*rows, "probe") for t in range(3)]
        assert sorted(stored) == sorted(names)
        for split, per_task in rows.items():
            for task, own in enumerate(per_task):
                np.testing.assert_array_equal(stored[f"{split}/{task}"], own)
        for task, own in enumerate(rows["train"]):
            probe = stored[f"probe/{task}"]
            assert len(set(probe)) == 48
            assert set(probe) <= set(own)


def test_finished_workdir_is_left_as_it_is(reference):
    def files():
        paths = [p for p in reference.path.rglob("*") if p.is_file()]
        times = {path: path.stat().st_mtime_ns for path in paths}
        return {p: t for p, t in times.items() if p.parent.name != reference.path.name}

    before = files()
    again = small.run(reference.path, learning_rates=RATES)
    assert again.outcome == (12, None, None, {})
    assert len(again.said) == 1
    assert "12 of 12" in again.said[0]
    assert files() == before
    assert_frame_equal(again.records, reference.records, check_exact=True)


def test_a_look_may_be_enough(tmp_path):
    looks, config = [], small.config({"variants": ("multi",)})

    def enough():
        looks.append(records.steps(tmp_path / "run")[-1])
        return looks[-1] >= 2

    outcome = run.run(config, tmp_path / "run", print, enough=enough)
    assert looks[:3] == [0, 1, 2] and outcome.signal is None
    assert 2 < outcome.step < 12  # the chunk behind the look was on its way
    assert len(small.sessions(tmp_path / "run")[0]["seconds"]) > 1
