"""Model tinting: coefficients and one layer of each task's own (Jung et al., 2024)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from mtl_jax import tree
from mtl_jax.merging.composition import per_layer
from mtl_jax.merging.learning import (
    Corners,
    Learned,
    Variables,
    learn,
    unit_interval,
)
from mtl_jax.merging.task_losses import Predict, Teacher, of_each, taught
from mtl_jax.objectives.losses import Objective
from mtl_jax.types import Array, PyTree


def tint(
    corners: Corners,
    predict: Predict,
    objectives: Sequence[Objective],
    batches: tuple[Array, PyTree],
    teacher: Teacher,
    *,
    confident: bool = False,
    prior: float = 0.3,
    learning_rate: float = 1e-2,
) -> Learned:
    """Learn layer-wise coefficients in [0, 1] and heads, by the classes of teachers.

    A step is of one task, by Adam: its loss is the cross-entropy against the class that
    the task's own model finds likeliest. ``confident`` is Tint++, which leaves examples
    out on which the merged model disagrees and is surer. Heads start from the tasks'.
    The authors visit all tasks in random order (`visits`) 500 times, with 32 inputs.
    Their prior is 0.1 for 14 and more tasks.

    A head has an Adam of its own, which rests while other tasks are visited, as
    torch 2 has it (in torch 1, whose ``zero_grad`` leaves zeros, its momentum went on).

    >>> import jax.numpy as jnp
    >>> from mtl_jax.objectives.losses import SOFTMAX
    >>> heads = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    >>> corners = Corners(jnp.zeros(1), jnp.ones((2, 1)), heads)
    >>> def predict(params, task, x):
    ...     return x @ params.shared[:, None] * params.heads[None]
    >>> def teacher(task, x):
    ...     return x @ corners.vectors[task][:, None] * heads[task][None]
    >>> tasks = visits(jax.random.key(0), 2, rounds=20)
    >>> inputs = jnp.ones((40, 8, 1))  # 8 examples of a task a step
    >>> tinted = tint(corners, predict, [SOFTMAX] * 2, (tasks, inputs), teacher)
    >>> tinted.params.heads.shape, bool(tinted.losses[-1] < tinted.losses[0])
    ((2, 2), True)

    Args:
      corners: start, task vectors and heads.
      predict: forward pass of one task.
      objectives: of every task, of classes.
      batches: numbers of the tasks that are visited ``[S]``, and inputs of each
        ``[S, B, ...]``.
      teacher: outputs of a task's own model.
      confident: be Tint++.
      prior: first value of all coefficients.
      learning_rate: of Adam, of coefficients and heads.

    Raises:
      InputError: a task of regression or of pixels, or trees that do not fit each
        other.
    """
    adam = optax.adam(learning_rate)
    kinds = Variables("coefficients", "heads")
    return learn(
        corners,
        of_each(taught(predict, objectives, teacher, confident=confident)),
        per_layer(corners.vectors, prior),
        batches,
        optimizer=optax.partition({"coefficients": adam, "heads": by_row(adam)}, kinds),
        clamp=unit_interval,
        train_heads=True,
    )


def visits(key: Array, num_tasks: int, rounds: int) -> Array:
    """Draw the order in which rounds visit all tasks: numbers ``[rounds T]``.

    >>> jnp.sort(visits(jax.random.key(0), 3, rounds=2).reshape(2, 3)).tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    keys = jax.random.split(key, rounds)
    return jax.vmap(lambda key: jax.random.permutation(key, num_tasks))(keys).ravel()


def by_row(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Optimize rows ``[T, ...]`` apart; one without a gradient keeps its state.

    >>> rows, grads = jnp.ones((2, 3)), jnp.array([[1.0] * 3, [0.0] * 3])
    >>> optimizer = by_row(optax.adam(0.1))
    >>> _, state = optimizer.update(grads, optimizer.init(rows), rows)
    >>> state[0].count.tolist()
    [1, 0]
    """

    def update_row(updates: PyTree, state: PyTree, params: PyTree) -> tuple:
        leaves = jax.tree.leaves(updates)
        moved = jnp.stack([jnp.any(leaf != 0) for leaf in leaves]).any()
        still = jax.tree.map(jnp.zeros_like, updates), state
        return tree.where(moved, optimizer.update(updates, state, params), still)

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple:
        return jax.vmap(update_row)(updates, state, params)

    return optax.GradientTransformation(jax.vmap(optimizer.init), update)
