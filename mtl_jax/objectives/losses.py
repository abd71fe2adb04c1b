"""Objectives: per-example loss, the likelihood behind it, and scores.

An `Objective` is what a task is judged by. Losses are in nats and per example;
means are taken by whoever knows the batch. ``sample_targets`` draws targets from
the model's own likelihood, which is what the Fisher information needs; noise is drawn
in float32, so that a key means the same for outputs of every type. Targets may come as
numbers of any type, as tasks of several kinds share one; what a likelihood makes of a
number that is none of its targets, `targets` says.

Where an example's target is an image, its pixels are independent given the input, and
its loss is their *mean*, as multi-task learning trains on. That is ``1 / n`` of the
negative log-likelihood of the image, with ``n`` its valid pixels: ``|grad|^2`` of the
loss at sampled targets is on average ``1 / n`` of the Fisher trace of a mean pixel
(which is that of the Gauss-Newton matrix of the loss), and ``1 / n^2`` of that of the
image. ``observations`` says ``n``, so that ``sqrt(n) loss`` has the Fisher information
that goes with the loss. Pixels without a target have no influence on anything.

>>> import jax, jax.numpy as jnp
>>> depths, measured = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[2.0, 0.0, 3.5]])
>>> DEPTH.example_loss(depths, measured)  # a depth of 0 was not measured
Array([0.75], dtype=float32)
>>> drawn = DEPTH.sample_targets(jax.random.key(0), depths, measured)
>>> (drawn != 0).tolist()
[[True, False, True]]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.objectives import targets as of_targets
from mtl_jax.objectives.label_words import LABEL_WORDS, NUMBERS
from mtl_jax.objectives.measure import LOSS, Measure
from mtl_jax.objectives.scores import (
    ACCURACY,
    BINARY_ACCURACY,
    BINARY_F1,
    MATTHEWS,
    MSE,
    PEARSON,
    SPEARMAN,
    Score,
    f1,
    ratio,
)
from mtl_jax.objectives.targets import Targets, is_class
from mtl_jax.options import one_of
from mtl_jax.types import Array, PyTree


class Objective(NamedTuple):
    """Loss, likelihood and scores of a task's outputs."""

    example_loss: Callable[[Array, Any], Array]
    """``(outputs [B, ...], targets [B, ...])`` to losses ``[B]`` in nats."""
    sample_targets: Callable[..., Any]
    """``(key, outputs [B, ...], targets=None)`` to targets drawn from the model's
    likelihood; invalid where the true ``targets``, if given, are invalid. Likelihoods
    without invalid targets ignore them."""
    scores: dict[str, Score]
    """By name; a task is shown by the first."""
    probabilities: Callable[[Array], Array] | None = None
    """Outputs to the probabilities ``[B, C]`` of the targets 0, ..., C - 1; None where
    targets cannot be enumerated."""
    observations: Callable[[Array, Any], Array] | None = None
    """``(outputs [B, ...], targets [B, ...])`` to how many independent observations
    ``[B]`` an example's targets are, of which its loss is the mean. None: one."""
    is_scalar: bool = False
    """Outputs are one number where others are a last axis of them."""
    targets: Targets | None = None
    """Targets that the likelihood knows: others are refused where they can be read, and
    their losses are NaN where not. None: others are left out."""
    labelled: Callable[[Any], Array] | None = None
    """Targets ``[B, ...]`` to whether each is there ``[B]``; None where all are, see
    `missing`."""

    @property
    def measures(self) -> dict[str, Measure]:
        """Collect direction and unit of the loss and of every score, by name."""
        scores = {name: score.measure for name, score in self.scores.items()}
        return {"loss": LOSS, **scores}


def _knowing(
    known: Targets, loss: Callable[[Array, Array], Array]
) -> Callable[[Array, Array], Array]:
    """A loss of known targets; others are refused if they can be read, or give NaN."""

    def example_loss(outputs: Array, targets: Array) -> Array:
        of_targets.refuse_others(known, outputs, targets, "the batch")
        knows = known.knows(outputs, targets)
        losses = loss(outputs, jnp.where(knows, targets, 0))
        # A factor, not a choice: that would have a gradient of 0.
        return losses * jnp.where(knows, 1, jnp.nan).astype(losses.dtype)

    return example_loss


def _noisy(key: Array, means: Array, draw: Callable[..., Array]) -> Array:
    """Means plus noise of float32, in their type or float32 if that is narrower."""
    kind = jnp.promote_types(means.dtype, jnp.float32)
    return means.astype(kind) + draw(key, means.shape, jnp.float32).astype(kind)


