"""Gradients of all tasks at once, and the Gramian that they span."""

from mtl_jax.gradients.gramian import Gram, Gramian
from mtl_jax.gradients.tasks import (
    TaskInputs,
    input_axes,
    pulled_back_once,
    summed_grads,
    task_grads,
    task_gram,
    task_losses,
    weighted_grads,
)

__all__ = [
    "Gram",
    "Gramian",
    "TaskInputs",
    "input_axes",
    "pulled_back_once",
    "summed_grads",
    "task_grads",
    "task_gram",
    "task_losses",
    "weighted_grads",
]
