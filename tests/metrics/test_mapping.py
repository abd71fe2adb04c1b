"""Every metric under jit and vmap, on pytrees of any structure: it is the loop.

That the jitted one is right, the other tests say, which compare without jit.
A new metric goes into `table`, as a function of what may be mapped: the parameters of
one task of one run, its batch, and a key.
"""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import metrics, tree
from mtl_jax.losses import SOFTMAX
from mtl_jax.metrics.coherence import (
    batch_cosines,
    gsnr,
    m_coherence,
    noise_scale,
    stiffness,
)
from mtl_jax.metrics.conflict import (
    affinity,
    conflict,
    direction_cosines,
    multi_task_curvature,
    split_half_cosines,
)
from mtl_jax.metrics.connectivity import barrier, losses_at, plane
from mtl_jax.metrics.fisher import ESTIMATORS, fisher_trace
from mtl_jax.metrics.hessian import (
    gauss_newton_operator,
    hessian_operator,
    power_iteration,
    spectrum,
    top_eigenvalue,
    trace,
)
from mtl_jax.metrics.sharpness import Ball, average_sharpness, sharpness, sharpness_in
from mtl_jax.metrics.similarity import linear_cka
from mtl_jax.types import OWN_INPUTS, TASK_AXES, Batch, Params

R, T, N = 3, 2, 16  # runs, tasks, examples in two mini-batches
SIZE: Any = {"batch_size": 8}
NO_METRICS = ("line", "plane")
DRAWS_BY_LEAF = ("average_sharpness",)  # other noise for another structure


class Layer(NamedTuple):
    w: Any
    b: Any


def a_run(key):
    """Two tasks on a trunk of a dict, a tuple and a NamedTuple."""
    keys = jax.random.split(key, 4)
    normal = jax.random.normal
    first = Layer(normal(keys[0], (3, 4)), normal(keys[1], (4,)))
    scale = 1 + 0.1 * normal(keys[2], (4,))
    return Params({"layers": (first, (scale,))}, {"w": normal(keys[3], (T, 4, 3))})


def moved(params):
    return jax.tree.map(lambda leaf: jnp.sin(3 * leaf), params)


