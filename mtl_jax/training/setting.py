"""A setting: its tasks, model and data as functions and arrays.

Here names become functions. Below this module nothing knows a configuration, a data
set's name or linen; above it nothing builds a model.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mtl_jax import data, models
from mtl_jax.data import Dataset, augment
from mtl_jax.data.augment import Transform
from mtl_jax.models.head import PENALTIES, numbered, split_penalties
from mtl_jax.models.trunk import Linear, SharedOutput, Trunk
from mtl_jax.models.weights import load as load_weights
from mtl_jax.objectives import targets
from mtl_jax.objectives.losses import Objective, named
from mtl_jax.objectives.missing import mean_loss
from mtl_jax.objectives.mixed import of_head, of_kinds
from mtl_jax.options import one_of
from mtl_jax.smto.rotation import GENERATOR, rotation
from mtl_jax.training.augmentation import augmented
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


@dataclass(frozen=True, eq=False)
class Setting:
    """Tasks, their data, and the model that they share: what is trained on what.

    Made by `from_dataset`, and from a configuration by `make_setting`.
    """

    name: str
    data: Dataset
    trunk: Trunk
    """The model that tasks share, with the output layer where they share that."""
    head: nn.Module
    """On top of it; every task has parameters of its own for it."""
    objective: Objective
    """Objective of all tasks; of several kinds by `mixed.of_kinds`."""
    kinds: np.ndarray | None
    """Number of every task's kind ``[T]``; None where all are alike."""
    scores: tuple[tuple[str, ...], ...]
    """Names of every task's scores."""
    sample: jax.ShapeDtypeStruct
    """Shape of one example as the trunk takes it, ``[1, ...]``."""
    features: PyTree
    """Shape of its representation, an array ``[1, ...]`` or a tree of such."""
    start: PyTree = None
    """Variables of a pre-trained trunk, or some of them, to be passed to `init`; None
    where there are none. Beside it, for what a program closes over is stored with the
    program."""
    rotated: bool = False
    """Heads see the representation through a rotation each, the identity at first, that
    the loss does not train: for methods that turn it."""
    compute_dtype: str = "float32"
    """Type of passes in training, one of `COMPUTE`."""
    transform: Transform | None = None
    """Random change of a training example."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of all ``T`` tasks."""
        return self.data.tasks

    @property
    def batch_axes(self) -> Batch:
        """Axes of a batch over tasks: `OWN_INPUTS` or `ONE_INPUT`."""
        return ONE_INPUT if self.data.one_input else OWN_INPUTS

    def init(
        self, key: Array, task_ids: Array, start: PyTree = None
    ) -> tuple[Params, ModelState]:
        """Draw the parameters and the model state of the tasks ``task_ids [T]``.

        The trunk depends on the key only, or is ``start`` as far as that is given, and
        a head on the key and its task, so that single-task and multi-task runs of one
        seed start from the same point.
        """
        trunk_key, heads_key = jax.random.split(key)
        sample = jnp.zeros(self.sample.shape, self.sample.dtype)
        zeros = jax.tree.map(lambda z: jnp.zeros(z.shape, z.dtype), self.features)

        def of_trunk(task: Array | int) -> tuple[PyTree, PyTree]:
            variables = self.trunk.init(_keys(trunk_key, task), sample, train=False)
            return _cut(_over(variables, start or {}))

        def of_head(task: Array) -> tuple[PyTree, PyTree]:
            key = jax.random.fold_in(heads_key, task)
            variables = self.head.init(_keys(key, task), zeros, train=False)
            return _cut(numbered(variables, task))

        shared, trunk_state = of_trunk(0)
        if not self.data.one_input:  # own inputs, own batch statistics and dropout
            trunk_state = jax.vmap(lambda task: of_trunk(task)[1])(task_ids)
        heads, heads_state = jax.vmap(of_head)(task_ids)
        if self.rotated:
            square = (len(task_ids), zeros.shape[-1], zeros.shape[-1])
            heads = {**heads, GENERATOR: jnp.zeros(square, zeros.dtype)}
        return Params(shared, heads), ModelState(trunk_state, heads_state)

    def represent(
        self, shared: PyTree, state: PyTree, x: Array
    ) -> tuple[PyTree, PyTree]:
        """Apply the trunk in training mode: ``x [B, ...]`` to the representation.

        Args:
          shared: its parameters.
          state: its state, such as batch statistics.
          x: inputs of one task.

        Returns:
          The representation, leaves ``[B, ...]``, and the new state.
        """
        return self._features(shared, state, x, train=True)

    def head_loss(
        self, heads: PyTree, state: PyTree, z: PyTree, y: PyTree
    ) -> tuple[Scalar, PyTree]:
        """Return the mean loss of one task in training mode, and its head's new state.

        Penalties of the head, `models.head.penalise`, are added to the loss.

        Args:
          heads: parameters of the task's head.
          state: its state.
          z: representation, leaves ``[B, ...]``.
          y: targets ``[B, ...]``.
        """
        outputs, state = self._outputs(heads, state, z, train=True)
        penalty, state = split_penalties(state)
        return mean_loss(self.objective, outputs, y) + penalty, state

    def predict(
        self, params: Params, state: ModelState, x: Array, train: bool = False
    ) -> Array:
        """Return outputs of one task for ``x [B, ...]``, in evaluation mode or not."""
        z, _ = self._features(params.shared, state.trunk, x, train=train)
        return self._outputs(params.heads, state.heads, z, train=train)[0]

    def embed(self, shared: PyTree, state: PyTree, x: Array) -> PyTree:
        """Return the representation, leaves ``[B, ...]``, in evaluation mode.

        Args:
          shared: parameters of the trunk.
          state: its state.
          x: inputs of one task ``[B, ...]``.
        """
        return self._features(shared, state, x, train=False)[0]

    def augment(self, key: Array, task_ids: Array, batch: Batch) -> Batch:
        """Change the images of a training batch at random, and pixels that are targets.

        An image of own inputs is changed as its task and its place in the batch say.
        """
        if self.transform is None:
            return batch
        return augmented(self.data, self.transform, key, task_ids, batch)

    def _features(
        self, shared: PyTree, state: PyTree, x: Array, train: bool
    ) -> tuple[PyTree, PyTree]:
        inputs = _as_inputs(x)
        return _pass(self.trunk, shared, state, inputs, train, self.compute_dtype)

    def _outputs(
        self, heads: PyTree, state: PyTree, z: PyTree, train: bool
    ) -> tuple[Array, PyTree]:
        if self.rotated:
            heads = dict(heads)
            generator = jax.lax.stop_gradient(heads.pop(GENERATOR))
            z = z @ rotation(generator).T
        return _pass(self.head, heads, state, z, train, self.compute_dtype)


