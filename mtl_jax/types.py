"""The words of the house: parameters, batches, losses, and the letters of axes.

Axes have fixed letters. ``R`` runs (seeds x learning rates x single tasks),
``T`` tasks of one run, ``B`` examples of a batch. Single-task training is
``T = 1``; nothing asks whether a run is multi-task.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

GROUP = ":"
"""In the name of a variant, between its method and the tasks that it trains."""
JOIN = "+"
"""Between tasks that train together."""
AUXILIARIES = "/"
"""In the name of a group, between its target and the auxiliary tasks."""
OPTION = "@"
"""In the name of a variant, in front of every option of its method."""

Array = jax.Array
PyTree = Any
Scalar = jax.Array


class Params(NamedTuple):
    """Parameters of a run: the trunk, and one head per task.

    The vmap axes of a ``Params`` over its tasks are again a ``Params``:
    `TASK_AXES`.
    """

    shared: PyTree
    """Trunk, shared by all tasks."""
    heads: PyTree
    """Heads: leaves ``[T, ...]`` for tasks alike, or a tuple of ``T`` trees
    for tasks whose heads differ in shape."""


TASK_AXES = Params(shared=None, heads=0)  # type: ignore[arg-type]


class Batch(NamedTuple):
    """Inputs and targets; its vmap axes over tasks are again a ``Batch``."""

    x: PyTree
    y: PyTree


OWN_INPUTS = Batch(x=0, y=0)
"""Axes of a batch in which every task brings its own inputs ``[T, B, ...]``."""

ONE_INPUT = Batch(x=None, y=0)
"""Axes of a batch of one input ``[B, ...]`` with ``T`` labels ``[T, B, ...]``."""


class ModelState(NamedTuple):
    """State that a pass in training mode updates beside the parameters."""

    trunk: PyTree
    """``[T, ...]`` for own inputs, ``[...]`` for one input."""
    heads: PyTree
    """``[T, ...]``."""


def state_axes(axes: Batch) -> ModelState:
    """Return the axes of a model state over tasks, from those of the batch."""
    return ModelState(trunk=axes.x, heads=0)


Config = Any
"""An ``ml_collections.ConfigDict``; its fields are unknown to a type checker."""

LossFn = Callable[..., Scalar]
"""``loss_fn(params_of_one_task, batch_of_one_task) -> scalar``: one task."""


class InputError(ValueError):
    """A user's mistake: the message names the value, the limit and the remedy.

    Entry points print it without a traceback and exit with code 2.
    """


class DataMissing(InputError):
    """A data set that is not there; the message says how to get it."""