def table(view):
    """Metrics by name, of parameters that ``view`` makes a `Params`."""

    def features(p, x):
        first, (scale,) = view(p).shared["layers"]
        return jnp.tanh(x @ first.w + first.b[None]) * scale[None]

    def predict(p, x):
        return features(p, x) @ view(p).heads["w"]

    def output_loss(outputs, b):
        return SOFTMAX.example_loss(outputs, b.y).mean()

    def loss_fn(p, b):
        return output_loss(predict(p, b.x), b)

    def groups(p, b):
        """Gradients of four groups of examples, as if of tasks: ``[4, ...]``."""
        parts = jax.tree.map(lambda leaf: leaf.reshape(4, 4, *leaf.shape[1:]), b)
        return jax.vmap(jax.grad(loss_fn), (None, 0))(p, parts)

    hessian = hessian_operator(loss_fn)
    gauss_newton = gauss_newton_operator(lambda p, b: predict(p, b.x), output_loss)

    def product(operator):
        return lambda p, b: ravel_pytree(operator(p, b, moved(p)))[0]

    def curvature(fn, operator, **options):
        return lambda p, b, k: fn(operator, p, b, key=k, **SIZE, **options)

    def moments(p, b, k):
        """Nodes of weight 0 are anywhere; moments are those of the matrix."""
        found = curvature(spectrum, hessian, draws=2, iterations=6)(p, b, k)
        powers = (found.nodes**power for power in (0, 1, 2))
        return [(found.weights * values).sum(axis=-1) for values in powers]

    def sharpness_in_two(p, b):
        balls = [Ball("l2", jax.tree.map(jnp.abs, p))]
        balls += [Ball("linf", jax.tree.map(jnp.ones_like, p))]
        return sharpness_in(balls, loss_fn, p, b, rho=0.1, steps=3, **SIZE)

    def fishers(p, b, k):
        return [
            fisher_trace(
                predict,
                SOFTMAX,
                p,
                b.x,
                key=k,
                targets=b.y if name == "empirical" else None,
                estimator=name,
                **SIZE,
            )
            for name in ESTIMATORS
        ]

    def affinities(p, b):
        losses_of = lambda q: jnp.stack([loss_fn(q, b), 1 + tree.dot(q, q)])  # noqa: E731
        return affinity(losses_of, p, jax.tree.map(lambda g: g[:2], groups(p, b)), 0.1)

    def cosines_of_halves(p, b):
        halves = (
            jax.tree.map(lambda leaf, s=s: leaf[s], b)
            for s in (slice(0, 9), slice(9, N))
        )
        return stiffness(loss_fn, p, *halves).cosines  # a sign hangs on the last bit

    without_key = {
        "sharpness": lambda p, b: sharpness(loss_fn, p, b, rho=0.1, **SIZE),
        "sharpness_in": sharpness_in_two,
        "hessian_operator": product(hessian),
        "gauss_newton_operator": product(gauss_newton),
        "m_coherence": lambda p, b: m_coherence(loss_fn, p, b, **SIZE),
        "noise_scale": lambda p, b: noise_scale(loss_fn, p, b, batch_size=4),
        "batch_cosines": lambda p, b: batch_cosines(loss_fn, p, b, **SIZE),
        "stiffness": cosines_of_halves,
        "gsnr": lambda p, b: gsnr(loss_fn, p, b, **SIZE),
        "conflict": lambda p, b: conflict(tree.gram(groups(p, b))),
        "split_half_cosines": lambda p, b: split_half_cosines(
            groups(p, b), jax.tree.map(lambda g: g + 0.1, groups(p, b))
        ),
        "direction_cosines": lambda p, b: direction_cosines(groups(p, b), moved(p)),
        "multi_task_curvature": lambda p, b: multi_task_curvature(
            jnp.arange(4.0), jnp.ones(4), groups(p, b), moved(p)
        ),
        "affinity": affinities,
        "barrier": lambda p, b: barrier(loss_fn, p, moved(p), b, points=4, **SIZE),
        "losses_at": lambda p, b: losses_at(
            loss_fn,
            (p, moved(p), moved(moved(p))),
            plane(jnp.linspace(0, 1, 3), jnp.linspace(0, 1, 2)),
            b,
            **SIZE,
        ),
        "linear_cka": lambda p, b: [
            linear_cka(features(p, b.x), features(moved(p), b.x), debiased=debiased)
            for debiased in (False, True)
        ],
    }
    with_key = {
        "average_sharpness": lambda p, b, k: average_sharpness(
            loss_fn, p, b, key=k, rho=0.1, draws=3, **SIZE
        ),
        "top_eigenvalue": curvature(top_eigenvalue, hessian, iterations=12),
        "power_iteration": curvature(power_iteration, gauss_newton, iterations=5),
        "trace": curvature(trace, gauss_newton, draws=3),
        "spectrum": moments,
        "fisher_trace": fishers,
    }
    keyless = lambda fn: lambda p, b, unused: fn(p, b)  # noqa: ARG005, E731
    return with_key | {name: keyless(fn) for name, fn in without_key.items()}


RUNS = jax.vmap(a_run)(jax.random.split(jax.random.key(1), R))
RNG = np.random.default_rng(0)
BATCHES = Batch(
    jnp.asarray(RNG.normal(size=(T, N, 3)), jnp.float32),
    jnp.asarray(RNG.integers(0, 3, size=(T, N))),
)
KEYS = jax.random.split(jax.random.key(2), R)
METRICS = table(lambda p: p)
JITTED: Any = {name: jax.jit(metric) for name, metric in METRICS.items()}
NAMES = pytest.mark.parametrize("name", METRICS)


def at(stacked, *index):
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def one(run, task):
    """One task of one run."""
    shared, heads = RUNS
    params = Params(at(shared, run), at(heads, run, task))
    return params, at(BATCHES, task), KEYS[run]


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert f.size
        np.testing.assert_allclose(f, e, rtol=2e-4, atol=2e-5)


@NAMES
def test_vmapped_over_runs_and_seeds_and_tasks_is_the_loop(name):
    over_tasks = jax.vmap(METRICS[name], (TASK_AXES, OWN_INPUTS, None))
    found = jax.jit(jax.vmap(over_tasks, (0, None, 0)))(RUNS, BATCHES, KEYS)
    for run in range(R):
        for task in range(T):
            assert_same(at(found, run, task), JITTED[name](*one(run, task)))
    assert JITTED[name]._cache_size() == 1


@NAMES
def test_structure_of_the_parameters_does_not_matter(name):
    """The same numbers where the parameters are one flat vector."""
    if name in DRAWS_BY_LEAF:
        pytest.skip("draws noise leaf by leaf")
    params, batch, key = one(0, 0)
    flat, unravel = ravel_pytree(params)
    found = jax.jit(table(unravel)[name])(flat, batch, key)
    assert_same(found, JITTED[name](params, batch, key))


def test_no_metric_is_left_out():
    public = {
        name for name in metrics.__all__ if inspect.isfunction(vars(metrics)[name])
    }
    assert public - set(NO_METRICS) <= set(METRICS)
