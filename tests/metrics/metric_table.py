"""Metrics by name, as functions of what may be mapped, cast or scaled.

That is the parameters of one task of one run, its batch, and a key. A new metric goes
into `table`, and so into all tests of what holds for every metric.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from mtl_jax import tree
from mtl_jax.gradients.gramian import gramian
from mtl_jax.metrics import precision
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
from mtl_jax.metrics.covariance import gradient_covariance
from mtl_jax.metrics.fisher import ESTIMATORS, fisher_diagonal, fisher_trace
from mtl_jax.metrics.hessian import (
    gauss_newton_operator,
    hessian_operator,
    power_iteration,
    spectrum,
    top_eigenvalue,
    trace,
)
from mtl_jax.metrics.sharpness import Ball, average_sharpness, sharpness, sharpness_in
from mtl_jax.metrics.similarity import linear_cka, pairwise_cka
from mtl_jax.objectives.losses import SOFTMAX
from mtl_jax.types import Batch, Params

R, T, N = 3, 2, 16  # runs, tasks, examples in two mini-batches
SIZE: Any = {"batch_size": 8}
NO_METRICS = ("line", "plane")


class Layer(NamedTuple):
    w: Any
    b: Any


def a_run(key):
    """Make two tasks on a trunk of a dict, a tuple and a NamedTuple."""
    keys = jax.random.split(key, 4)
    normal = jax.random.normal
    first = Layer(normal(keys[0], (3, 4)), normal(keys[1], (4,)))
    scale = 1 + 0.1 * normal(keys[2], (4,))
    return Params({"layers": (first, (scale,))}, {"w": normal(keys[3], (T, 4, 3))})


def moved(params):
    """Return other parameters; no bit is lost on the way, whatever their type."""
    return jax.tree.map(lambda leaf: jnp.where(leaf > 0, leaf / 2, -2 * leaf), params)


def table(view, scale=1):
    """Make metrics by name, of parameters that ``view`` makes a `Params`.

    The loss is multiplied by ``scale``.
    """

    def features(p, x):
        first, (scale,) = view(p).shared["layers"]
        return jnp.tanh(x @ first.w + first.b[None]) * scale[None]

    def predict(p, x):
        return features(p, x) @ view(p).heads["w"]

    def output_loss(outputs, b):
        return scale * SOFTMAX.example_loss(outputs, b.y).mean()

    def loss_fn(p, b):
        return output_loss(predict(p, b.x), b)

    def groups(p, b):
        """Compute gradients of four groups of examples, as of tasks: ``[4, ...]``."""
        parts = jax.tree.map(lambda leaf: leaf.reshape(4, 4, *leaf.shape[1:]), b)
        of_groups = jax.vmap(jax.grad(loss_fn), (None, 0))
        grads = of_groups(*precision.raised((p, parts)))
        return jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), grads, p)

    def gram(p, b):
        return gramian(groups(p, b))

    hessian = hessian_operator(loss_fn)
    gauss_newton = gauss_newton_operator(lambda p, b: predict(p, b.x), output_loss)

    def product(operator):
        return lambda p, b: ravel_pytree(operator(p, b, moved(p)))[0]

    def curvature(fn, operator, **options):
        return lambda p, b, k: fn(operator, p, b, key=k, **SIZE, **options)

    def moments(p, b, k):
        """Compute moments of the matrix, for nodes of weight 0 are anywhere."""
        density = curvature(spectrum, hessian, draws=2, iterations=6)(p, b, k)
        each = (jnp.ones_like(density.nodes), density.nodes, jnp.abs(density.nodes))
        return [(density.weights * values).sum(axis=-1) for values in each]

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

    def diagonal(p, b, k):
        made = fisher_diagonal(predict, SOFTMAX, p, b.x, key=k, **SIZE)
        return ravel_pytree(made)[0]

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
        "gradient_covariance": lambda p, b: gradient_covariance(
            loss_fn, p, b, batch_size=4, population=100
        ),
        "batch_cosines": lambda p, b: batch_cosines(loss_fn, p, b, **SIZE),
        "stiffness": cosines_of_halves,
        "gsnr": lambda p, b: gsnr(loss_fn, p, b, **SIZE),
        "conflict": lambda p, b: conflict(gram(p, b)),
        "split_half_cosines": lambda p, b: split_half_cosines(
            groups(p, b),
            jax.tree.map(lambda g, h: g + h / 4, groups(p, b), groups(moved(p), b)),
        ),
        "direction_cosines": lambda p, b: direction_cosines(groups(p, b), moved(p)),
        "multi_task_curvature": lambda p, b: multi_task_curvature(
            jnp.ones(4, jnp.float32), jnp.ones(4, jnp.float32), groups(p, b), moved(p)
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
        "pairwise_cka": lambda p, b: pairwise_cka(
            jnp.stack([features(p, b.x), features(moved(p), b.x)])
        ),
    }
    with_key = {
        "average_sharpness": lambda p, b, k: average_sharpness(
            loss_fn, p, b, key=k, rho=0.1, draws=3, **SIZE
        ),
        "top_eigenvalue": curvature(top_eigenvalue, hessian, iterations=12),
        "power_iteration": curvature(power_iteration, gauss_newton, iterations=5),
        "trace": curvature(trace, gauss_newton, draws=3),
        "spectrum": moments,
        "fisher_diagonal": diagonal,
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


def at(stacked, *index):
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def task_of_run(run, task):
    """Return parameters, batch and key of a task of a run."""
    shared, heads = RUNS
    params = Params(at(shared, run), at(heads, run, task))
    return params, at(BATCHES, task), KEYS[run]
