"""A setting: its tasks, model and data as functions and arrays.

Here names become functions. Below this module nothing knows a configuration, a data
set's name or linen; above it nothing builds a model.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mtl_jax import data, losses, models
from mtl_jax.data import Dataset
from mtl_jax.losses import Objective
from mtl_jax.rotation import GENERATOR, rotation
from mtl_jax.types import (
    ONE_INPUT,
    OWN_INPUTS,
    Array,
    Batch,
    Config,
    InputError,
    Params,
    PyTree,
    Scalar,
)


class Setting(NamedTuple):
    """What is trained on what."""

    name: str
    tasks: tuple[str, ...]
    """Names of all ``T`` tasks."""
    init: Callable[[Array, Array], tuple[Params, PyTree]]
    """``init(key, task_ids [T]) -> (params, model_state)``. The trunk depends on the
    key only and a head on the key and its task, so that single-task and multi-task
    runs of one seed start from the same point."""
    represent: Callable[[PyTree, PyTree, Array], tuple[Array, PyTree]]
    """``(trunk's parameters, model state, x [B, ...]) -> (representation [B, ...],
    model state)``, in training mode."""
    head_loss: Callable[[PyTree, Array, Array], Scalar]
    """``(parameters of one head, representation [B, ...], y [B, ...]) -> mean
    loss``."""
    predict: Callable[[Params, PyTree, Array], Array]
    """``(params of one task, its model state, x [B, ...]) -> outputs``, in evaluation
    mode."""
    objective: Objective
    data: Dataset
    batch_axes: Batch
    """`OWN_INPUTS` or `ONE_INPUT`."""


def make(config: Config, *, rotated: bool = False) -> Setting:
    """Resolve ``config.setting``, ``config.data`` and ``config.model``.

    Args:
      config: the configuration.
      rotated: as in `from_dataset`.

    Raises:
      InputError: an unknown name or option, a value out of range, or data that is
        missing or damaged.
    """
    options = dict(config.data)
    dataset = load(config.setting, directory=options.pop("dir"), **options)
    kind = config.model.name
    trunk = models.make(kind, **config.model.get(kind, {}))
    return from_dataset(config.setting, dataset, trunk, rotated=rotated)


def load(name: str, **options: Any) -> Dataset:
    """Load a data set by the name of its setting; options it lacks are ignored.

    Raises:
      InputError: as `make`.
    """
    if name not in data.LOADERS:
        raise InputError(f"setting {name!r} is not one of: {', '.join(data.LOADERS)}.")
    loader = data.LOADERS[name]
    known = inspect.signature(loader).parameters
    return loader(**{key: value for key, value in options.items() if key in known})


def from_dataset(
    name: str, dataset: Dataset, trunk: nn.Module, *, rotated: bool = False
) -> Setting:
    """Classification tasks of one trunk with a linear head each.

    Args:
      name: of the setting.
      dataset: its tasks and data.
      trunk: the model below the heads.
      rotated: heads see the representation through a rotation each, the identity at
        first, that the loss does not train: for methods that turn it.

    Raises:
      InputError: tasks with different numbers of classes, or images that the trunk
        cannot take.
    """
    classes = set(dataset.num_classes)
    if len(classes) != 1:
        raise InputError(
            f"tasks with {sorted(classes)} classes cannot share one stack of heads; "
            f"give every task as many classes."
        )
    head = nn.Dense(classes.pop())
    sample = _as_inputs(jnp.zeros((1, *dataset.x.shape[1:]), dataset.x.dtype))
    like = jax.eval_shape(
        lambda x: trunk.init_with_output(jax.random.key(0), x, train=False)[0], sample
    )
    batch_axes = OWN_INPUTS if dataset.y.ndim == 1 else ONE_INPUT

    def init(key: Array, task_ids: Array) -> tuple[Params, PyTree]:
        trunk_key, heads_key = jax.random.split(key)
        variables = dict(trunk.init(trunk_key, sample, train=False))
        shared = variables.pop("params")
        zeros = jnp.zeros(like.shape, like.dtype)
        heads = jax.vmap(
            lambda task: head.init(jax.random.fold_in(heads_key, task), zeros)["params"]
        )(task_ids)
        if rotated:
            square = (len(task_ids), like.shape[-1], like.shape[-1])
            heads = {**heads, GENERATOR: jnp.zeros(square, like.dtype)}
        if batch_axes.x is not None:  # own inputs, own batch statistics
            copies = task_ids.shape[0]
            variables = jax.tree.map(
                lambda leaf: jnp.repeat(leaf[None], copies, axis=0), variables
            )
        return Params(shared, heads), variables

    def features(
        shared: PyTree, state: PyTree, x: Array, train: bool
    ) -> tuple[Array, PyTree]:
        found: Any = trunk.apply(
            {"params": shared, **state},
            _as_inputs(x),
            train=train,
            mutable=list(state) if train else [],
        )
        return found

    def outputs(heads: PyTree, z: Array) -> Array:
        if rotated:
            heads = dict(heads)
            generator = jax.lax.stop_gradient(heads.pop(GENERATOR))
            z = z @ rotation(generator).T
        found: Any = head.apply({"params": heads}, z)
        return found

    def represent(shared: PyTree, state: PyTree, x: Array) -> tuple[Array, PyTree]:
        return features(shared, state, x, train=True)

    def head_loss(heads: PyTree, z: Array, y: Array) -> Scalar:
        return objective.example_loss(outputs(heads, z), y).mean()

    def predict(params: Params, state: PyTree, x: Array) -> Array:
        return outputs(params.heads, features(params.shared, state, x, train=False)[0])

    objective = losses.SOFTMAX
    return Setting(
        name=name,
        tasks=dataset.tasks,
        init=init,
        represent=represent,
        head_loss=head_loss,
        predict=predict,
        objective=objective,
        data=dataset,
        batch_axes=batch_axes,
    )


def _as_inputs(x: Array) -> Array:
    """Images to float32 in [0, 1]; anything else as it is."""
    return x.astype(jnp.float32) / 255 if x.dtype == np.uint8 else x
