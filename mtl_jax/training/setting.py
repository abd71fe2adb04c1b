"""A setting: its tasks, model and data as functions and arrays.

Here names become functions. Below this module nothing knows a configuration, a data
set's name or linen; above it nothing builds a model.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mtl_jax import data, models
from mtl_jax.data import Dataset, augment
from mtl_jax.data.augment import Pixels, Transform, no_pixels
from mtl_jax.models.trunk import Linear, SharedOutput, Trunk
from mtl_jax.models.weights import load as load_weights
from mtl_jax.objectives import targets
from mtl_jax.objectives.losses import OBJECTIVES, Objective
from mtl_jax.objectives.mixed import MixedTargets, of_head, of_kinds
from mtl_jax.options import one_of
from mtl_jax.smto.rotation import GENERATOR, rotation
from mtl_jax.types import (
    ONE_INPUT,
    OWN_INPUTS,
    Array,
    Batch,
    Config,
    InputError,
    ModelState,
    Params,
    PyTree,
    Scalar,
)

COMPUTE = ("float32", "bfloat16")
DROPOUT = 0x64726F70
"""Folded into a module's key: what it draws in training, not its parameters."""
Augment = Callable[[Array, Array, Batch], Batch]
"""``(key, task_ids [T], batch) -> batch``."""


class Setting(NamedTuple):
    """What is trained on what."""

    name: str
    tasks: tuple[str, ...]
    """Names of all ``T`` tasks."""
    init: Callable[..., tuple[Params, ModelState]]
    """``init(key, task_ids [T], start=None) -> (params, model_state)``. The trunk
    depends on the key only, or is ``start`` as far as that is given, and a head on the
    key and its task, so that single-task and multi-task runs of one seed start from the
    same point."""
    start: PyTree
    """Variables of a pre-trained trunk, or some of them, to be passed to `init`; None
    where there are none. Beside it, for what a program closes over is stored with the
    program."""
    represent: Callable[[PyTree, PyTree, Array], tuple[Array, PyTree]]
    """``(parameters and state of the trunk, x [B, ...]) -> (representation [B, ...],
    state)``, in training mode."""
    head_loss: Callable[[PyTree, PyTree, Array, PyTree], tuple[Scalar, PyTree]]
    """``(parameters and state of one head, representation [B, ...], y [B, ...]) ->
    (mean loss, state)``, in training mode."""
    predict: Callable[[Params, ModelState, Array], Array]
    """``(params of one task, its model state, x [B, ...]) -> outputs``, in evaluation
    mode."""
    objective: Objective
    """Of all tasks; of several kinds by `mixed.of_kinds`."""
    kinds: np.ndarray | None
    """Number of every task's kind ``[T]``; None where all are alike."""
    scores: tuple[tuple[str, ...], ...]
    """Names of every task's scores."""
    data: Dataset
    batch_axes: Batch
    """`OWN_INPUTS` or `ONE_INPUT`."""
    augment: Augment | None = None
    """Random changes of a training batch."""


def make_setting(config: Config, *, rotated: bool = False) -> Setting:
    """Resolve ``config.setting``, ``config.data`` and ``config.model``.

    Args:
      config: the configuration.
      rotated: as in `from_dataset`.

    Raises:
      InputError: an unknown name or option, a value out of range, or data or weights
        that are missing or damaged.
    """
    options, weights = dict(config.data), config.model.weights
    if "vocabulary" in options:  # that of the weights, where none is named
        options["vocabulary"] = options["vocabulary"] or weights
    transform = augment.make(config.augmentations)
    one_of("compute_dtype", config.compute_dtype, COMPUTE)
    dataset = load_dataset(config.setting, directory=options.pop("dir"), **options)
    if transform and dataset.x.ndim != 4:
        raise InputError(
            f"augmentations {tuple(config.augmentations)} is for images; "
            f"{config.setting} has inputs of shape {dataset.x.shape[1:]}."
        )
    kind = config.model.name
    trunk = models.make(kind, weights, **config.model.get(kind, {}))
    return from_dataset(
        config.setting,
        dataset,
        trunk,
        rotated=rotated,
        weights=weights,
        compute=config.compute_dtype,
        transform=transform,
    )


def load_dataset(name: str, **options: Any) -> Dataset:
    """Load a data set by the name of its setting; options it lacks are ignored.

    Raises:
      InputError: as `make`.
    """
    loader = data.LOADERS[one_of("setting", name, data.LOADERS)]
    known = inspect.signature(loader).parameters
    return loader(**{key: value for key, value in options.items() if key in known})


