"""Objectives: per-example loss, the likelihood behind it, and scores.

An `Objective` is what a task is judged by. Losses are in nats and per example;
means are taken by whoever knows the batch. ``sample_targets`` draws targets from
the model's own likelihood, which is what the Fisher information needs. Scores are
sums of per-example statistics with one division at the end, so that a split may
be walked in batches of any size.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.types import Array, PyTree


class Score(NamedTuple):
    """A score over a whole split, from sums over its examples."""

    statistics: Callable[[Array, Array], PyTree]
    """``(outputs [B, ...], targets [B, ...])`` to leaves ``[B, ...]`` to be summed."""
    value: Callable[[PyTree, Array], Array]
    """``(sums, number of examples)`` to the score."""
    higher_is_better: bool = True


class Objective(NamedTuple):
    """What a task's outputs are trained and scored by."""

    example_loss: Callable[[Array, Array], Array]
    """``(outputs [B, ...], targets [B, ...])`` to losses ``[B]`` in nats."""
    sample_targets: Callable[[Array, Array], Array]
    """``(key, outputs [B, ...])`` to targets drawn from the model's likelihood."""
    scores: dict[str, Score]
    probabilities: Callable[[Array], Array] | None = None
    """Outputs to the probabilities ``[B, C]`` of the targets 0, ..., C - 1; None where
    targets cannot be enumerated."""


def _mean(sums: PyTree, count: Array) -> Array:
    return sums / count


def _softmax_loss(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(
        logits, labels.astype(jnp.int32)
    )


def _softmax_correct(logits: Array, labels: Array) -> Array:
    return (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)


SOFTMAX = Objective(
    example_loss=_softmax_loss,
    sample_targets=jax.random.categorical,
    scores={"accuracy": Score(_softmax_correct, _mean)},
    probabilities=jax.nn.softmax,
)
"""Classification: logits ``[B, C]``, integer labels ``[B]``."""


def _bernoulli_loss(logits: Array, labels: Array) -> Array:
    return optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))


def _bernoulli_sample(key: Array, logits: Array) -> Array:
    return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(jnp.int32)


def _bernoulli_probabilities(logits: Array) -> Array:
    return jnp.stack([jax.nn.sigmoid(-logits), jax.nn.sigmoid(logits)], axis=-1)


def _bernoulli_correct(logits: Array, labels: Array) -> Array:
    return ((logits > 0) == (labels > 0)).astype(jnp.float32)


BERNOULLI = Objective(
    example_loss=_bernoulli_loss,
    sample_targets=_bernoulli_sample,
    scores={"accuracy": Score(_bernoulli_correct, _mean)},
    probabilities=_bernoulli_probabilities,
)
"""A binary attribute: logits ``[B]``, labels 0 or 1 ``[B]``."""


def _gaussian_loss(means: Array, targets: Array) -> Array:
    return 0.5 * jnp.square(means - targets)


def _gaussian_sample(key: Array, means: Array) -> Array:
    return means + jax.random.normal(key, means.shape, means.dtype)


def _squared_error(means: Array, targets: Array) -> Array:
    return jnp.square(means - targets)


GAUSSIAN = Objective(
    example_loss=_gaussian_loss,
    sample_targets=_gaussian_sample,
    scores={"mse": Score(_squared_error, _mean, higher_is_better=False)},
)
"""Regression with unit variance: means ``[B]``, targets ``[B]``; the loss is the
negative log-likelihood without its constant."""
