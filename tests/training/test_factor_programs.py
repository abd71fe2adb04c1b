"""Factors along trajectories: what the records say is what the metrics say."""

import dataclasses
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from pandas.testing import assert_frame_equal

from mtl_jax import metrics, models
from mtl_jax.data import Dataset
from mtl_jax.gradients.gramian import gramian
from mtl_jax.metrics import factors
from mtl_jax.metrics.factors.contract import Measured, RunMeasured
from mtl_jax.storage import records
from mtl_jax.training.compile import init_states
from mtl_jax.training.factor_programs import compile_factors
from mtl_jax.training.probes import probe_batch
from mtl_jax.training.remeasure import remeasure
from mtl_jax.training.resolve import resolve
from mtl_jax.training.setting import from_dataset
from mtl_jax.types import InputError, ModelState, Params
from tests import small

NO_STATE = ModelState({}, {})
HEADLINE = (
    "sharpness_and_covariance",
    "fisher_trace",
    "gradient_similarity",
    "conflict",
    "distance_from_start",
)
LATER = ("adaptive_sharpness", "coherence", "example_coherence", "affinity")
KEYS = ["variant", "run", "step", "split", "task", "scope", "name"]
POINTS = [0, 1, 2, 5, 12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measure")
    with small.compiled_once(folder / "cache"):
        yield folder


@pytest.fixture(scope="module")
def measured(folder):
    """Run with the headline factors, and keep all checkpoints."""
    changes = {"factors__names": HEADLINE, "checkpoint__keep_points": True}
    return small.run(
        folder / "measured", variants=("single", "multi-cagrad"), **changes
    )


@pytest.fixture(scope="module")
def replayed(folder):
    """Repeat the run without factors; measure afterwards, and then once more."""
    run = small.run(
        folder / "replayed",
        variants=("single", "multi-cagrad"),
        checkpoint__keep_points=True,
    )
    for names in (HEADLINE, LATER):
        remeasure(run.path, {"factors.names": names}, run.said.append)
    return records.read(run.path)


@pytest.fixture(scope="module")
def made(measured):
    """Resolve the experiment, to do by hand what the run has done."""
    del measured
    changes = {"factors.names": HEADLINE, "variants": ("single", "multi-cagrad")}
    return resolve(small.config(changes))


def values(df, **chosen):
    """Select a value and its error."""
    for column, value in chosen.items():
        df = df[df[column] == value]
    (row,) = df.itertuples()
    return row.value, row.standard_error


def by_hand(made, path, step):
    """Read the parameters of the second seed's run with CAGrad, and its probes."""
    state = small.checkpoint_of(path, step)[0][1]
    params = Params(
        *(
            jax.tree.map(lambda leaf: leaf[1], state["params"][k])
            for k in ("shared", "heads")
        )
    )
    batch = probe_batch(made.setting, made.splits["probe"], 0)
    return params, batch


def one_task(params, task):
    return Params(params.shared, jax.tree.map(lambda leaf: leaf[task], params.heads))


def loss_of(made):
    def loss_fn(params, batch):
        outputs = made.setting.predict(params, NO_STATE, batch[0])
        return made.setting.objective.example_loss(outputs, batch[1]).mean()

    return loss_fn


@pytest.fixture(scope="module")
def metrics_by_scope(made):
    """Compile the metrics of a task once."""
    loss_fn = loss_of(made)

    def of(fn, start, examples):
        noise = metrics.noise_scale(fn, start, examples, batch_size=16)
        covariance = metrics.gradient_covariance(fn, start, examples, batch_size=16)
        by_name = {"coherence": noise[:2], "gradient_covariance": covariance[:2]}
        for name, rho in (("linf", 1e-3), ("linf_wide", 1e-1)):
            options: Any = {"norm": "linf", "adaptive": True, "rho": rho}
            sharp = metrics.sharpness(fn, start, examples, **options)
            by_name[f"adaptive_sharpness_{name}"] = sharp[:2]
        return by_name

    @jax.jit
    def both(of_task, examples):
        trunk = lambda shared, b: loss_fn(of_task._replace(shared=shared), b)  # noqa: E731
        return {
            "task": of(loss_fn, of_task, examples),
            "shared": of(trunk, of_task.shared, examples),
        }

    return both


@pytest.mark.parametrize("task", [0, 2])
def test_task_factors_are_the_metrics_of_that_task(
    measured, made, metrics_by_scope, task
):
    params, batch = by_hand(made, measured.path, 12)
    examples = batch.x[task], batch.y[task]
    chosen = {"variant": "multi-cagrad", "run": 1, "step": 12}
    chosen["task"] = made.setting.tasks[task]
    expected = metrics_by_scope(one_task(params, task), examples)
    for scope, by_name in expected.items():
        for name, value in by_name.items():
            recorded = values(measured.records, name=name, scope=scope, **chosen)
            np.testing.assert_allclose(recorded, value, rtol=2e-3, err_msg=name)


def test_fisher_is_within_its_error_of_the_exact_one(measured, made):
    params, batch = by_hand(made, measured.path, 12)
    setting = made.setting
    for task in range(3):
        exact = metrics.fisher_trace(
            lambda p, x: setting.predict(p, NO_STATE, x),
            setting.objective,
            one_task(params, task),
            batch.x[task],
            key=jax.random.key(0),
            estimator="exact",
        ).value
        value, error = values(
            measured.records,
            variant="multi-cagrad",
            run=1,
            step=12,
            task=setting.tasks[task],
            scope="task",
            name="fisher_trace",
        )
        assert abs(value - exact) < 5 * error
        assert error < 0.5 * value


def gradients_of_trunk(made, params, batch):
    grad = jax.jit(jax.grad(loss_of(made)))
    return [
        grad(one_task(params, t), (batch.x[t], batch.y[t])).shared for t in range(3)
    ]


def test_conflict_is_that_of_the_whole_gradients(measured, made):
    params, batch = by_hand(made, measured.path, 12)
    rows = gradients_of_trunk(made, params, batch)
    gram = gramian(jax.tree.map(lambda *g: jnp.stack(g), *rows))
    cosines = np.asarray(gram.cosines)
    chosen = {"variant": "multi-cagrad", "run": 1, "step": 12, "scope": "shared"}

    def value(task, name):
        return values(measured.records, task=task, name=name, **chosen)[0]

    assert np.isclose(
        value("", "mean_cosine"), cosines[~np.eye(3, dtype=bool)].mean(), rtol=1e-3
    )
    tasks = made.setting.tasks
    for i, task in enumerate(tasks):
        others = [j for j in range(3) if j != i]
        norm = np.sqrt(gram.entries[i, i])
        assert np.isclose(value(task, "gradient_norm"), norm, rtol=1e-3)
        assert np.isclose(
            value(task, "mean_cosine"), cosines[i, others].mean(), rtol=1e-3
        )
        for j in others:
            assert np.isclose(
                value(task, f"cosine/{tasks[j]}"), cosines[i, j], atol=1e-3
            )
    # CAGrad's direction lies close to the mean gradient, at c = .4.
    towards = [value(task, "cosine_direction") for task in tasks]
    mean = cosines.mean(axis=1) / np.sqrt(cosines.mean())
    np.testing.assert_allclose(towards, mean, atol=0.35)
    assert min(value(task, "cosine_update") for task in tasks) >= -1


def test_gradient_similarity_of_large_batches_is_that_of_whole_gradients(
    measured, made
):
    # Batches of 64 are the whole probe of 48 examples.
    params, batch = by_hand(made, measured.path, 12)
    rows = gradients_of_trunk(made, params, batch)
    rows = np.stack([np.asarray(ravel_pytree(row)[0]) for row in rows])
    total = rows.sum(axis=0)
    cosines = rows @ total / np.linalg.norm(rows, axis=1) / np.linalg.norm(total)
    changes = {"factors.names": ("gradient_similarity",), "batch_size": 64}
    large = resolve(small.config({**changes, "variants": ("multi-cagrad",)}))
    state = init_states(large.setting, large.variants[0])
    (gauge,) = compile_factors(large, [state])[0]
    stored = small.checkpoint_of(measured.path, 12)[0][1]["params"]
    state = state._replace(params=Params(stored["shared"], stored["heads"]))
    similarity = gauge.measure(state).task["gradient_similarity"]
    np.testing.assert_allclose(similarity.value[1], cosines, rtol=1e-3)
    np.testing.assert_allclose(similarity.standard_error[1], 0, atol=1e-6)


def test_batches_of_a_task_are_random_parts_of_its_probe_in_any_company(made):
    batches = {"batches": lambda run: RunMeasured({}, {}, {"x": Measured(drawn(run))})}

    def drawn(run):
        return jnp.stack([run.random_batch(key).x for key in jax.random.split(run.key)])

    (_, multi), setting = made.variants, made.setting
    pair = multi._replace(task_ids=multi.task_ids[:, [2, 0]])
    few = dataclasses.replace(
        made, variants=[multi, pair], factors=factors.Factors({}, batches, {})
    )
    states = [init_states(setting, v) for v in few.variants]
    all_x, pair_x = (
        gauge.measure(state).pair["x"].value
        for (gauge,), state in zip(compile_factors(few, states), states, strict=True)
    )
    assert all_x.shape[:4] == (2, 2, 3, 16)  # runs, batches, tasks, examples
    np.testing.assert_array_equal(pair_x, all_x[:, :, [2, 0]])
    np.testing.assert_array_equal(all_x[0], all_x[1])
    probe = probe_batch(setting, made.splits["probe"], 0)
    for task in range(3):
        parts = [
            [
                (probe.x[task] == x).reshape(48, -1).all(axis=1).nonzero()[0]
                for x in part
            ]
            for part in all_x[0, :, task]
        ]
        assert all(len(places) >= 1 for part in parts for places in part)
        assert all(len({p[0] for p in part}) == 16 for part in parts)
        assert {p[0] for p in parts[0]} != {p[0] for p in parts[1]}


def test_distance_is_that_from_the_initial_parameters(measured, made):
    start, end = (by_hand(made, measured.path, step)[0] for step in (0, 12))
    chosen = {"variant": "multi-cagrad", "run": 1, "name": "distance_from_start"}
    for task in range(3):
        moved = jax.tree.map(np.subtract, one_task(end, task), one_task(start, task))
        for scope, part in (("task", moved), ("shared", moved.shared)):
            leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(part)]
            where = {**chosen, "task": made.setting.tasks[task], "scope": scope}
            value, _ = values(measured.records, step=12, **where)
            np.testing.assert_allclose(value, np.linalg.norm(np.concatenate(leaves)))
            assert values(measured.records, step=0, **where)[0] == 0