def make_setting(
    config: Config, *, rotated: bool = False, dataset: Dataset | None = None
) -> Setting:
    """Resolve ``config.setting``, ``config.data`` and ``config.model``.

    Args:
      config: the configuration.
      rotated: as `Setting.rotated`.
      dataset: in place of the configuration's.

    Raises:
      InputError: an unknown name or option, a value out of range, or data or weights
        that are missing or damaged.
    """
    options, weights = dict(config.data), config.model.weights
    if "vocabulary" in options:  # that of the weights, where none is named
        options["vocabulary"] = options["vocabulary"] or weights
    transform = augment.make(config.augmentations)
    one_of("compute_dtype", config.compute_dtype, COMPUTE)
    directory = options.pop("dir")
    if dataset is None:
        dataset = load_dataset(config.setting, directory=directory, **options)
    trunk = _named_trunk(config.model.name, config.model, weights)
    return from_dataset(
        config.setting,
        dataset,
        trunk,
        rotated=rotated,
        weights=weights,
        compute=config.compute_dtype,
        transform=transform,
    )


def _named_trunk(name: str, model: Config, weights: str = "") -> Trunk:
    """Make a trunk with its options in ``config.model``, and those of trunks in it."""
    options = dict(model.get(name, {}))
    for option in options.keys() & set(models.NESTED):
        options[option] = _named_trunk(options[option], model)
    return models.make(name, weights, **options)


def load_dataset(name: str, **options: Any) -> Dataset:
    """Load a data set by the name of its setting; options it lacks are ignored.

    Raises:
      InputError: as `make_setting`.
    """
    loader = data.LOADERS[one_of("setting", name, data.LOADERS)]
    known = inspect.signature(loader).parameters
    return loader(**{key: value for key, value in options.items() if key in known})


