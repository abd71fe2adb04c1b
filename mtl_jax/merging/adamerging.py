"""AdaMerging: coefficients that make the merged model sure (Yang et al., 2024)."""

from collections.abc import Sequence

import optax

from mtl_jax.merging.composition import per_layer, per_task
from mtl_jax.merging.learning import Corners, Learned, learn, unit_interval
from mtl_jax.merging.task_losses import Predict, of_all, unsupervised
from mtl_jax.objectives.losses import Objective
from mtl_jax.types import PyTree


def adamerging(
    corners: Corners,
    predict: Predict,
    objectives: Sequence[Objective],
    batches: PyTree,
    *,
    layer_wise: bool = True,
    prior: float = 0.3,
    learning_rate: float = 1e-3,
    axes: int | None = 0,
) -> Learned:
    """Learn coefficients in [0, 1] by the entropy of outputs, without labels.

    ``min_lambda sum_t mean_x H(p_t(x; theta_0 + sum_t lambda_t tau_t))`` by Adam, the
    heads as they are (equation 5 and section 3.3). AdaMerging++ is the same of
    `ties.consistent` vectors. The authors take 500 steps of two mini-batches of 16 test
    inputs a task (their loop stops after the second, and adds their means: for Adam
    that is a batch of 32, to within its epsilon).

    >>> import jax.numpy as jnp
    >>> from mtl_jax.objectives.losses import SOFTMAX
    >>> corners = Corners(jnp.zeros(2), jnp.array([[5.0, 0], [0, 5]]), jnp.ones(2))
    >>> def predict(params, task, x):
    ...     return x[:, None] * params.heads * params.shared[None]
    >>> x = jnp.ones((100, 2, 8))  # 100 steps, 2 tasks, 8 examples
    >>> merged = adamerging(corners, predict, [SOFTMAX] * 2, x, layer_wise=False)
    >>> merged.coefficients.shape, merged.path.shape
    ((2,), (100, 2))

    Args:
      corners: start, task vectors and heads.
      predict: forward pass of one task.
      objectives: of every task, of classes; see `of_heads`.
      batches: inputs ``[S, T, B, ...]``, one batch a step and task.
      layer_wise: a coefficient for each parameter tensor and task, or one a task.
      prior: first value of all coefficients.
      learning_rate: of Adam.
      axes: None where all tasks see one input, and batches are ``[S, B, ...]``.

    Raises:
      InputError: a task of regression or of pixels, or trees that do not fit each
        other.
    """
    init = (per_layer if layer_wise else per_task)(corners.vectors, prior)
    loss = of_all(unsupervised(predict, objectives), len(objectives), axes)
    optimizer = optax.adam(learning_rate)
    return learn(corners, loss, init, batches, optimizer=optimizer, clamp=unit_interval)
