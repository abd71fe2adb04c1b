"""Metrics under jit and vmap, on pytrees of any structure, are the loop.

That the jitted one is right, the other tests say, which compare without jit.
"""

import inspect
from typing import Any

import jax
import numpy as np
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
JITTED: Any = {name: jax.jit(metric) for name, metric in METRICS.items()}
NAMES = pytest.mark.parametrize("name", METRICS)


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for f, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert f.size
        np.testing.assert_allclose(f, e, rtol=2e-4, atol=2e-5)


@NAMES
def test_vmapped_over_runs_and_seeds_and_tasks_is_the_loop(name):
    over_tasks = jax.vmap(METRICS[name], (TASK_AXES, OWN_INPUTS, None))
    mapped = jax.jit(jax.vmap(over_tasks, (0, None, 0)))(RUNS, BATCHES, KEYS)
    for run in range(R):
        for task in range(T):
            assert_same(at(mapped, run, task), JITTED[name](*task_of_run(run, task)))
    assert JITTED[name]._cache_size() == 1


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
