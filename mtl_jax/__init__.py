"""mtl_jax: what training tasks together does to the way each is optimised.

The names a user needs: per-task gradients and multi-task optimizers for a loop of one's
own; `setting` and `train` for one's own data and model in ours.
"""

from typing import TYPE_CHECKING, Any

from mtl_jax import smto, tree
from mtl_jax.gradients import task_grads, task_losses, weighted_grads
from mtl_jax.types import (
    ONE_INPUT,
    OWN_INPUTS,
    TASK_AXES,
    Batch,
    InputError,
    LossFn,
    Params,
)

if TYPE_CHECKING:
    from mtl_jax.data.arrays import Task
    from mtl_jax.objectives.losses import Objective
    from mtl_jax.objectives.scores import Score
    from mtl_jax.training.result import Result, train
    from mtl_jax.training.tasks import setting

__version__ = "0.2.0"

__all__ = [
    "ONE_INPUT",
    "OWN_INPUTS",
    "TASK_AXES",
    "Batch",
    "InputError",
    "LossFn",
    "Objective",
    "Params",
    "Result",
    "Score",
    "Task",
    "setting",
    "smto",
    "task_grads",
    "task_losses",
    "train",
    "tree",
    "weighted_grads",
]

_LATER = {
    "Objective": "objectives.losses",
    "Result": "training.result",
    "Score": "objectives.scores",
    "Task": "data.arrays",
    "setting": "training.tasks",
    "train": "training.result",
}
"""Names whose modules are imported when they are first asked for: they need data and
models, which a loop of one's own does without."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
