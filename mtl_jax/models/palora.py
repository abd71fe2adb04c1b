"""PaLoRA: low-rank adapters of every task on the layers of a trunk, and a preference.

Source: Dimitriadis, Frossard & Fleuret, 2024 (arXiv 2407.08056), section 4: a kernel is
``W + alpha / r sum_t p_t B_t A_t`` for a preference ``p`` on the simplex, so that one
model holds a whole Pareto front. ``W`` is trained with the adapters; biases, norms and
embeddings are what they are. ``multi-palora`` trains it.

The adapters are a function of parameters, not of layers: the trunk runs as it is, on
other kernels.

>>> kernel = {"Dense_0": {"kernel": jnp.zeros((3, 2))}}
>>> adapters = draw(jax.random.key(0), kernel, tasks=2, rank=1)
>>> jax.tree.map(jnp.shape, adapters)
{'Dense_0': {'kernel': Adapter(down=(2, 1, 3), up=(2, 2, 1))}}
>>> told = adapted(kernel, adapters, jnp.array([1.0, 0.0]), scale=1.0)
>>> bool((told["Dense_0"]["kernel"] == 0).all())       # up is 0 at first
True
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from mtl_jax.models.preference import preference
from mtl_jax.models.trunk import Trunk
from mtl_jax.options import check_sizes, is_positive
from mtl_jax.types import Array, InputError, PyTree

ADAPTERS = "adapters"
"""Name of the adapters among the parameters of the trunk."""


class Adapter(NamedTuple):
    """Low-rank changes of a kernel ``[h, w, in, out]``, or ``[in, out]`` (h = w = 1).

    The product ``up down`` is read as ``[out, in, h, w]``, as in the authors' code.
    """

    down: Array
    """``A``: ``[T, r h, in w]``."""
    up: Array
    """``B``: ``[T, out h, r h]``; 0 at first."""


class PaLoRA(Trunk):
    """A trunk whose kernels depend on the preference that it is told."""

    encoder: Trunk
    rank: int
    alpha: float
    tasks: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool) -> PyTree:
        """Return the features of the encoder with its kernels adapted."""
        shares = preference(self, self.tasks)
        if self.is_initializing():  # where the adapters change nothing
            features = self.encoder(x, train)
            kernels = self.encoder.variables["params"]
            self.param(ADAPTERS, draw, kernels, self.tasks, self.rank)
            return features
        adapters = self.get_variable("params", ADAPTERS)
        run = nn.map_variables(
            lambda encoder, x: encoder(x, train),
            "params",
            lambda variables: {
                "params": adapted(
                    variables["params"], adapters, shares, self.alpha / self.rank
                )
            },
        )
        return run(self.encoder, x)

    @property
    def is_conditioned(self) -> bool:  # noqa: D102
        return True

    def for_tasks(self, count: int) -> Trunk:  # noqa: D102
        return self.clone(encoder=self.encoder.for_tasks(count), tasks=count)

    def head(self, width: int) -> nn.Module:  # noqa: D102
        return self.encoder.head(width)

    def attach(self, head: nn.Module) -> nn.Module:  # noqa: D102
        return self.encoder.attach(head)

    def check_inputs(self, x: np.ndarray) -> None:  # noqa: D102
        self.encoder.check_inputs(x)


def palora(rank: int = 1, alpha: float = 1.0, encoder: Trunk | str = "mlp") -> Trunk:
    """Make the trunk.

    >>> from mtl_jax import models
    >>> trunk = models.make("palora", rank=4, encoder="cnn").for_tasks(3)
    >>> trunk.rank, trunk.tasks, type(trunk.encoder).__name__
    (4, 3, 'CNN')

    Args:
      rank: of the adapters; the authors have 1, and 4 for dense prediction.
      alpha: their scale is ``alpha / rank``; the authors' is 1. They also take ``T``
        times the learning rate for adapters; to first order, under Adam, that is
        ``alpha = T``.
      encoder: any trunk with kernels of dense layers ``[in, out]`` or convolutions
        ``[h, w, in, out]``. Kernels of other shapes get no adapters.

    Raises:
      InputError: an option out of its range; at initialisation, no kernel to adapt.
    """
    check_sizes("palora rank", (rank,))
    if not is_positive(alpha):
        raise InputError(f"palora alpha is {alpha!r}; it must be a positive number.")
    if not isinstance(encoder, Trunk):
        raise InputError(
            f"palora encoder is {encoder!r}; pass a trunk, or its name to models.make."
        )
    return PaLoRA(encoder, rank, float(alpha))


def draw(key: Array, params: PyTree, tasks: int, rank: int) -> PyTree:
    """Draw adapters of the kernels among parameters; ``up`` is 0.

    ``down`` is uniform in ``+-1 / sqrt(in w)``, as in a torch layer (Kaiming, a of
    sqrt 5).

    Args:
      key: of what is drawn.
      params: nested mappings of arrays.
      tasks: ``T``.
      rank: ``r``.

    Returns:
      An `Adapter` in the place of every kernel, and nothing in the others'.

    Raises:
      InputError: there is no kernel.
    """
    leaves: dict[Any, Any] = dict(flatten_dict(params))
    kernels = {
        path: leaf
        for path, leaf in leaves.items()
        if path[-1] == "kernel" and leaf.ndim in (2, 4)
    }
    if not kernels:
        raise InputError(
            "palora finds no parameter 'kernel' [in, out] or [h, w, in, out] in its "
            "encoder; choose one with dense layers or convolutions of linen or NNX."
        )

    def of_kernel(key: Array, leaf: Array) -> Adapter:
        h, w, inputs, outputs = _sizes(leaf.shape)
        bound = 1 / math.sqrt(inputs * w)
        shape = tasks, rank * h, inputs * w
        down = jax.random.uniform(key, shape, leaf.dtype, -bound, bound)
        return Adapter(down, jnp.zeros((tasks, outputs * h, rank * h), leaf.dtype))

    keys = jax.random.split(key, len(kernels))
    drawn = map(of_kernel, keys, kernels.values())
    return unflatten_dict(dict(zip(kernels, drawn, strict=True)))


def adapted(params: PyTree, adapters: PyTree, shares: Array, scale: float) -> PyTree:
    """Add the adapters to parameters: ``W + scale sum_t p_t B_t A_t``.

    Args:
      params: nested mappings of arrays.
      adapters: as `draw` makes them.
      shares: preference ``[T]``.
      scale: ``alpha / r``.
    """
    kernels: dict[Any, Any] = dict(flatten_dict(params))
    flat: dict[Any, Any] = dict(flatten_dict(adapters))
    for path, (down, up) in flat.items():
        kernel = kernels[path]
        h, w, inputs, outputs = _sizes(kernel.shape)
        weighted = up * (scale * shares)[:, None, None].astype(up.dtype)
        change = jnp.einsum("tor,tri->oi", weighted, down)
        change = change.reshape(outputs, inputs, h, w).transpose(2, 3, 1, 0)
        kernels[path] = kernel + change.reshape(kernel.shape)
    return unflatten_dict(kernels)


def _sizes(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Height, width, inputs and outputs of a kernel."""
    *window, inputs, outputs = shape
    h, w = window or (1, 1)
    return h, w, inputs, outputs
