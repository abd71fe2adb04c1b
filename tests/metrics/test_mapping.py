"""Metrics under jit and vmap, on pytrees of any structure, are the loop.

That the jitted one is right, the other tests say, which compare without jit.
"""

import inspect
from typing import Any

import chex
import jax
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import metrics
from mtl_jax.types import OWN_INPUTS, TASK_AXES
from tests.metrics.metric_table import (
    BATCHES,
    KEYS,
    NO_METRICS,
    RUNS,
    R,
    T,
    at,
    table,
    task_of_run,
)

DRAWS_BY_LEAF = ("average_sharpness",)  # other noise for another structure

METRICS = table(lambda p: p)
JITTED: Any = {
    name: jax.jit(chex.assert_max_traces(metric, n=1))
    for name, metric in METRICS.items()
}
NAMES = pytest.mark.parametrize("name", METRICS)


@pytest.fixture(autouse=True)
def count_traces_anew():
    chex.clear_trace_counter()  # it counts by the place in the source


def assert_same(actual, expected):
    assert all(leaf.size for leaf in jax.tree.leaves(actual))
    chex.assert_trees_all_close(actual, expected, rtol=2e-4, atol=2e-5)


@NAMES
def test_vmapped_over_runs_and_seeds_and_tasks_is_the_loop(name):
    over_tasks = jax.vmap(METRICS[name], (TASK_AXES, OWN_INPUTS, None))
    mapped = jax.jit(jax.vmap(over_tasks, (0, None, 0)))(RUNS, BATCHES, KEYS)
    for run in range(R):
        for task in range(T):
            assert_same(at(mapped, run, task), JITTED[name](*task_of_run(run, task)))


@NAMES
def test_structure_of_the_parameters_does_not_matter(name):
    # The same numbers where the parameters are one flat vector.
    if name in DRAWS_BY_LEAF:
        pytest.skip("draws noise leaf by leaf")
    params, batch, key = task_of_run(0, 0)
    flat, unravel = ravel_pytree(params)
    flattened = jax.jit(table(unravel)[name])(flat, batch, key)
    assert_same(flattened, JITTED[name](params, batch, key))


def test_no_metric_is_left_out():
    public = {
        name for name in metrics.__all__ if inspect.isfunction(vars(metrics)[name])
    }
    assert public - set(NO_METRICS) <= set(METRICS)