def test_every_sound_run_is_measured_at_every_point(measured):
    df = measured.records
    scoped = df[df["scope"] != ""]
    sharp = scoped[scoped["name"] == "adaptive_sharpness_linf"]
    for variant, runs in (("single", 6), ("multi-cagrad", 2)):
        rows = sharp[sharp["variant"] == variant]
        assert sorted(rows["step"].unique()) == POINTS
        assert len(rows) == len(POINTS) * 6 * 2  # tasks of runs, scopes
        assert rows["run"].nunique() == runs
    assert set(scoped[scoped["name"] == "unit_mean"]["variant"]) == {"multi-cagrad"}
    assert set(scoped["split"]) == {"probe"}
    assert np.isfinite(sharp["value"]).all()
    fisher = scoped[scoped["name"] == "fisher_trace"]
    assert (fisher["standard_error"] > 0).all()


def test_single_and_multi_start_from_the_same_numbers(measured):
    df = measured.records
    start = df[(df["step"] == 0) & (df["scope"] != "")]
    columns = ["seed", "task", "scope", "name"]
    single, multi = (
        start[start["variant"] == variant].set_index(columns)["value"]
        for variant in ("single", "multi-cagrad")
    )
    both = single.index.intersection(multi.index)
    assert len(both) == 2 * 3 * 2 * 10  # seeds, tasks, scopes, values
    np.testing.assert_array_equal(single[both], multi[both])


