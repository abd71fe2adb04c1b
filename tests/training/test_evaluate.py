"""Tasks of unlike sizes and scores, looked at in rounds."""

import collections
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mtl_jax.data import Dataset
from mtl_jax.devices.axis_map import sequential
from mtl_jax.objectives.losses import OBJECTIVES
from mtl_jax.training import evaluate, record_rows
from mtl_jax.training.setting import from_dataset
from mtl_jax.training.step import data_pool
from mtl_jax.training.variants import Label, Variant
from tests.tiny import MLP, D, with_methods

T, B = 3, 4
SIZES = {"validation": (3, 19, 8), "test": (13, 3, 6)}
ROUNDS = {"validation": 5, "test": 4}
OBJECTIVES_OF = ("softmax_matthews", "gaussian_correlation", "softmax_f1")
MAPS = {"vmap": jax.vmap, "sequential": sequential}
TEAMS = {"multi": [[0, 1, 2], [2, 0, 1]], "single": [[0], [1], [2]]}


@functools.cache
def unlike(one_input=False):
    """A task of 2 classes, one of numbers with ties, one of 3 classes."""
    rng = np.random.default_rng(0)
    pool = 100
    kinds = np.array([2, 5, 3])
    y = rng.integers(kinds, size=(pool, T)).astype(np.float32)
    y[:, 1] /= 2
    if one_input:
        rows = {
            split: (rng.permutation(pool)[: sizes[0]],) * T
            for split, sizes in SIZES.items()
        }
    else:  # every third example is a task's
        y = y[np.arange(pool), np.arange(pool) % T]
        rows = {
            split: tuple(
                T * rng.permutation(pool // T)[:size] + task
                for task, size in enumerate(sizes)
            )
            for split, sizes in SIZES.items()
        }
    data = Dataset(
        tasks=("a", "b", "c"),
        x=rng.normal(size=(pool, D)).astype(np.float32),
        y=y,
        rows=rows,
        objectives=OBJECTIVES_OF,
        widths=(2, 1, 3),
        provenance={},
        one_input=one_input,
    )
    return from_dataset("unlike", data, MLP)


def found(one, teams, run_map, task_map):
    """`values` of every run, and its parameters."""
    teams = np.array(teams, np.int32)
    rounds = evaluate.eval_batches(one.data.rows, B)
    params, state = jax.vmap(lambda ids: one.init(jax.random.key(3), ids))(teams)
    params = jax.tree.map(lambda leaf: 3 * leaf, params)

    @jax.jit
    def sums(params, state, rows, mask, teams, data):
        own = functools.partial(evaluate.sums, one, task_map)
        mapped = run_map(own, (0, 0, None, None, 0, None))
        return mapped(params, state, rows, mask, teams, data)

    totals = sums(params, state, rounds.rows, rounds.mask, teams, data_pool(one))
    jax.effects_barrier()
    runs = [
        {
            (split, name, task): value
            for split, name, task, value in evaluate.values(
                one, jax.tree.map(lambda leaf, r=r: np.asarray(leaf[r]), totals),
                rounds, teams[r],
            )
        }
        for r in range(len(teams))
    ]  # fmt: skip
    return runs, params


def directly(one, params, split, task, place):
    """Loss and scores of one task by the libraries, of the whole split at once."""
    rows = one.data.rows[split][task]
    own = params._replace(heads=jax.tree.map(lambda leaf: leaf[place], params.heads))
    state = jax.vmap(lambda ids: one.init(jax.random.key(0), ids))(np.array([[task]]))
    state = jax.tree.map(lambda leaf: leaf[0], state[1])
    outputs = np.asarray(one.predict(own, state, one.data.x[rows]))
    y = one.data.y[rows, task] if one.data.one_input else one.data.y[rows]
    width = one.data.widths[task]
    outputs = outputs[:, 0] if width == 1 else outputs[:, :width]
    objective = OBJECTIVES[OBJECTIVES_OF[task]]
    loss = np.mean(objective.example_loss(jnp.asarray(outputs), jnp.asarray(y)))
    if width == 1:
        scores = {
            "pearson": stats.pearsonr(outputs, y)[0],
            "spearman": stats.spearmanr(outputs, y)[0],
            "mse": np.mean((outputs - y) ** 2),
        }
        return {"loss": loss, **scores}
    predicted = outputs.argmax(axis=1)
    accuracy = metrics.accuracy_score(y, predicted)
    if width == 2:
        matthews = metrics.matthews_corrcoef(y, predicted)
        return {"loss": loss, "accuracy": accuracy, "matthews": matthews}
    f1: Any = metrics.f1_score
    own = f1(y, predicted, labels=[1], average="macro", zero_division=0)
    return {"loss": loss, "accuracy": accuracy, "f1": own}


@pytest.mark.parametrize(
    ("one_input", "team", "run_map", "task_map"),
    [
        (False, "multi", "vmap", "vmap"),
        (False, "multi", "sequential", "vmap"),
        (False, "multi", "sequential", "sequential"),
        (False, "single", "vmap", "sequential"),
        (False, "single", "sequential", "vmap"),
        (True, "multi", "vmap", "vmap"),
        (True, "single", "sequential", "sequential"),
    ],
)
def test_values_are_those_of_whole_splits(one_input, team, run_map, task_map):
    one, teams = unlike(one_input), TEAMS[team]
    runs, params = found(one, teams, MAPS[run_map], MAPS[task_map])
    for r, team in enumerate(teams):
        own = jax.tree.map(lambda leaf, r=r: leaf[r], params)
        expected = {
            (split, name, task): value
            for split in SIZES
            for place, task in enumerate(team)
            for name, value in directly(one, own, split, task, place).items()
        }
        assert runs[r].keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(
                runs[r][key], value, rtol=1e-5, atol=1e-6, err_msg=str(key)
            )


def counted(one, calls):
    def predict(params, state, x):
        jax.debug.callback(lambda: calls.append(1))
        return one.predict(params, state, x)

    return with_methods(one, predict=predict)


def rounds_of(task):
    return sum(-(-sizes[task] // B) for sizes in SIZES.values())


@pytest.mark.parametrize(
    ("teams", "task_map"),
    [([[0, 1, 2]], sequential), ([[0], [1], [2]], sequential), ([[0], [1]], jax.vmap)],
    ids=["tasks", "single", "single_by_vmap"],
)
def test_rounds_of_nothing_but_filling_cost_nothing(teams, task_map):
    calls = []
    found(counted(unlike(), calls), teams, sequential, task_map)
    assert len(calls) == sum(rounds_of(task) for team in teams for task in team)
    assert len(calls) < sum(ROUNDS.values()) * sum(map(len, teams))


def flops():
    """Of a look at three tasks of one input, side by side."""
    one = unlike(one_input=True)
    ids = np.arange(T, dtype=np.int32)
    params, state = one.init(jax.random.key(0), jnp.asarray(ids))
    rounds = evaluate.eval_batches(one.data.rows, B)
    own = functools.partial(evaluate.sums, one, jax.vmap)
    args = params, state, rounds.rows, rounds.mask, ids, data_pool(one)
    costs: Any = jax.jit(own).lower(*args).compile().cost_analysis()
    return costs["flops"]


def test_tasks_of_one_input_share_the_trunk_under_vmap(monkeypatch):
    """Skipping must not make a copy of it for every task."""
    skipping = flops()
    monkeypatch.setattr(evaluate, "_where_any", lambda f: f)
    np.testing.assert_allclose(skipping, flops(), rtol=0.01)


def test_rows_name_what_a_task_has_in_the_order_of_its_objective():
    one = unlike()
    teams = np.array([[2, 0, 1]], np.int32)
    rounds = evaluate.eval_batches(one.data.rows, B)
    params, state = one.init(jax.random.key(0), teams[0])
    args = params, state, rounds.rows, rounds.mask, teams[0], data_pool(one)
    totals = jax.jit(functools.partial(evaluate.sums, one, sequential))(*args)
    totals = jax.tree.map(lambda leaf: np.asarray(leaf)[None], totals)
    none: Any = None
    labels = (Label("multi", 0),)
    variant = Variant(
        "multi", "sum", none, teams, np.zeros(1), np.zeros(1), labels, jax.vmap
    )
    fields = "run step split task name value direction unit"
    row_of: Any = collections.namedtuple("Kept", fields, defaults=(0, ""))
    runs = np.arange(1)
    rows: Any = list(record_rows.values(row_of, one, variant, 7, runs, totals, rounds))
    for task, objective in enumerate(OBJECTIVES_OF):
        names = ["loss", *OBJECTIVES[objective].scores]
        for split in SIZES:
            here = (7, split, task)
            kept = [row for row in rows if (row.step, row.split, row.task) == here]
            assert [row.name for row in kept] == names