def _softmax_loss(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(
        logits, labels.astype(jnp.int32)
    )


def _softmax_sample(key: Array, logits: Array, targets: Array | None = None) -> Array:
    del targets
    return jax.random.categorical(key, logits.astype(jnp.float32))


SOFTMAX = Objective(
    example_loss=_knowing(of_targets.CLASSES, _softmax_loss),
    sample_targets=_softmax_sample,
    scores={"accuracy": ACCURACY},
    probabilities=jax.nn.softmax,
    targets=of_targets.CLASSES,
)
"""Classification: logits ``[B, C]``, labels 0 to ``C - 1`` ``[B]``."""


def _bernoulli_loss(logits: Array, labels: Array) -> Array:
    return optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))


def _bernoulli_sample(key: Array, logits: Array, targets: Array | None = None) -> Array:
    del targets
    chances = jax.nn.sigmoid(logits.astype(jnp.float32))
    return jax.random.bernoulli(key, chances).astype(jnp.int32)


def _bernoulli_probabilities(logits: Array) -> Array:
    return jnp.stack([jax.nn.sigmoid(-logits), jax.nn.sigmoid(logits)], axis=-1)


BERNOULLI = Objective(
    example_loss=_knowing(of_targets.BINARY, _bernoulli_loss),
    sample_targets=_bernoulli_sample,
    scores={"accuracy": BINARY_ACCURACY},
    probabilities=_bernoulli_probabilities,
    is_scalar=True,
    targets=of_targets.BINARY,
)
"""A binary attribute: logits ``[B]``, labels 0 or 1 ``[B]``."""


def _gaussian_loss(means: Array, targets: Array) -> Array:
    return 0.5 * jnp.square(means - targets)


def _gaussian_sample(key: Array, means: Array, targets: Array | None = None) -> Array:
    del targets
    return _noisy(key, means, jax.random.normal)


GAUSSIAN = Objective(
    example_loss=_knowing(of_targets.NUMBERS, _gaussian_loss),
    sample_targets=_gaussian_sample,
    scores={"mse": MSE},
    is_scalar=True,
    targets=of_targets.NUMBERS,
)
"""Regression with unit variance: means ``[B]``, targets ``[B]``; the loss is the
negative log-likelihood without its constant."""


def _per_example(values: Array) -> Array:
    """Sums ``[B]`` over all axes but the first."""
    return values.astype(jnp.float32).sum(axis=tuple(range(1, values.ndim)))


def _mean_valid(values: Array, valid: Array) -> Array:
    """Means ``[B]`` over the valid pixels; 0 for an image without one."""
    total = _per_example(jnp.where(valid, values, 0))
    return total / jnp.maximum(_per_example(valid), 1)


def _segmentation_loss(logits: Array, labels: Array) -> Array:
    valid = is_class(logits, labels)
    # Inputs are replaced too: 0 times an infinite gradient would be NaN.
    logits = jnp.where(valid[..., None], logits, 0)
    return _mean_valid(_softmax_loss(logits, jnp.where(valid, labels, 0)), valid)


def _segmentation_sample(
    key: Array, logits: Array, targets: Array | None = None
) -> Array:
    labels = jax.random.categorical(key, logits.astype(jnp.float32))
    if targets is None:
        return labels
    return jnp.where(is_class(logits, targets), labels, -1)


def _labelled_pixels(logits: Array, labels: Array) -> Array:
    return _per_example(is_class(logits, labels))


def _pixels_correct(logits: Array, labels: Array) -> tuple[Array, Array]:
    valid = is_class(logits, labels)
    correct = valid & (jnp.argmax(logits, axis=-1) == labels)
    return _per_example(correct), _per_example(valid)