def test_measured_afterwards_is_measured_in_training(measured, replayed):
    names = set(measured.records["name"])
    expected, again = (
        df[df["name"].isin(names)].sort_values(KEYS, ignore_index=True)
        for df in (measured.records, replayed)
    )
    # Those of `adaptive_sharpness` and `coherence` came later, alone, in place of the
    # first values.
    again = again[again["name"].isin(names)].reset_index(drop=True)
    repeated = ["adaptive_sharpness_linf", "adaptive_gradient_l1"]
    alone = expected["name"].isin([*repeated, "coherence", "noise_scale"])
    assert_frame_equal(expected[~alone], again[~alone], check_exact=True)
    columns = ["value", "standard_error"]
    pair = expected[columns], again[columns]
    np.testing.assert_allclose(*pair, rtol=1e-3, atol=1e-7)
    assert not expected[columns].equals(again[columns])


def test_coherence_from_two_batch_sizes_is_that_of_examples(replayed):
    df = replayed.query("step == 0 and scope == 'task'")
    columns = ["variant", "run", "task"]
    estimate = df[df["name"] == "coherence"].set_index(columns)
    exact = df[df["name"] == "example_coherence"].set_index(columns)["value"]
    far = (estimate["value"] - exact[estimate.index]).abs() / estimate["standard_error"]
    assert (far < 4).all()


def test_diverged_runs_are_not_measured(folder):
    run = small.run(
        folder / "diverged",
        variants=("multi",),
        seeds=(0,),
        learning_rates=(1e-3, 1e30),
        factors__names=("conflict",),
    )
    measured = run.records[run.records["name"] == "unit_mean"]
    steps = {
        rate: set(rows["step"]) for rate, rows in measured.groupby("learning_rate")
    }
    assert steps[1e-3] == set(POINTS)
    assert steps[1e30] < set(POINTS)


