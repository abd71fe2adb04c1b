"""Trace of the Fisher information: how much the outputs' likelihood can tell.

``Tr F = E_x E_{y ~ p(. | x)} |grad log p(y | x)|^2`` with labels drawn from the model,
not the data (Jastrzebski et al., 2021). Nats squared per unit of parameter squared.

>>> import jax, jax.numpy as jnp
>>> from mtl_jax.losses import SOFTMAX
>>> predict = lambda params, x: x @ params
>>> x = jnp.ones((32, 2))
>>> args = predict, SOFTMAX, jnp.zeros((2, 3)), x
>>> exact = fisher_trace(*args, key=jax.random.key(0), estimator="exact")
>>> round(float(exact.value), 4)  # |x|^2 (1 - sum p^2) = 2 (1 - 1/3)
1.3333
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.losses import Objective
from mtl_jax.metrics import probe
from mtl_jax.types import Array, InputError, PyTree, Scalar

ESTIMATORS = ("minibatch", "per_example", "exact", "empirical")


class FisherTrace(NamedTuple):
    """Trace of the Fisher information of one task."""

    value: Scalar
    standard_error: Scalar
    """Over mini-batches."""


def fisher_trace(
    predict: Callable[[PyTree, PyTree], Array],
    objective: Objective,
    params: PyTree,
    x: PyTree,
    *,
    key: Array,
    targets: Array | None = None,
    estimator: str = "minibatch",
    batch_size: int = 16,
) -> FisherTrace:
    """Trace of the Fisher information over the inputs of the probe.

    Estimators: ``minibatch`` is ``B |mean gradient of B examples|^2``, unbiased because
    the score has zero mean given x, one backward pass a batch; ``per_example`` one
    sampled label an example; ``exact`` sums over classes; ``empirical`` uses the true
    labels (biased: not the Fisher information, recorded apart).

    Cost: one forward and backward pass an example; ``exact`` one per class.

    Args:
      predict: ``(params, x [B, ...]) -> outputs [B, ...]``.
      objective: the task's likelihood.
      params: any pytree of floats.
      x: inputs, leaves ``[N, ...]``.
      key: for the labels.
      targets: true labels ``[N, ...]``, for ``empirical`` only.
      estimator: one of `ESTIMATORS`.
      batch_size: ``B`` of ``minibatch``; how many per-example gradients at once.

    Raises:
      InputError: unknown estimator, targets missing or not wanted, or a likelihood
        whose outcomes cannot be enumerated for ``exact``.
    """
    if estimator not in ESTIMATORS:
        raise InputError(
            f"estimator {estimator!r} is not one of: {', '.join(ESTIMATORS)}."
        )
    if (estimator == "empirical") != (targets is not None):
        raise InputError("pass targets to the estimator 'empirical', and to no other.")
    if estimator == "exact" and objective.probabilities is None:
        raise InputError(
            "this likelihood's outcomes cannot be enumerated; use 'per_example'."
        )

    def batch_loss(params: PyTree, x: PyTree, y: Array) -> Array:
        return objective.example_loss(predict(params, x), y).mean()

    def squared_norms(x: PyTree, y: Array) -> Array:
        """``|grad log p(y | x)|^2`` of every example ``[B]``."""

        def one(x: PyTree, y: Array) -> Array:
            add = lambda leaf: leaf[None]  # noqa: E731
            gradient = jax.grad(batch_loss)(params, jax.tree.map(add, x), y[None])
            return tree.dot(gradient, gradient)

        return jax.vmap(one)(x, y)

    def of_minibatch(batch: tuple[PyTree, Array]) -> Array:
        x, y = batch
        gradient = jax.grad(batch_loss)(params, x, y)
        return probe.size(x) * tree.dot(gradient, gradient)

    def of_examples(batch: tuple[PyTree, Array]) -> Array:
        return squared_norms(*batch).mean()

    def of_classes(batch: tuple[PyTree, Array]) -> Array:
        x, unused = batch
        del unused
        assert objective.probabilities is not None
        chances = jax.lax.stop_gradient(objective.probabilities(predict(params, x)))
        classes = jnp.arange(chances.shape[-1])
        norms = jax.lax.map(
            lambda c: squared_norms(x, jnp.full(chances.shape[0], c)), classes
        )
        return (chances * norms.T).sum(axis=-1).mean()

    of = {
        "minibatch": of_minibatch,
        "per_example": of_examples,
        "empirical": of_examples,
        "exact": of_classes,
    }[estimator]
    with jax.default_matmul_precision("highest"):
        if targets is None:
            outputs = probe.map_examples(lambda x: predict(params, x), x, batch_size)
            targets = objective.sample_targets(key, outputs)
        values, sizes = probe.map_batches(of, (x, targets), batch_size)
    return FisherTrace(*probe.mean_and_error(values, sizes))