def _overlaps(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Pixels ``[B, C]`` in which prediction and label are a class, both and either."""
    classes = jnp.arange(logits.shape[-1])
    valid = is_class(logits, labels)
    predicted = jnp.argmax(logits, axis=-1)

    def of_class(c: Array) -> tuple[Array, Array]:
        here, there = valid & (predicted == c), labels == c
        return _per_example(here & there), _per_example(here | there)

    both, either = jax.lax.map(of_class, classes)
    return both.T, either.T


def _mean_iou(sums: PyTree, count: Array) -> Array:
    del count
    both, either = sums
    seen = either > 0
    ious = both / (either + (either == 0))
    return ratio((ious.sum(axis=-1), seen.sum(axis=-1)), seen)


SEGMENTATION = Objective(
    example_loss=_segmentation_loss,
    sample_targets=_segmentation_sample,
    scores={
        "mean_iou": Score(_overlaps, _mean_iou, higher_is_better=True, unit="%"),
        "pixel_accuracy": Score(
            _pixels_correct, ratio, higher_is_better=True, unit="%"
        ),
    },
    observations=_labelled_pixels,
)
"""Segmentation: logits ``[B, ..., C]``, integer labels ``[B, ...]``, softmax per pixel.

A label that is no class (-1, 255, NaN) is left out. The loss is the mean over an
image's valid pixels, nats per pixel; the scores weigh all valid pixels of the split
alike. The mean IoU is over classes that are seen, in a label or in a prediction at a
valid pixel.
"""


def _measured(targets: Array) -> Array:
    return jnp.isfinite(targets) & (targets != 0)


def _depth_errors(depths: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Absolute errors, true depths and validity; 0 and 1 where there is no depth."""
    valid = _measured(targets)
    errors = jnp.where(valid, depths, 0) - jnp.where(valid, targets, 0)
    return jnp.abs(errors), jnp.where(valid, jnp.abs(targets), 1), valid


def _depth_loss(depths: Array, targets: Array) -> Array:
    errors, _, valid = _depth_errors(depths, targets)
    return _mean_valid(errors, valid)


def _depth_sample(key: Array, depths: Array, targets: Array | None = None) -> Array:
    drawn = _noisy(key, depths, jax.random.laplace)
    return drawn if targets is None else jnp.where(_measured(targets), drawn, 0)


def _measured_pixels(depths: Array, targets: Array) -> Array:
    del depths
    return _per_example(_measured(targets))


def _absolute_error(depths: Array, targets: Array) -> tuple[Array, Array]:
    errors, _, valid = _depth_errors(depths, targets)
    return _per_example(errors), _per_example(valid)


def _relative_error(depths: Array, targets: Array) -> tuple[Array, Array]:
    errors, true, valid = _depth_errors(depths, targets)
    return _per_example(errors / true), _per_example(valid)


DEPTH = Objective(
    example_loss=_depth_loss,
    sample_targets=_depth_sample,
    scores={
        "absolute_error": Score(_absolute_error, ratio, higher_is_better=False),
        "relative_error": Score(_relative_error, ratio, higher_is_better=False),
    },
    observations=_measured_pixels,
    is_scalar=True,
)
"""Depth or disparity under L1: depths ``[B, ...]``, targets ``[B, ...]``.

The likelihood is Laplace with unit scale, whose loss (without its constant) is the
absolute error and whose score a fair +1 or -1. A target that is 0, as in Cityscapes and
NYUv2, or not finite is invalid; a negative one is valid, as draws may be negative. The
loss is the mean over an image's valid pixels; the scores weigh all valid pixels of the
split alike, in the unit of the targets and relative to them.
"""


def _says_number(logits: Any, words: Any) -> Array:
    """Tell which numbers of words, of any type, are those of a similarity."""
    known = is_class(logits, words)
    says = jnp.array(NUMBERS, jnp.float32)
    return known & (says[jnp.where(known, words, 0).astype(jnp.int32)] >= 0)


def _as_numbers(score: Score) -> Score:
    """The score of what words say as numbers: of logits ``[B, W]``, words ``[B]``."""

    def statistics(logits: Array, words: Array) -> PyTree:
        says = jnp.array(NUMBERS, jnp.float32)
        known = is_class(logits, words)
        true = says[jnp.where(known, words, 0).astype(jnp.int32)]
        predicted = says[jnp.argmax(logits, axis=-1)]
        return score.statistics(predicted, of_targets.or_nan(known, true))

    return score._replace(statistics=statistics)


def _words(**scores: Score) -> Objective:
    """Make an objective of words: logits ``[B, W]``, numbers of `LABEL_WORDS` ``[B]``.

    A word of another task is as wrong as one of the own task.
    """
    return SOFTMAX._replace(scores=scores)


OBJECTIVES: dict[str, Objective] = {
    "softmax": SOFTMAX,
    "softmax_matthews": SOFTMAX._replace(
        scores={"matthews": MATTHEWS, "accuracy": ACCURACY}
    ),
    "softmax_f1": SOFTMAX._replace(scores={"accuracy": ACCURACY, "f1": f1(1)}),
    "bernoulli": BERNOULLI,
    "bernoulli_f1": BERNOULLI._replace(
        scores={"f1": BINARY_F1, "accuracy": BINARY_ACCURACY}
    ),
    "gaussian": GAUSSIAN,
    "gaussian_correlation": GAUSSIAN._replace(
        scores={"spearman": SPEARMAN, "pearson": PEARSON, "mse": MSE}
    ),
    "segmentation": SEGMENTATION,
    "depth": DEPTH,
    "words": _words(accuracy=ACCURACY),
    "words_matthews": _words(matthews=MATTHEWS, accuracy=ACCURACY),
    "words_equivalent": _words(accuracy=ACCURACY, f1=f1(LABEL_WORDS["equivalent"])),
    "words_duplicate": _words(accuracy=ACCURACY, f1=f1(LABEL_WORDS["duplicate"])),
    "words_similarity": _words(
        spearman=_as_numbers(SPEARMAN), pearson=_as_numbers(PEARSON)
    )._replace(targets=Targets(_says_number, "words that say a number")),
}
"""Objectives by name; those of one loss differ in their scores."""


def named(objective: str | Objective) -> Objective:
    """Return the objective of a name; one that is given stays.

    Raises:
      InputError: an unknown name.
    """
    if isinstance(objective, Objective):
        return objective
    return OBJECTIVES[one_of("objective", objective, OBJECTIVES)]
