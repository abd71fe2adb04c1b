"""The contract between factors and runs: a probe to look at, and values by name."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.objectives.losses import Objective
from mtl_jax.types import Array, Batch, LossFn, Params, PyTree

SCOPES = ("task", "shared")


class TaskProbe(NamedTuple):
    """A task of a run and its probe, in evaluation mode."""

    loss_fn: LossFn
    """``(params of the task, batch) -> mean loss``."""
    predict: Callable[[Params, PyTree], Array]
    """``(params of the task, x) -> outputs``."""
    objective: Objective
    params: Params
    batch: Batch
    """Leaves ``[N, ...]``, in random order."""
    key: Array
    """The same for every run and step, so that runs differ by what they are."""
    width: Array | None = None
    """Outputs of the task: a head may have more, as many as the widest task needs.
    None: all."""


class RunProbe(NamedTuple):
    """The ``T`` tasks of one run and their probes, in evaluation mode."""

    losses: Callable[[Params, Batch], Array]
    """``(params, batch of all tasks) -> losses [T]``."""
    task_grads: Callable[[Params, Batch], tuple[Array, Params]]
    """``(params, batch of all tasks) -> (losses [T], gradients [T, ...])``."""
    update: Callable[[Array, Params], tuple[PyTree, PyTree]]
    """``(losses [T], gradients [T, ...])`` to the trunk's direction before and after
    the optimizer: what the run would subtract next, were the probe its batch."""
    params: Params
    batches: Batch
    """All tasks' probes in mini-batches, leaves ``[M, T, B, ...]`` (``x`` without
    ``T`` where tasks share their input)."""
    random_batch: Callable[[Array], Batch]
    """``key -> batch of all tasks``: a random part of their probes, as large as batches
    are in training, or all. The part of a task does not depend on its company."""
    key: Array
    """As in `TaskProbe`."""
    learning_rate: Array


class Measured(NamedTuple):
    """Values of one name."""

    value: Array
    standard_error: Array | None = None


class RunMeasured(NamedTuple):
    """Values of a run, on the trunk's parameters, by name."""

    run: dict[str, Measured]
    """``[]``."""
    task: dict[str, Measured]
    """``[T]``."""
    pair: dict[str, Measured]
    """``[T, T]``: a task (row) with another."""


TaskFactor = Callable[[TaskProbe], dict[str, Measured]]
"""Values of a task by name, ``[2]``: one for each of `SCOPES`."""
RunFactor = Callable[[RunProbe], RunMeasured]
PathFactor = Callable[[Params, Params], dict[str, Measured]]
"""Parameters of all runs at the start and now, on the host, trunks ``[R, ...]`` and
heads ``[R, T, ...]``, to values by name ``[R, T, 2]``: one for each of `SCOPES`. They
may have 1 in place of ``T`` where tasks do not differ."""


def scoped_dot(a: Params, b: Params) -> Array:
    """Return the inner product in both of the `SCOPES` ``[2]``."""
    shared = tree.dot(a.shared, b.shared)
    return jnp.stack([shared + tree.dot(a.heads, b.heads), shared])


def in_each_scope(task: TaskProbe, metric: Callable[..., PyTree]) -> PyTree:
    """Apply ``metric(lift, params)`` in both of the `SCOPES`, to leaves ``[2]``.

    ``params`` are those of trunk and head, or those of the trunk; ``lift`` makes the
    parameters of the task from them.
    """
    scopes = (
        metric(lambda params: params, task.params),
        metric(lambda shared: task.params._replace(shared=shared), task.params.shared),
    )
    return jax.tree.map(lambda *values: jnp.stack(values), *scopes)