def test_time_is_accounted_for(measured):
    seconds = measured.outcome.seconds
    assert set(seconds) >= {"training", "compilation", "evaluation", *HEADLINE}
    assert all(value > 0 for value in seconds.values())
    stored = small.sessions(measured.path)[-1]["seconds"]
    assert stored.keys() == seconds.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors.names": ("hesian",)}, "factor 'hesian' is not one of: sharpness"),
        ({"factors.names": ()}, "name at least one factor"),
        ({"steps": 3}, "steps cannot be changed after training"),
        (
            {"factors.sharpness_and_covariance.rho": 0.1},
            "rho was 0.001 in training, now 0.1; choose the old value",
        ),
    ],
)
def test_replay_refuses(measured, changes, message):
    before = records.read(measured.path)
    with pytest.raises(InputError, match=message):
        remeasure(measured.path, changes)
    assert_frame_equal(records.read(measured.path), before)


def test_replay_needs_a_training_run(tmp_path, measured):
    with pytest.raises(InputError, match="there is no workdir"):
        remeasure(tmp_path / "none", {})
    with pytest.raises(InputError, match="holds no training run"):
        remeasure(tmp_path, {})
    shutil.copy(measured.path / "config.json", tmp_path)
    with pytest.raises(InputError, match="holds no checkpoint of a trajectory point"):
        remeasure(tmp_path, {})


def test_replay_passes_over_a_damaged_checkpoint(measured, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(measured.path, path)
    for file in (path / "checkpoints" / "5").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    said = []
    remeasure(path, {}, said.append)
    assert any("checkpoint 5 is damaged and passed over" in line for line in said)
    assert_frame_equal(
        records.read(path).sort_values(KEYS, ignore_index=True),
        measured.records.sort_values(KEYS, ignore_index=True),
        check_exact=True,
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("names", ("sharpness", "sharpness"), "'sharpness' is named twice"),
        ("names", ("sharpnes",), "'sharpnes' is not one of: sharpness_and"),
        ("sharpness_and_covariance.rho", 0.0, "rho is 0.0; it must be positive"),
        ("fisher_trace.batch_size", -1, "batch_size is -1; it must be positive"),
        ("fisher_trace.estimator", "exac", "estimator 'exac' is not one of"),
    ],
)
def test_bad_options_of_factors(folder, field, value, message):
    with pytest.raises(InputError, match=message):
        changes = {"factors.names": HEADLINE, f"factors.{field}": value}
        small.run(folder / "bad", **changes)
    assert not (folder / "bad").exists()


APART = {
    "first": ("sharpness_and_covariance", "top_eigenvalue", "conflict"),
    "second": ("sharpness_and_coherence",),
}
"""Factors that record what others do, too."""
APART["rest"] = tuple(
    name for name in factors.FACTORS if name not in APART["first"] + APART["second"]
)


@pytest.mark.parametrize("names", APART.values(), ids=APART.keys())
def test_all_factors_where_tasks_share_their_input(names):
    """Measure two binary labels of an input, with heads of two classes."""
    rng = np.random.default_rng(0)
    rows = (np.arange(60, dtype=np.int32),) * 2
    dataset = Dataset(
        tasks=("left", "right"),
        x=rng.random((60, 4), np.float32),
        y=rng.integers(0, 2, (60, 2), dtype=np.int32),
        rows={"train": rows, "validation": rows, "test": rows},
        objectives=("softmax",) * 2,
        widths=(2, 2),
        provenance={},
        one_input=True,
    )
    changes = {"factors.names": names, "data.tasks": 2}
    curvatures = ("hessian", "gauss_newton", "top_eigenvalue")
    changes |= {f"factors.{name}.iterations": 2 for name in curvatures}
    made = resolve(small.config({**changes, "variants": ("multi",)}))
    setting = from_dataset("shared", dataset, models.make("mlp", widths=(8,)))
    probe = (rows[0][:48],) * 2
    made = dataclasses.replace(made, setting=setting, splits={"probe": probe})
    states = [init_states(setting, variant) for variant in made.variants]
    (gauges,) = compile_factors(made, states)
    assert [gauge.name for gauge in gauges] == list(names)

    def row_of(run, step, split, task, name, value, scope="", error=np.nan) -> Any:
        return run, step, split, task, name, scope, error, value

    for gauge in gauges:
        rows = gauge.rows(row_of, 0, [0, 1], gauge.measure(states[0]))
        numbers = [value for *_, value in rows]
        assert numbers and np.isfinite(numbers).all(), gauge.name


def test_names_of_factors_may_come_as_one_word():
    chosen = small.config({"factors.names": ("hessian,gauss_newton",)}).factors
    assert factors.names(chosen) == ("hessian", "gauss_newton")
    chosen.names = ("",)  # --config.factors.names=
    assert factors.names(chosen) == ()


def test_factors_that_record_the_same_are_refused():
    names = "hessian", "top_eigenvalue"
    made = resolve(small.config({"factors.names": names, "variants": ("multi",)}))
    states = [init_states(made.setting, variant) for variant in made.variants]
    words = "hessian and top_eigenvalue, and both record 'hessian_top_eigenvalue'"
    with pytest.raises(InputError, match=words):
        compile_factors(made, states)
