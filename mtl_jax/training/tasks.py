"""A setting of anybody's tasks and model, from Python or by the path of a function."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax

from mtl_jax.data import augment
from mtl_jax.data.arrays import Task, from_arrays
from mtl_jax.models.adapted import as_trunk
from mtl_jax.models.trunk import Linear
from mtl_jax.objectives.losses import named
from mtl_jax.objectives.mixed import of_head
from mtl_jax.options import one_of
from mtl_jax.training.setting import COMPUTE, Setting, from_dataset
from mtl_jax.types import InputError


def setting(
    tasks: Mapping[str, Task],
    trunk: Any,
    *,
    inputs: Mapping[str, Any] | None = None,
    head: Callable[[int], Any] | None = None,
    name: str = "tasks",
    compute_dtype: str = "float32",
    augmentations: tuple[str, ...] = (),
) -> Setting:
    """Put tasks of your own on a model of your own.

    >>> import numpy as np
    >>> from flax import linen as nn
    >>> from mtl_jax import Task
    >>> x, y = np.ones((8, 3)), np.arange(8) % 2
    >>> setting({"odd": Task(train=(x, y), objective="softmax")}, nn.Dense(4)).tasks
    ('odd',)

    Args:
      tasks: by their names; see `Task`.
      trunk: the model that they share; see `models.adapted.as_trunk`.
      inputs: of every split ``[N, ...]``, where all tasks label the same examples.
      head: number of outputs to the module on top of the trunk, of any kind that a
        trunk may be; a dense layer if it is not given. Every task has its own
        parameters for it, as wide as the widest task needs.
      name: of the setting, in records.
      compute_dtype: of passes in training, ``float32`` or ``bfloat16``.
      augmentations: of training images, names in `data.augment.TRANSFORMS`.

    Raises:
      InputError: data, labels, objective or model that do not fit, named.
    """
    one_of("compute_dtype", compute_dtype, COMPUTE)
    dataset = from_arrays(tasks, inputs)
    shared = as_trunk(trunk)
    try:
        made = from_dataset(
            name,
            dataset,
            shared,
            head=None if head is None else lambda width: as_trunk(head(width)),
            compute=compute_dtype,
            transform=augment.make(augmentations),
        )
        _check_outputs(made)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the model cannot take inputs of shape [B, "
            f"{', '.join(map(str, dataset.x.shape[1:]))}]: {type(error).__name__}: "
            f"{error}"
        ) from error
    return made


def load_setting(path: str) -> Setting:
    """Call the function that an import path names: ``my_module:make_setting``.

    Modules are looked for as Python does, and in the current folder.

    Raises:
      InputError: there is no such module or function, or it makes no setting.
    """
    module, _, function = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"setting {path!r} cannot be imported ({type(error).__name__}: {error}); "
            f"name a function as my_module:make_setting."
        ) from error
    if not callable(make):
        raise InputError(
            f"setting {path!r} is a {type(make).__name__}; name a function of no "
            f"argument that returns mtl_jax.setting(...)."
        )
    made = make()
    if not isinstance(made, Setting):
        raise InputError(
            f"setting {path!r} makes a {type(made).__name__}; let it return "
            f"mtl_jax.setting(...)."
        )
    return made


def _check_outputs(made: Setting) -> None:
    """Refuse a model whose outputs are not what the tasks' objectives take."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}

    def applied(module: Any, x: Any) -> Any:
        return jax.eval_shape(
            lambda x: module.init_with_output(keys, x, train=False)[0], x
        )

    data, batch = made.data, 2
    z = applied(made.trunk, made.sample.update(shape=(batch, *made.sample.shape[1:])))
    shapes = [leaf.shape for leaf in jax.tree.leaves(z)]
    if not shapes or any(shape[:1] != (batch,) for shape in shapes):
        raise InputError(
            f"the trunk makes {' and '.join(map(str, shapes)) or z} of {batch} "
            f"examples; let it return an array [B, ...], or a tree of them."
        )
    if len(shapes) > 1 and isinstance(made.head, Linear):
        raise InputError(
            f"the trunk makes {len(shapes)} arrays, and a dense layer takes one; let "
            f"it return one array [B, ...], or pass a head that takes them all."
        )
    outputs = applied(made.head, z)
    widest = max(data.widths)
    if getattr(outputs, "ndim", 0) > 1 and outputs.shape[-1] < widest:
        task = data.tasks[data.widths.index(widest)]
        raise InputError(
            f"the head makes {['B', *outputs.shape[1:]]}, and task {task!r} needs "
            f"{widest} outputs; make as many as head(outputs) is called with."
        )
    labels = data.y.shape[1 + data.one_input :]
    y = jax.ShapeDtypeStruct((batch, *labels), data.y.dtype)
    for task, name, width in zip(data.tasks, data.objectives, data.widths, strict=True):
        loss = of_head(named(name), width).example_loss
        try:
            fits = jax.eval_shape(loss, outputs, y).shape == (batch,)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise InputError(
                f"task {task!r}: its objective makes no loss [B] of outputs "
                f"{['B', *outputs.shape[1:]]} and labels {['B', *labels]}; the trunk's "
                f"representation is {_batches(shapes)}: flatten it, or pass a head."
            )


def _batches(shapes: list[tuple[int, ...]]) -> str:
    """Shapes of batches, in words."""
    return " and ".join(str(["B", *shape[1:]]) for shape in shapes)
