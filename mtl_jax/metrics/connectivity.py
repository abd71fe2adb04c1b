"""The loss between solutions: on the line between two, on the plane through three.

A point is a weighted sum of *corners* (pytrees of one structure) with weights that add
up to 1: a line has two corners, a plane three.

>>> import jax.numpy as jnp
>>> def loss_fn(params, batch):  # two valleys, at -1 and 1
...     return jnp.mean(batch) * (params**2 - 1) ** 2
>>> single, multi, batch = jnp.array(-1.0), jnp.array(1.0), jnp.ones((8, 1))
>>> path = barrier(loss_fn, single, multi, batch, points=5)
>>> path.losses.tolist(), float(path.value)
([0.0, 0.5625, 1.0, 0.5625, 0.0], 1.0)
>>> corners = jnp.array(0.0), single, multi  # initialisation, single-task, multi-task
>>> weights = plane(jnp.linspace(0, 1, 3), jnp.linspace(0, 1, 2))
>>> losses_at(loss_fn, corners, weights, batch).shape
(3, 2)
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax import tree
from mtl_jax.metrics import precision, probe
from mtl_jax.types import Array, InputError, LossFn, PyTree, Scalar


class Barrier(NamedTuple):
    """The loss on the line from one solution to another."""

    value: Scalar
    """Largest rise above the straight line between the losses at the ends, nats; at
    least 0, and NaN if a loss on the way is."""
    coordinates: Array
    """``alpha`` of every point ``[P]``: 0 is the first solution, 1 the second."""
    losses: Array
    """``[P]``, nats."""


def barrier(
    loss_fn: LossFn,
    first: PyTree,
    second: PyTree,
    batch: PyTree,
    *,
    points: int = 30,
    refresh: Callable[[PyTree], PyTree] | None = None,
    batch_size: int = 128,
) -> Barrier:
    """Return the loss barrier between two solutions over the probe, and its curve.

    ``max_alpha L((1 - alpha) first + alpha second) - [(1 - alpha) L(first) + alpha
    L(second)]`` (Entezari et al., 2022, section 2), for ``points`` equally spaced
    alphas in [0, 1] with both ends (30 as in Frankle et al., 2020, section 2; their
    error barrier is that of a ``loss_fn`` that counts errors).

    Cost: as `losses_at` at ``points`` points.

    Args:
      loss_fn: as in `losses_at`.
      first: solution at ``alpha = 0``, any pytree of floats.
      second: solution at ``alpha = 1``, of the same structure.
      batch: leaves ``[N, ...]``.
      points: on the line.
      refresh: as in `losses_at`.
      batch_size: of the mini-batches.

    Raises:
      InputError: fewer than two points.
    """
    if points < 2:
        raise InputError(f"points is {points}; a line needs at least its 2 ends.")
    first, second = precision.raised((first, second))
    alphas = jnp.linspace(0, 1, points, dtype=precision.dtype_of((first, second)))
    losses = losses_at(
        loss_fn,
        (first, second),
        line(alphas),
        batch,
        refresh=refresh,
        batch_size=batch_size,
    )
    rises = losses - ((1 - alphas) * losses[0] + alphas * losses[-1])
    return Barrier(rises.max(), alphas, losses)


def line(xs: Array) -> Array:
    """Weigh two corners ``[X, 2]`` at every ``x``: 0 is the first, 1 the second.

    Values below 0 and above 1 go beyond the corners.

    >>> line(jnp.array([0.0, 0.25])).tolist()
    [[1.0, 0.0], [0.75, 0.25]]
    """
    return jnp.stack([1 - xs, xs], axis=-1)


def plane(xs: Array, ys: Array) -> Array:
    """Return weights ``[X, Y, 3]`` of a grid: ``c0 + x (c1 - c0) + y (c2 - c0)``.

    The axes are those of the corners: in general neither orthogonal nor of one scale.
    """
    x, y = jnp.meshgrid(xs, ys, indexing="ij")
    return jnp.stack([1 - x - y, x, y], axis=-1)


def losses_at(
    loss_fn: LossFn,
    corners: Sequence[PyTree],
    weights: Array,
    batch: PyTree,
    *,
    refresh: Callable[[PyTree], PyTree] | None = None,
    batch_size: int = 128,
) -> Array:
    """Return losses ``[...]`` over the probe at weighted sums of the corners, nats.

    Batch statistics of the corners say nothing of a point between them. Recompute
    them there: ``refresh`` makes of a point, once, whatever ``loss_fn`` takes. For a
    ``loss_fn((params, state), batch)`` in evaluation mode it is ``lambda params:
    (params, statistics(params))``, with a ``statistics`` that you close over training
    inputs. Without it ``loss_fn`` takes the point itself.

    Cost: one forward pass over all examples per point, and ``refresh``; memory for one
    copy of every corner.

    Args:
      loss_fn: ``(point, batch) -> mean loss``, or ``(refresh(point), batch)``.
      corners: ``K`` pytrees of floats, of one structure.
      weights: ``[..., K]``, from `line`, `plane` or your own.
      batch: leaves ``[N, ...]``.
      refresh: point to what ``loss_fn`` takes.
      batch_size: of the mini-batches.

    Raises:
      InputError: weights that are not one a corner.
    """
    if weights.shape[-1] != len(corners):
        raise InputError(
            f"weights are {weights.shape} for {len(corners)} corners; their last axis "
            f"must have one weight a corner."
        )
    corners, batch = precision.raised((tuple(corners), batch))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *corners)

    def at(weights: Array) -> Array:
        point = tree.combine(weights, stacked)
        params = point if refresh is None else refresh(point)
        return probe.mean_batches(lambda part: loss_fn(params, part), batch, batch_size)

    with jax.default_matmul_precision("highest"):
        losses = lax.map(at, weights.reshape(-1, len(corners)))
    return losses.reshape(weights.shape[:-1])
