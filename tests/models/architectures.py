"""Small settings on architectures beyond hard sharing, and passes of a task on them."""

import functools
from typing import Any

import jax
import numpy as np

from mtl_jax import models
from mtl_jax.data import Dataset
from mtl_jax.training.setting import from_dataset
from mtl_jax.types import ModelState, Params
from tests.tiny import of_task, with_methods

T, B, CLASSES, SIDE = 3, 4, 5, 4
MLP: Any = models.make("mlp", widths=(6, 7))
CNN: Any = models.make("cnn", channels=(3,), hidden=7)
OPTIONS: dict[str, dict[str, Any]] = {
    "mmoe": {"experts": 3},
    "dselect_k": {"experts": 3, "entropy": 0.1},
    "cgc": {"experts": 2, "specific": 2},
    "ple": {"experts": 2, "specific": 2},
    "cross_stitch": {},
    "mtan": {"widths": (4,), "blocks": (2,)},
}
"""Names of all architectures, with options of a small one."""


def dataset(*, one_input=False, side=SIDE):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(T * B, side, side, 1)).astype(np.float32)
    y = rng.integers(CLASSES, size=(T * B, T), dtype=np.int32)
    rows: Any = np.arange(T * B, dtype=np.int32).reshape(T, B)
    return Dataset(
        tasks=("a", "b", "c"),
        x=x,
        y=y if one_input else y[:, 0],
        rows={"train": (rows[0],) * T if one_input else tuple(rows)},
        objectives=("softmax",) * T,
        widths=(CLASSES,) * T,
        provenance={},
        one_input=one_input,
    )


@functools.cache
def setting(name, encoder=MLP, *, one_input=False, options=()) -> Any:
    """A setting of three tasks on an architecture, its `init` compiled."""
    nested = {"encoder": encoder} if "encoder" in models.options(name) else {}
    trunk = models.make(name, **{**OPTIONS[name], **dict(options)}, **nested)
    made = from_dataset(name, dataset(one_input=one_input), trunk)
    return with_methods(made, init=jax.jit(made.init))


@functools.cache
def start(name, encoder=MLP, **kind) -> Any:
    """Parameters and state of all tasks, with numbers alike in all leaves.

    So no bias is 0, and no norm the identity.
    """
    made = setting(name, encoder, **kind)
    params, state = made.init(jax.random.key(0), np.arange(T))
    rng = np.random.default_rng(1)

    def moved(leaf):
        return leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32)

    return jax.tree.map(moved, params), state


def task(made, params, state, t) -> Any:
    """Parameters and state of one task."""
    head = jax.tree.map(lambda leaf: leaf[t], params.heads)
    return Params(params.shared, head), of_task(made, state, t)


def outputs(made, params, state, x, *, train=False):
    """Outputs of a task, and its state afterwards."""
    z, trunk = made._features(params.shared, state.trunk, x, train)
    out, heads = made._outputs(params.heads, state.heads, z, train)
    return out, ModelState(trunk, heads)


def leaf(tree, *path):
    """A leaf in float64, of a path of names."""
    for name in path:
        tree = tree[name]
    return np.asarray(tree, np.float64)


def dense(x, layer):
    """A dense layer, by hand."""
    return x @ leaf(layer, "kernel") + leaf(layer, "bias")


def mlp(x, layers):
    """Dense layers with ReLU, by hand."""
    for number in range(len(layers)):
        x = np.maximum(dense(x, layers[f"Dense_{number}"]), 0)
    return x


def copy_of(tree, number):
    """Parameters of one of several copies."""
    return jax.tree.map(lambda leaf: leaf[number], tree)


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@functools.cache
def predicted(name, **kind):
    """Inputs, flat in float64, shared and a head's parameters, and outputs, by task."""
    made, (params, state) = setting(name, **kind), start(name, **kind)
    x = np.random.default_rng(5).normal(size=(B, SIDE, SIDE, 1)).astype(np.float32)
    predict = jax.jit(made.predict)
    tasks = [task(made, params, state, t) for t in range(T)]
    return [
        (
            x.reshape(B, -1).astype(float),
            params.shared,
            of_task[0].heads,
            predict(*of_task, x),
        )
        for of_task in tasks
    ]
