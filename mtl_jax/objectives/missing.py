"""Missing labels: examples that a task has no target for, left out of its loss.

A label is missing where it is NaN, and for tasks of classes also where it is -1, as
scikit-learn marks unlabelled examples. What is left out moves nothing: neither losses,
gradients, nor scores.

>>> import jax.numpy as jnp
>>> from mtl_jax.objectives.losses import GAUSSIAN
>>> objective = skip_missing(GAUSSIAN)
>>> means, targets = jnp.array([1.0, 5.0]), jnp.array([0.0, jnp.nan])
>>> float(mean_loss(objective, means, targets))
0.5
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.objectives.losses import Objective
from mtl_jax.objectives.scores import Score
from mtl_jax.objectives.targets import BINARY, CLASSES, library
from mtl_jax.types import Array, PyTree, Scalar

NO_CLASS = -1
"""Label of an example that has none, beside NaN."""


def is_labelled(objective: Objective, targets: Any) -> Array:
    """Tell which targets ``[B]`` are there, as bool ``[B]``."""
    targets = library(targets).asarray(targets)
    there = targets == targets  # NaN is not itself
    has_classes = objective.targets in (BINARY, CLASSES)
    return there & (targets != NO_CLASS) if has_classes else there


def skip_missing(objective: Objective) -> Objective:
    """Make an objective skip examples whose label is missing.

    The loss and the statistics of such an example are 0, and `mean_loss` divides by the
    others. Targets are drawn for all examples: the model has an opinion on each.
    """

    def labelled(targets: Any) -> Array:
        return is_labelled(objective, targets)

    def skipping(function: Callable[[Array, Any], PyTree]) -> Callable:
        def skipped(outputs: Array, targets: Any) -> PyTree:
            there = labelled(targets)
            values = function(outputs, jnp.where(there, targets, 0))

            def kept(leaf: Array) -> Array:
                return jnp.where(there.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0)

            return jax.tree.map(kept, values)

        return skipped

    def skipping_score(score: Score) -> Score:
        return score._replace(statistics=skipping(score.statistics))

    return objective._replace(
        example_loss=skipping(objective.example_loss),
        scores={k: skipping_score(score) for k, score in objective.scores.items()},
        labelled=labelled,
    )


def mean_loss(objective: Objective, outputs: Array, targets: PyTree) -> Scalar:
    """Return the mean loss of a batch over the examples that have a label; 0 of none.

    Args:
      objective: of the task.
      outputs: ``[B, ...]``.
      targets: ``[B, ...]``.
    """
    losses = objective.example_loss(outputs, targets)
    if objective.labelled is None:
        return losses.mean()
    count = objective.labelled(targets).sum()
    return losses.sum() / jnp.maximum(count, 1).astype(losses.dtype)
