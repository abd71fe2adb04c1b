"""A data set of tasks: one pool of examples and, per split and task, its rows."""

from typing import Any, NamedTuple

import numpy as np

from mtl_jax.objectives.losses import Objective


class Dataset(NamedTuple):
    """Examples of all tasks in one pool; tasks and splits are rows of it.

    Tasks may differ in size, share examples, or own disjoint ones: all of it is
    a matter of rows, so nothing is padded or stored twice.
    """

    tasks: tuple[str, ...]
    """Names of the ``T`` tasks."""
    x: np.ndarray
    """Inputs ``[N, ...]``; images are uint8 ``[N, H, W, C]``."""
    y: np.ndarray
    """Targets: ``[N, ...]`` where every task has own inputs, ``[N, T, ...]`` for one
    input with ``T`` labels. ``...`` is nothing, or the pixels; one type for all
    tasks."""
    rows: dict[str, tuple[np.ndarray, ...]]
    """Per split (``train``, ``validation``, ``test``) and task: int32 rows of
    the pool, ``[n]``."""
    objectives: tuple[str | Objective, ...]
    """Objective of every task, or its name in `losses.OBJECTIVES`."""
    widths: tuple[int, ...]
    """Numbers that every task's head gives, an example or a pixel: the classes, or
    1."""
    provenance: dict[str, Any]
    """Origin of the data, as JSON: source, files with sha256, split seed, remarks."""
    one_input: bool = False
    """True where tasks share their inputs."""
    shared_output: bool = False
    """True where tasks share the output layer, too, and have no heads of their own."""
