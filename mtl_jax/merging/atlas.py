"""aTLAS: coefficients learned by labels (Zhang et al., 2024, task addition)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from mtl_jax.merging.composition import per_layer, per_task
from mtl_jax.merging.learning import Corners, Learned, learn
from mtl_jax.merging.task_losses import Predict, of_all, supervised
from mtl_jax.objectives.losses import Objective
from mtl_jax.options import one_of
from mtl_jax.types import OWN_INPUTS, Batch, PyTree, Scalar


def atlas(
    corners: Corners,
    predict: Predict,
    objectives: Sequence[Objective],
    batches: Batch,
    *,
    layer_wise: bool = True,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.1,
    clip: float = 1.0,
    norm: int | None = None,
    axes: Batch = OWN_INPUTS,
) -> Learned:
    """Learn coefficients of any size, from 0 on, by the sum of all tasks' losses.

    By AdamW behind a clipped gradient, the heads as they are, on validation data; the
    authors take 20 epochs of 128 examples a step over all tasks, and the epoch that is
    best by scores relative to single-task ones: see `Learned.path`. xK is the same of
    vectors that are split by `composition.partition`.

    >>> import jax.numpy as jnp
    >>> from mtl_jax.objectives.losses import GAUSSIAN
    >>> corners = Corners(jnp.zeros(2), jnp.eye(2), jnp.ones(2))
    >>> def predict(params, task, x):
    ...     return params.heads * (x @ params.shared)
    >>> batches = Batch(jnp.ones((50, 2, 8, 2)), jnp.ones((50, 2, 8)))
    >>> merged = atlas(corners, predict, [GAUSSIAN] * 2, batches, learning_rate=0.05)
    >>> merged.coefficients.round(1).tolist()
    [0.5, 0.5]

    Args:
      corners: start, task vectors and heads.
      predict: forward pass of one task.
      objectives: of every task, of any kind.
      batches: inputs and labels, leaves ``[S, T, B, ...]``.
      layer_wise: a coefficient for each parameter tensor and task, or one a task.
      learning_rate: of AdamW.
      weight_decay: of AdamW.
      clip: largest length of the gradient.
      norm: 1 or 2 adds `mean_norm` of the coefficients to the loss.
      axes: `ONE_INPUT` where all tasks label one input.

    Raises:
      InputError: an unknown norm, or trees that do not fit each other.
    """
    one_of("norm", norm, (None, 1, 2))
    init = (per_layer if layer_wise else per_task)(corners.vectors, 0)
    loss = of_all(supervised(predict, objectives), len(objectives), axes)
    return learn(
        corners,
        loss,
        init,
        batches,
        optimizer=optax.chain(
            optax.clip_by_global_norm(clip),
            optax.adamw(learning_rate, weight_decay=weight_decay),
        ),
        penalty=mean_norm(norm) if norm else None,
    )


def mean_norm(norm: int, weight: float = 0.5) -> Callable[[PyTree], Scalar]:
    """Make the penalty ``weight |c|_p`` over tasks, averaged over parameter tensors.

    >>> mean_norm(1)({"w": jnp.array([1.0, -2.0]), "b": jnp.zeros(2)}).item()
    0.75
    """

    def length(coefficients: PyTree) -> Scalar:
        # Without a gradient at 0, where coefficients begin, as torch has it.
        there = jnp.any(coefficients != 0)
        safe = jnp.where(there, coefficients, 1)
        return jnp.where(there, jnp.linalg.norm(safe, norm), 0)

    def penalty(coefficients: PyTree) -> Scalar:
        sizes = [length(leaf) for leaf in jax.tree.leaves(coefficients)]
        return weight * jnp.stack(sizes).mean()

    return penalty
