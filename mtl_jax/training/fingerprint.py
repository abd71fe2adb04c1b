"""Fingerprints of models and optimizers that are given as objects.

A workdir must not go on with another model than it began with, and two functions of one
name may differ. So what they compute is hashed: the program that JAX traces, with the
arrays that it closes over (those of an NNX module, say).
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.training.optimizers import OptimizerMaker
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import Data, data_pool, take
from mtl_jax.types import Array, ModelState, Params, PyTree

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Places in memory, which another process has elsewhere."""
LENGTH = 16
"""Hexadecimal digits of a fingerprint."""


LONGEST = 500
"""Letters of the description of a model."""


def described(thing: Any) -> str:
    """Return the name of a function, or the beginning of a model's own text."""
    name = getattr(thing, "__qualname__", None)
    text = f"{thing.__module__}.{name}" if name else " ".join(repr(thing).split())
    return ADDRESS.sub("", text)[:LONGEST]


def of_setting(setting: Setting) -> str:
    """Return the fingerprint of a setting's model: its start, losses and scores.

    The data is not part of it.
    """
    tasks: Any = jnp.arange(len(setting.tasks))
    key = jax.random.key(0)
    params, state = jax.eval_shape(setting.init, key, tasks)
    rows = np.zeros((len(tasks), 2), np.int32)
    rows = rows[0] if setting.data.one_input else rows
    x, y, kinds = data_pool(setting)
    pool: Any = jax.tree.map(jnp.asarray, Data(x[:1], y[:1], kinds))
    batch: Any = jax.eval_shape(lambda rows: take(setting, pool, rows, tasks), rows)
    x = batch.x if setting.data.one_input else _first(batch.x)

    def judged(params: Params, state: ModelState, x: Array, y: PyTree) -> PyTree:
        z, trunk = setting.represent(params.shared, state.trunk, x)
        loss, heads = setting.head_loss(params.heads, state.heads, z, y)
        outputs = setting.predict(params, state, x)
        scores = setting.objective.scores
        statistics = {name: scores[name].statistics(outputs, y) for name in scores}
        return loss, trunk, heads, outputs, statistics

    own_state = state._replace(
        trunk=state.trunk if setting.data.one_input else _first(state.trunk),
        heads=_first(state.heads),
    )
    task = params._replace(heads=_first(params.heads)), own_state, x, _first(batch.y)
    return _digest(_traced(setting.init, key, tasks), _traced(judged, *task))


def of_optimizer(optimizer: OptimizerMaker) -> str:
    """Return the fingerprint of an optimizer, from an update of two parameters."""
    params = {"bias": jnp.zeros(2), "kernel": jnp.zeros((2, 2))}

    def updated(rate: Array, params: PyTree) -> PyTree:
        made = optimizer(rate)
        return made.update(params, made.init(params), params)

    return _digest(_traced(updated, jnp.zeros(()), params))


def _first(tree: PyTree) -> PyTree:
    """Shapes of one task, of leaves ``[T, ...]``."""
    return jax.tree.map(lambda leaf: leaf.update(shape=leaf.shape[1:]), tree)


def _traced(function: Callable[..., Any], *args: Any) -> bytes:
    """Text of the program of a function, and the arrays that it closes over."""
    closed = jax.make_jaxpr(function)(*args)
    text = ADDRESS.sub("", str(closed.jaxpr)).encode()
    return text + b"".join(_bytes(const) for const in closed.consts)


def _bytes(const: Any) -> bytes:
    if jnp.issubdtype(const.dtype, jax.dtypes.prng_key):
        const = jax.random.key_data(const)
    return np.asarray(const).tobytes()


def _digest(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()[:LENGTH]