def from_dataset(
    name: str,
    dataset: Dataset,
    trunk: Trunk,
    *,
    rotated: bool = False,
    weights: str = "",
    compute: str = "float32",
    transform: Transform | None = None,
) -> Setting:
    """The tasks of a data set on one trunk, with a head each.

    Args:
      name: of the setting.
      dataset: its tasks and data.
      trunk: the model below the heads.
      rotated: heads see the representation through a rotation each, the identity at
        first, that the loss does not train: for methods that turn it.
      weights: file or folder that the trunk starts from, as `models.weights.load`
        reads it.
      compute: type of what training computes, one of `COMPUTE`; parameters, their
        gradients, losses, evaluation and factors are float32.
      transform: of training images.

    Raises:
      InputError: images that the trunk cannot take, labels that an objective does not
        know, weights that do not fit the trunk, or rotations of what is no vector.
    """
    trunk.check_inputs(dataset.x)
    _check_targets(name, dataset)
    sample = _as_inputs(jnp.zeros((1, *dataset.x.shape[1:]), dataset.x.dtype))
    like, variables = _shapes(trunk, sample)
    pretrained = load_weights(weights, trunk, variables) if weights else None
    width = max(dataset.widths)
    if dataset.shared_output:
        trunk = SharedOutput(trunk, Linear(width, parent=None))
        like, _ = _shapes(trunk, sample)
        if pretrained:
            pretrained = {kind: {"trunk": own} for kind, own in pretrained.items()}
    head = trunk.head(width)
    if rotated and len(like.shape) != 2:
        raise InputError(
            f"rotograd turns representations [B, D], and this trunk's are "
            f"{like.shape}; leave it out, or choose another model."
        )
    batch_axes = ONE_INPUT if dataset.one_input else OWN_INPUTS
    objective, kinds = _objective(dataset)

    def init(
        key: Array, task_ids: Array, start: PyTree = None
    ) -> tuple[Params, ModelState]:
        trunk_key, heads_key = jax.random.split(key)
        zeros = jnp.zeros(like.shape, like.dtype)

        def of_trunk(task: Array | int) -> tuple[PyTree, PyTree]:
            found = trunk.init(_keys(trunk_key, task), sample, train=False)
            return _cut(_over(found, start or {}))

        def of_head(task: Array) -> tuple[PyTree, PyTree]:
            own = jax.random.fold_in(heads_key, task)
            return _cut(head.init(_keys(own, task), zeros, train=False))

        shared, trunk_state = of_trunk(0)
        if not dataset.one_input:  # own inputs, own batch statistics and dropout
            trunk_state = jax.vmap(lambda task: of_trunk(task)[1])(task_ids)
        heads, heads_state = jax.vmap(of_head)(task_ids)
        if rotated:
            square = (len(task_ids), like.shape[-1], like.shape[-1])
            heads = {**heads, GENERATOR: jnp.zeros(square, like.dtype)}
        return Params(shared, heads), ModelState(trunk_state, heads_state)

    def features(
        shared: PyTree, state: PyTree, x: Array, train: bool
    ) -> tuple[Array, PyTree]:
        return _pass(trunk, shared, state, _as_inputs(x), train, compute)

    def outputs(
        heads: PyTree, state: PyTree, z: Array, train: bool
    ) -> tuple[Array, PyTree]:
        if rotated:
            heads = dict(heads)
            generator = jax.lax.stop_gradient(heads.pop(GENERATOR))
            z = z @ rotation(generator).T
        return _pass(head, heads, state, z, train, compute)

    def represent(shared: PyTree, state: PyTree, x: Array) -> tuple[Array, PyTree]:
        return features(shared, state, x, train=True)

    def head_loss(
        heads: PyTree, state: PyTree, z: Array, y: PyTree
    ) -> tuple[Scalar, PyTree]:
        found, state = outputs(heads, state, z, train=True)
        return objective.example_loss(found, y).mean(), state

    def predict(params: Params, state: ModelState, x: Array) -> Array:
        z, _ = features(params.shared, state.trunk, x, train=False)
        return outputs(params.heads, state.heads, z, train=False)[0]

    return Setting(
        name=name,
        tasks=dataset.tasks,
        init=init,
        start=pretrained,
        represent=represent,
        head_loss=head_loss,
        predict=predict,
        objective=objective,
        kinds=kinds,
        scores=tuple(tuple(OBJECTIVES[o].scores) for o in dataset.objectives),
        data=dataset,
        batch_axes=batch_axes,
        augment=_augment(dataset, transform),
    )


