"""Words between heads and their setting: the number of a task, and penalties.

>>> class Column(nn.Module):
...     @nn.compact
...     def __call__(self, z, train):
...         penalise(self, 0.5) if train else None
...         return z[:, task_number(self)]
>>> drawn = Column().init(jax.random.key(0), jnp.eye(3), train=False)
>>> known = numbered(drawn, 2)
>>> outputs, state = Column().apply(known, jnp.eye(3), True, mutable=[PENALTIES])
>>> outputs.tolist(), float(split_penalties(state)[0])
([0.0, 0.0, 1.0], 0.5)
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from mtl_jax.types import Array, PyTree, Scalar

TASK = "task_number"
"""Collection of the number of a head's task: model state that no pass changes."""
PENALTIES = "penalties"
"""Collection of the terms that a pass of a head in training adds to its loss."""


def task_number(head: nn.Module) -> Array:
    """Return the number ``[]`` of the task whose head this is, counted in the setting.

    It is the same whether the task trains alone, in a group or with all others. To be
    called in a compact method of the head, or of a part of it.
    """
    return head.variable(TASK, "number", jnp.zeros, (), jnp.int32).value


def numbered(variables: PyTree, task: Array | int) -> PyTree:
    """Write the number of its task into the variables of a head that asks for it."""
    if not isinstance(variables, Mapping):
        return variables

    def number(leaf: Array) -> Array:
        return jnp.asarray(task, leaf.dtype)

    return {
        name: jax.tree.map(number, part) if name == TASK else numbered(part, task)
        for name, part in variables.items()
    }


def penalise(head: nn.Module, value: Scalar | float) -> None:
    """Add a penalty to the loss of the batch, in nats; nothing but training sees it.

    It moves the head's own parameters, and those that are shared where it depends on
    them. A trunk has no loss of its own to add it to.
    """
    head.sow(PENALTIES, "value", value)


def split_penalties(state: PyTree) -> tuple[Scalar, PyTree]:
    """Return the sum of a pass's penalties, and the model state without them."""
    kept = {name: tree for name, tree in state.items() if name != PENALTIES}
    terms = jax.tree.leaves(state.get(PENALTIES, {}))
    return sum((jnp.asarray(t, jnp.float32) for t in terms), jnp.zeros(())), kept