def from_dataset(
    name: str,
    dataset: Dataset,
    trunk: Trunk,
    *,
    head: Callable[[int], nn.Module] | None = None,
    rotated: bool = False,
    weights: str = "",
    compute: str = "float32",
    transform: Transform | None = None,
) -> Setting:
    """Put the tasks of a data set on one trunk, with a head each.

    Args:
      name: of the setting.
      dataset: its tasks and data.
      trunk: the model below the heads.
      head: makes the head of so many outputs; the trunk's own if it is not given.
      rotated: as `Setting.rotated`.
      weights: file or folder that the trunk starts from, as `models.weights.load`
        reads it.
      compute: type of what training computes, one of `COMPUTE`; parameters, their
        gradients, losses, evaluation and factors are float32.
      transform: of training images.

    Raises:
      InputError: images that the trunk cannot take, labels that an objective does not
        know, weights that do not fit the trunk, outputs that are not what an objective
        takes, or rotations of what is no vector.
    """
    trunk = trunk.for_tasks(len(dataset.tasks))
    trunk.check_inputs(dataset.x)
    _check_targets(name, dataset)
    if transform and dataset.x.ndim != 4:
        raise InputError(
            f"augmentations are for images [N, H, W, C]; {name} has inputs of shape "
            f"{dataset.x.shape[1:]}."
        )
    example = jax.ShapeDtypeStruct((1, *dataset.x.shape[1:]), dataset.x.dtype)
    sample = jax.eval_shape(_as_inputs, example)
    features, variables = _shapes(trunk, sample)
    pretrained = load_weights(weights, trunk, variables) if weights else None
    width = max(dataset.widths)
    if dataset.shared_output:
        _check_shareable(name, trunk, width)
        trunk = SharedOutput(trunk, Linear(width, parent=None))
        features, _ = _shapes(trunk, sample)
        if pretrained:
            pretrained = {kind: {"trunk": tree} for kind, tree in pretrained.items()}
    objective, kinds = _objective(dataset)
    made = Setting(
        name=name,
        data=dataset,
        trunk=trunk,
        head=trunk.attach((head or trunk.head)(width)),
        objective=objective,
        kinds=kinds,
        scores=tuple(tuple(named(o).scores) for o in dataset.objectives),
        sample=sample,
        features=features,
        start=pretrained,
        compute_dtype=compute,
        transform=transform,
    )
    return with_rotations(made) if rotated else made


def _check_shareable(name: str, trunk: Trunk, width: int) -> None:
    """Refuse a trunk with parts of a task's own where tasks share their output."""
    head = trunk.head(width)
    if trunk.attach(head) is not head:
        raise InputError(
            f"the tasks of {name} share their output layer and have no heads, and a "
            f"part of {type(trunk).__name__} is in the heads; choose another model."
        )


def with_rotations(setting: Setting) -> Setting:
    """Let every head see the representation through a rotation of its own.

    Raises:
      InputError: representations are no vectors.
    """
    shapes = [leaf.shape for leaf in jax.tree.leaves(setting.features)]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise InputError(
            f"rotograd turns representations [B, D], and this trunk's are "
            f"{' and '.join(map(str, shapes))}; leave it out, or choose another model."
        )
    return replace(setting, rotated=True)


def _keys(key: Array, task: Array | int) -> dict[str, Array]:
    """Keys of a module's initialisation: what it draws later depends on the task."""
    later = jax.random.fold_in(jax.random.fold_in(key, DROPOUT), task)
    return {"params": key, "dropout": later}


def _shapes(trunk: Trunk, sample: Any) -> tuple[Any, PyTree]:
    """Shapes of a trunk's outputs and variables."""
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
    return {**variables, **{k: _over(variables[k], v) for k, v in start.items()}}


def _pass(
    module: nn.Module, params: PyTree, state: PyTree, x: PyTree, train: bool, of: str
) -> tuple[Any, PyTree]:
    """Outputs in float32 and new state; in training computed in the type ``of``."""

    def cast(leaf: Array) -> Array:  # numbers of tokens stay what they are
        return leaf.astype(of) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    if train:
        params, x = jax.tree.map(cast, (params, x))
    mutable = [*state, PENALTIES] if train else []
    applied: Any = module.apply({"params": params, **state}, x, train, mutable=mutable)
    outputs, state = applied
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), outputs), state


def _check_targets(name: str, dataset: Dataset) -> None:
    """Refuse targets, of any split, that their task's objective does not know."""
    for t, task in enumerate(dataset.tasks):
        objective = named(dataset.objectives[t])
        if objective.targets is None:
            continue
        outputs = np.empty((0, dataset.widths[t]))
        for split, rows in dataset.rows.items():
            y = dataset.y[rows[t], t] if dataset.one_input else dataset.y[rows[t]]
            if objective.labelled:
                y = y[np.asarray(objective.labelled(y))]
            whose = f"task {task!r} of {name} ({split}, {dataset.widths[t]} outputs)"
            targets.refuse_others(objective.targets, outputs, y, whose)


def _objective(dataset: Dataset) -> tuple[Objective, np.ndarray | None]:
    """The objective of all tasks, and the kind of each where they are not alike."""
    of_tasks = list(zip(dataset.objectives, dataset.widths, strict=True))
    kinds: list[tuple[str | Objective, int]] = []
    for kind in of_tasks:
        if kind not in kinds:
            kinds.append(kind)
    objectives = [of_head(named(objective), width) for objective, width in kinds]
    if len(kinds) == 1:
        return objectives[0], None
    numbers = [kinds.index(kind) for kind in of_tasks]
    return of_kinds(objectives), np.array(numbers, np.int32)


def _as_inputs(x: Array) -> Array:
    """Images to float32 in [0, 1]; anything else as it is."""
    return x.astype(jnp.float32) / 255 if x.dtype == np.uint8 else x