def _keys(key: Array, task: Array | int) -> dict[str, Array]:
    """Keys of a module's initialisation: what it draws later depends on the task."""
    later = jax.random.fold_in(jax.random.fold_in(key, DROPOUT), task)
    return {"params": key, "dropout": later}


def _shapes(trunk: Trunk, sample: Array) -> tuple[Any, PyTree]:
    """Of a trunk's outputs and variables."""
    return jax.eval_shape(
        lambda x: trunk.init_with_output(_keys(jax.random.key(0), 0), x, train=False),
        sample,
    )


def _cut(variables: PyTree) -> tuple[PyTree, PyTree]:
    """Parameters, if there are any, and all else."""
    state = dict(variables)
    return state.pop("params", {}), state


def _over(variables: PyTree, start: PyTree) -> PyTree:
    """Variables with those of ``start`` in their places."""
    if not isinstance(start, Mapping):
        return start
    return {**variables, **{k: _over(variables[k], own) for k, own in start.items()}}


def _pass(
    module: nn.Module, params: PyTree, state: PyTree, x: Array, train: bool, of: str
) -> tuple[Array, PyTree]:
    """Outputs in float32 and new state; in training computed in the type ``of``."""

    def cast(leaf: Array) -> Array:  # numbers of tokens stay what they are
        return leaf.astype(of) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    if train:
        params, x = jax.tree.map(cast, (params, x))
    mutable = list(state) if train else []
    found: Any = module.apply({"params": params, **state}, x, train, mutable=mutable)
    outputs, state = found
    return outputs.astype(jnp.float32), state


def _augment(dataset: Dataset, transform: Transform | None) -> Augment | None:
    """The transform of an example, of batches ``x [T, B, ...]`` or ``[B, ...]``."""
    if transform is None:
        return None
    is_depth = np.array([name == "depth" for name in dataset.objectives])
    has_pixels = dataset.y.ndim > 1 + dataset.one_input

    def of_batch(key: Array, x: Array, pixels: Pixels) -> tuple[Array, Pixels]:
        axes = Pixels(1, None, None)  # type: ignore[arg-type]
        mapped = jax.vmap(transform, (0, 0, axes), (0, axes))
        return mapped(jax.random.split(key, len(x)), x, pixels)

    def augment(key: Array, task_ids: Array, batch: Batch) -> Batch:
        x, y = batch
        nothing = no_pixels(*x.shape[-3:-1])
        nothing = nothing._replace(value=nothing.value[:, None].repeat(x.shape[-4], 1))
        if not dataset.one_input:
            keys = jax.vmap(lambda task: jax.random.fold_in(key, task))(task_ids)
            alone = jax.vmap(lambda key, x: of_batch(key, x, nothing)[0])
            return Batch(alone(keys, x), y)
        if not has_pixels:
            return Batch(of_batch(key, x, nothing)[0], y)
        depth = jnp.asarray(is_depth)[task_ids]
        value = y.value if isinstance(y, MixedTargets) else y  # [T, B, H, W]
        pixels = Pixels(value, jnp.where(depth, 0.0, -1.0), depth)
        x, (value, *_) = of_batch(key, x, pixels)
        return Batch(
            x, y._replace(value=value) if isinstance(y, MixedTargets) else value
        )

    return augment


def _check_targets(name: str, dataset: Dataset) -> None:
    """Refuse targets, of any split, that their task's objective does not know."""
    for t, task in enumerate(dataset.tasks):
        known = OBJECTIVES[dataset.objectives[t]].targets
        if known is None:
            continue
        outputs = np.empty((0, dataset.widths[t]))
        for split, rows in dataset.rows.items():
            y = dataset.y[rows[t], t] if dataset.one_input else dataset.y[rows[t]]
            whose = f"task {task!r} of {name} ({split}, {dataset.widths[t]} outputs)"
            targets.refuse_others(known, outputs, y, whose)


def _objective(dataset: Dataset) -> tuple[Objective, np.ndarray | None]:
    """The objective of all tasks, and the kind of each where they are not alike."""
    of_tasks = list(zip(dataset.objectives, dataset.widths, strict=True))
    kinds = list(dict.fromkeys(of_tasks))
    every = [of_head(OBJECTIVES[name], width) for name, width in kinds]
    if len(kinds) == 1:
        return every[0], None
    return of_kinds(every), np.array([kinds.index(own) for own in of_tasks], np.int32)


def _as_inputs(x: Array) -> Array:
    """Images to float32 in [0, 1]; anything else as it is."""
    return x.astype(jnp.float32) / 255 if x.dtype == np.uint8 else x
