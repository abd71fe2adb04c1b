"""A setting of three tasks and five features, and steps of training on it."""

import copy
import functools
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

from mtl_jax import smto
from mtl_jax.data import Dataset
from mtl_jax.models import mlp
from mtl_jax.models.trunk import Trunk
from mtl_jax.smto import strategies
from mtl_jax.training.setting import from_dataset
from mtl_jax.training.step import UpdateRule, data_pool, take, train_step
from mtl_jax.types import OWN_INPUTS, ModelState, state_axes

T, B, D, CLASSES, MOMENTUM = 3, 8, 5, 4, 0.9
TASKS: Any = np.arange(T)


class Normalised(Trunk):
    """A trunk with batch statistics."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(6)(x)
        # A mean of squares less a squared mean would lose digits that tests look at.
        x = nn.BatchNorm(not train, momentum=MOMENTUM, use_fast_variance=False)(x)
        return jax.nn.relu(x)


def dataset(*, one_input):
    rng = np.random.default_rng(0)
    # Inputs of unlike tasks have unlike statistics.
    x = rng.normal(size=(T, 2 * B, D)) + 3 * rng.normal(size=(T, 1, D))
    y = rng.integers(CLASSES, size=(T * 2 * B, T), dtype=np.int32)
    rows = np.arange(T * 2 * B, dtype=np.int32).reshape(T, -1)
    return Dataset(
        tasks=("a", "b", "c"),
        x=x.reshape(-1, D).astype(np.float32),
        y=y if one_input else y[:, 0],
        rows={"train": tuple(rows)},
        objectives=("softmax",) * T,
        widths=(CLASSES,) * T,
        provenance={},
        one_input=one_input,
    )


def with_methods(one, **methods) -> Any:
    """The setting with other methods than its own."""
    changed = copy.copy(one)
    for name, method in methods.items():
        object.__setattr__(changed, name, method)
    return changed


@functools.cache
def setting(trunk, *, one_input=False, rotated=False) -> Any:
    one = from_dataset("tiny", dataset(one_input=one_input), trunk, rotated=rotated)
    return with_methods(one, init=jax.jit(one.init))


MLP: Any = mlp(widths=(6,))
NORMALISED: Any = Normalised()
SEED: Any = 0
RATE: Any = 0.1


def method(name="sum", *, lifted, weighted_heads=True, task_map=jax.vmap):
    make: Any = strategies.by_jacobian if lifted else strategies.by_losses
    return by(make, smto.make(name), weighted_heads, task_map=task_map)


def by(make, one, weighted_heads=False, *, task_map=jax.vmap):
    """A method by one of the strategies."""
    return UpdateRule(
        strategy=make(one, weighted_heads),
        optimizer=lambda rate: optax.sgd(rate, momentum=0.5),
        task_map=task_map,
    )


def batch(one, task_ids=TASKS, step=0):
    """Rows of every task's own inputs, or of one input, from the pool."""
    rows: Any = np.stack(one.data.rows["train"])[:, step * B : (step + 1) * B]
    rows = rows[task_ids] if one.batch_axes == OWN_INPUTS else rows[0]
    return take(one, data_pool(one), rows, task_ids)


def stepped(one, method, state, batch):
    step = jax.jit(lambda state, batch: train_step(one, method, state, batch, RATE))
    return step(state, batch)


def of_task(one, state, t):
    """Model state of one task."""
    axes = state_axes(one.batch_axes)

    def row(axis, leaf):
        return leaf if axis is None else leaf[t]

    return ModelState(
        *(
            jax.tree.map(functools.partial(row, axis), part)
            for axis, part in zip(axes, state, strict=True)
        )
    )


def train_loss(one, params, state, batch):
    """Loss of one task in training mode, and its model state."""
    z, trunk = one.represent(params.shared, state.trunk, batch.x)
    loss, heads = one.head_loss(params.heads, state.heads, z, batch.y)
    return loss, ModelState(trunk, heads)


def close(a, b, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol, atol), a, b)
