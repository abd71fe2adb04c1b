"""Gradient conflict between tasks, from the Gramian of their gradients.

``gram[i, j] = <g_i, g_j>`` of the task gradients on the trunk, from `task_grads` and
`gramian.gramian`. Mini-batch noise shrinks cosines toward 0, so give big batches, or
halves to `split_half_cosines`.

>>> import jax.numpy as jnp
>>> opposed = conflict(jnp.array([[1.0, -1.0], [-1.0, 1.0]]))  # g and -g
>>> float(opposed.mean_cosine), float(opposed.negative_fraction)
(-1.0, 1.0)
>>> float(opposed.unit_mean)
0.0
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.gradients import gramian
from mtl_jax.gradients.gramian import Gramian
from mtl_jax.metrics import precision
from mtl_jax.types import Array, PyTree, Scalar


class Conflict(NamedTuple):
    """Conflict among ``T`` tasks; NaN where a gradient is zero or ``T`` is 1."""

    cosines: Array
    """``[T, T]``."""
    norms: Array
    """``|g_i|``, ``[T]``."""
    mean_cosine: Scalar
    """Over pairs of different tasks."""
    min_cosine: Scalar
    negative_fraction: Scalar
    """Fraction of pairs whose cosine is negative (conflicting: Yu et al., 2020)."""
    magnitude_similarity: Scalar
    """Mean over pairs of ``2 |g_i| |g_j| / (|g_i|^2 + |g_j|^2)`` (Yu et al., 2020)."""
    unit_mean: Scalar
    """Norm of the mean of the unit gradients (Mueller et al., 2022): larger means less
    conflict; its square is ``1 / T + (T - 1) / T * mean_cosine``."""


def conflict(gram: Gramian | Array) -> Conflict:
    """Return measures of conflict from the Gramian ``[T, T]``, or its entries."""
    gram = gramian.of(precision.raised(gram))
    num_tasks = gram.shape[0]
    cosines = gram.cosines
    norms = gram.lengths
    i, j = jnp.triu_indices(num_tasks, k=1)
    pairs = cosines[i, j]
    if num_tasks < 2:
        lowest = negative = jnp.full((), jnp.nan, gram.dtype)
    else:
        lowest = pairs.min()
        share = jnp.mean(pairs < 0, dtype=gram.dtype)
        negative = jnp.where(jnp.isnan(lowest), jnp.nan, share)
    ratio = norms[i] / norms[j]
    similarity = 2 / (ratio + 1 / ratio)
    return Conflict(
        cosines=cosines,
        norms=norms,
        mean_cosine=pairs.mean() if num_tasks > 1 else lowest,
        min_cosine=lowest,
        negative_fraction=negative,
        magnitude_similarity=similarity.mean() if num_tasks > 1 else lowest,
        unit_mean=jnp.sqrt(jnp.maximum(cosines.mean(), 0)),
    )


def split_half_cosines(first: PyTree, second: PyTree) -> Array:
    """Free cosines ``[T, T]`` of mini-batch noise, by gradients on two halves.

    ``<a_i, b_j> / sqrt(<a_i, b_i> <a_j, b_j>)``, symmetrised over the halves: noise of
    independent halves has no inner product on average. NaN where a task's own halves
    disagree (its signal is below the noise); may leave [-1, 1].

    Args:
      first: task gradients on the first halves, leaves ``[T, ...]``.
      second: on the second; where tasks share images, of other images.

    >>> first = jnp.array([[1.0, 0.0, 9.0, 0.0], [1.0, 1.0, 0.0, 0.0]])  # 9s are noise
    >>> second = jnp.array([[1.0, 0.0, 0.0, 9.0], [1.0, 1.0, 0.0, 0.0]])
    >>> round(float(split_half_cosines(first, second)[0, 1]), 3)
    0.707
    """
    cross = gramian.cross(first, second).values
    signal = jnp.diagonal(cross)
    scale = jnp.sqrt(jnp.where(signal > 0, signal, jnp.nan))
    return (cross + cross.T) / 2 / (scale[:, None] * scale[None, :])


def direction_cosines(grads: PyTree, update: PyTree) -> Array:
    """Return cosines ``[T]`` of task gradients ``[T, ...]`` with an update ``[...]``.

    The update is what is subtracted from the parameters, before or after the
    optimizer's preconditioning; positive: the task's loss falls, to first order.

    >>> grads = jnp.array([[1.0, 0.0], [0.0, -2.0]])
    >>> direction_cosines(grads, jnp.array([3.0, 0.0])).tolist()
    [1.0, 0.0]
    """
    return gramian.compared(grads, update)[1]


def multi_task_curvature(
    before: Array, after: Array, grads: PyTree, step: PyTree
) -> Array:
    """Measure the curvature ``[T]`` of the tasks' losses along a step.

    ``2 [L(t + 1) - L(t) - grad L(t)' (theta_{t+1} - theta_t)]``, nats. Source: Yu et
    al., 2020, as plotted in its Figure 4.

    Args:
      before: losses ``[T]`` at the start of a step.
      after: losses ``[T]`` on the same batch after it.
      grads: task gradients at the start, leaves ``[T, ...]``.
      step: change of the parameters ``[...]``.

    >>> losses = lambda x: jnp.array([x**2, x])  # at 1, and after a step of 0.5
    >>> grads, step = jnp.array([[2.0], [1.0]]), jnp.array([0.5])
    >>> multi_task_curvature(losses(1.0), losses(1.5), grads, step).tolist()
    [0.5, 0.0]
    """
    before, after, grads, step = precision.raised((before, after, grads, step))
    grads, scales = jax.vmap(precision.scaled)(grads)
    step, scale = precision.scaled(step)
    products = jax.vmap(lambda gradient: precision.dot(gradient, step))(grads)
    return 2 * (after - before - products * scales * scale)


def affinity(
    losses_of: Callable[[PyTree], Array],
    params: PyTree,
    grads: PyTree,
    rate: float | Array,
) -> Array:
    """Measure inter-task affinity ``[T, T]``, what a step on one does to another.

    ``1 - L_j(theta - rate g_i) / L_j(theta)``: positive where i helps j; not symmetric.
    Source: TAG, Fifty et al., 2021, Eq. 1. Cost: ``T + 1`` evaluations of all losses.

    Args:
      losses_of: trunk parameters to losses ``[T]``.
      params: trunk parameters ``[...]``.
      grads: their task gradients ``[T, ...]``.
      rate: of the lookahead step.

    >>> losses_of = lambda x: jnp.array([x**2, (x - 2) ** 2])  # opposed at x = 1
    >>> affinity(losses_of, jnp.array(1.0), jnp.array([2.0, -2.0]), 0.5).tolist()
    [[1.0, -3.0], [-3.0, 1.0]]
    """
    params, grads = precision.raised((params, grads))
    rate = jnp.asarray(rate, precision.dtype_of(params))

    def losses(params: PyTree) -> Array:
        return precision.raised(losses_of(params))

    def after(gradient: PyTree) -> Array:
        return losses(jax.tree.map(lambda p, g: p - rate * g, params, gradient))

    return 1 - jax.lax.map(after, grads) / losses(params)[None, :]
