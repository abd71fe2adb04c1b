"""Fisher information, its trace and diagonal: how much the likelihood can tell.

``Tr F = E_x E_{y ~ p(. | x)} |grad log p(y | x)|^2`` with labels drawn from the model,
not the data (Jastrzebski et al., 2021). Nats squared per unit of parameter squared.

>>> import jax, jax.numpy as jnp
>>> from mtl_jax.objectives.losses import SOFTMAX
>>> predict = lambda params, x: x @ params
>>> x = jnp.ones((32, 2))
>>> args = predict, SOFTMAX, jnp.zeros((2, 3)), x
>>> exact = fisher_trace(*args, key=jax.random.key(0), estimator="exact")
>>> round(float(exact.value), 4)  # |x|^2 (1 - sum p^2) = 2 (1 - 1/3)
1.3333
>>> diagonal = fisher_diagonal(*args, key=jax.random.key(0), estimator="exact")
>>> [round(v, 4) for v in diagonal[0].tolist()]  # x_i^2 p_c (1 - p_c)
[0.2222, 0.2222, 0.2222]
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.metrics import precision, probe
from mtl_jax.metrics.precision import Inner
from mtl_jax.objectives.losses import Objective
from mtl_jax.objectives.targets import refuse_others
from mtl_jax.options import one_of
from mtl_jax.types import Array, InputError, PyTree

ESTIMATORS = ("minibatch", "per_example", "exact", "empirical")


class FisherTrace(NamedTuple):
    """Trace of the Fisher information of one task."""

    value: Array
    standard_error: Array
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
    inner: Inner = precision.dot,
    per_parameter: bool = False,
) -> FisherTrace:
    """Estimate the trace of the Fisher information over the inputs of the probe.

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
      targets: true labels ``[N, ...]``, for ``empirical``; of the others those
        likelihoods want them that leave invalid targets out.
      estimator: one of `ESTIMATORS`.
      batch_size: ``B`` of ``minibatch``; how many per-example gradients at once.
      inner: inner product of two gradients; one that returns several ``[S]``, each
        over some of the parameters, gives as many traces.
      per_parameter: divide by the number of parameters, to compare groups of them.

    Raises:
      InputError: unknown estimator, targets missing or known to be none of the
        likelihood's, or a likelihood whose outcomes cannot be enumerated for
        ``exact``.
    """
    params, x, targets = precision.raised((params, x, targets))

    def square(gradient: PyTree) -> Array:
        return precision.squared_norm(gradient, inner)

    of, examples = _expectation(
        predict, objective, params, x, key, targets, estimator, square
    )
    with jax.default_matmul_precision("highest"):
        values, sizes = probe.map_batches(of, examples, batch_size)
    value, error = probe.mean_and_error(values, sizes)
    ones = jax.tree.map(jnp.ones_like, params)
    count = inner(ones, ones) if per_parameter else 1
    return FisherTrace(value / count, error / count)


def fisher_diagonal(
    predict: Callable[[PyTree, PyTree], Array],
    objective: Objective,
    params: PyTree,
    x: PyTree,
    *,
    key: Array,
    targets: Array | None = None,
    estimator: str = "per_example",
    batch_size: int = 16,
) -> PyTree:
    """Estimate the diagonal of the Fisher information, a tree as the parameters'.

    ``E_x E_{y ~ p(. | x)} (grad log p(y | x))^2`` of every parameter, by the estimators
    of `fisher_trace`, whose value is the sum; stacked over tasks it weighs
    `merging.fisher_average` (Matena & Raffel, 2022, take ``exact``).

    Cost: as `fisher_trace`, in memory ``batch_size`` gradients, and for ``exact`` one
    more per class.

    Args:
      predict: as in `fisher_trace`, and so are the others.
      objective: the task's likelihood.
      params: any pytree of floats.
      x: inputs, leaves ``[N, ...]``.
      key: for the labels.
      targets: true labels ``[N, ...]``.
      estimator: one of `ESTIMATORS`.
      batch_size: ``B`` of ``minibatch``; how many per-example gradients at once.

    Raises:
      InputError: as `fisher_trace`.
    """
    params, x, targets = precision.raised((params, x, targets))

    def square(gradient: PyTree) -> PyTree:
        return jax.tree.map(jnp.square, gradient)

    of, examples = _expectation(
        predict, objective, params, x, key, targets, estimator, square
    )
    with jax.default_matmul_precision("highest"):
        return probe.mean_batches(of, examples, batch_size)


def _expectation(
    predict: Callable[[PyTree, PyTree], Array],
    objective: Objective,
    params: PyTree,
    x: PyTree,
    key: Array,
    targets: Array | None,
    estimator: str,
    square: Callable[[PyTree], PyTree],
) -> tuple[Callable[[tuple], PyTree], tuple]:
    """Mean of ``square(gradient)`` over a mini-batch, and examples to cut it from.

    Arguments are raised, and otherwise those of `fisher_trace`, which says what is
    wrong with them.
    """
    one_of("estimator", estimator, ESTIMATORS)
    if estimator == "empirical" and targets is None:
        raise InputError("pass targets to the estimator 'empirical'.")
    if estimator == "exact" and objective.probabilities is None:
        raise InputError(
            "this likelihood's outcomes cannot be enumerated; use 'per_example'."
        )
    if estimator == "empirical" and objective.targets is not None:
        outputs = jax.eval_shape(predict, params, x)
        refuse_others(objective.targets, outputs, targets, "targets")

    def outputs_of(params: PyTree, x: PyTree) -> Array:
        return precision.raised(predict(params, x))

    def loss(outputs: Array, y: Array) -> Array:
        """Average such that the score has the likelihood's Fisher information."""
        losses = objective.example_loss(outputs, y)
        if objective.observations is not None:  # independent ones, each of weight 1/n
            losses *= jnp.sqrt(objective.observations(outputs, y))
        return losses.mean()

    def squares(x: PyTree, y: Array) -> PyTree:
        """Compute the square of ``grad log p(y | x)`` of every example ``[B, ...]``."""

        def of_example(x: PyTree, y: Array) -> PyTree:
            x, y = jax.tree.map(lambda leaf: leaf[None], (x, y))
            gradient = jax.grad(lambda p: loss(outputs_of(p, x), y))(params)
            return square(gradient)

        return jax.vmap(of_example)(x, y)

    def mean(rows: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf.mean(axis=0), rows)

    def of_minibatch(x: PyTree, keys: Array, targets: Array | None) -> PyTree:
        outputs, pullback = jax.vjp(lambda p: outputs_of(p, x), params)
        y = objective.sample_targets(keys[0], outputs, targets)
        (gradient,) = pullback(jax.grad(loss)(outputs, y))
        return jax.tree.map(lambda leaf: probe.size(x) * leaf, square(gradient))

    def of_samples(x: PyTree, keys: Array, targets: Array | None) -> PyTree:
        y = objective.sample_targets(keys[0], outputs_of(params, x), targets)
        return mean(squares(x, y))

    def of_targets(x: PyTree, keys: Array, targets: Array | None) -> PyTree:
        del keys
        assert targets is not None
        return mean(squares(x, targets))

    def of_classes(x: PyTree, keys: Array, targets: Array | None) -> PyTree:
        del keys, targets
        assert objective.probabilities is not None
        chances = objective.probabilities(outputs_of(params, x))

        def of_class(c: Array) -> PyTree:
            rows = squares(x, jnp.full(chances.shape[0], c))
            return jax.tree.map(
                lambda leaf: jnp.tensordot(chances[:, c], leaf, axes=1), rows
            )

        classes = jax.lax.map(of_class, jnp.arange(chances.shape[-1]))
        return jax.tree.map(lambda leaf: leaf.sum(axis=0) / chances.shape[0], classes)

    of = {
        "minibatch": of_minibatch,
        "per_example": of_samples,
        "empirical": of_targets,
        "exact": of_classes,
    }[estimator]
    examples = x, jax.random.split(key, probe.size(x)), targets
    return (lambda batch: of(*batch)), examples
