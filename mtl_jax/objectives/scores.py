"""Scores over whole splits, from what the examples say.

Most are quotients of sums over examples, so that a split may be walked in batches of
any size with one division at the end. Correlations are not: of ranks they need all
examples at once, and of values sums in float32 would cancel.

A label that is no class (`targets`) makes the score NaN: it is neither right nor wrong.

>>> import numpy as np
>>> labels, logits = np.array([0, 1, 1, 1]), np.eye(2)[[0, 1, 1, 0]]
>>> sums = [leaf.sum(axis=0) for leaf in MATTHEWS.statistics(logits, labels)]
>>> round(float(MATTHEWS.value(sums, 4)), 4)  # 2 / sqrt(3 * 4) of 2 x 2 counts
0.5774
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.objectives.measure import Measure
from mtl_jax.objectives.targets import BINARY, NUMBERS, is_class, or_nan
from mtl_jax.types import Array, PyTree


class Score(NamedTuple):
    """A score over a whole split, from statistics of its examples.

    Tables, figures and the choice of learning rates follow what is declared here:

    >>> from mtl_jax.objectives.losses import SOFTMAX
    >>> loss, exp_mean = SOFTMAX.example_loss, lambda sums, count: np.exp(sums / count)
    >>> perplexity = Score(loss, exp_mean, higher_is_better=False)
    >>> perplexity.measure
    Measure(direction=-1, unit='')
    """

    statistics: Callable[[Array, Any], PyTree]
    """``(outputs [B, ...], targets [B, ...])`` to leaves ``[B, ...]``."""
    value: Callable[[PyTree, Any], Any]
    """``(sums of the statistics over the examples, their number)`` to the score; on the
    host, in float64, so with NumPy and without JAX."""
    higher_is_better: bool
    unit: str = ""
    """As in `Measure`: ``%`` of a score that is a fraction."""
    of_examples: bool = False
    """`value` takes the statistics of all examples ``[n, ...]`` in place of their
    sums."""

    @property
    def measure(self) -> Measure:
        """Return direction and unit, as the records have them."""
        return Measure(1 if self.higher_is_better else -1, self.unit)


def mean(sums: PyTree, count: Array) -> Array:
    """Average over the examples."""
    return sums / count


def ratio(sums: PyTree, count: Array) -> Array:
    """Divide the first sum by the second, 0 where there was nothing to count."""
    del count
    above, below = sums
    return above / (below + (below == 0))


def _classes(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Predicted and true classes ``[B]``, of labels of any type; -1 for no class."""
    true = jnp.where(is_class(logits, labels), labels, -1).astype(jnp.int32)
    return jnp.argmax(logits, axis=-1), true


def _correct(logits: Array, labels: Array) -> Array:
    predicted, true = _classes(logits, labels)
    return or_nan(true >= 0, (predicted == true).astype(jnp.float32))


def _correct_sign(logits: Array, labels: Array) -> Array:
    correct = (logits > 0) == (labels > 0)
    return or_nan(BINARY.knows(logits, labels), correct.astype(jnp.float32))


def _squared_error(means: Array, targets: Array) -> Array:
    return jnp.square(means - targets)


ACCURACY = Score(_correct, mean, higher_is_better=True, unit="%")
"""Share of right classes, of logits ``[B, C]`` and class numbers ``[B]``."""
BINARY_ACCURACY = Score(_correct_sign, mean, higher_is_better=True, unit="%")
"""Share of right signs, of logits ``[B]`` and labels 0 or 1 ``[B]``."""
MSE = Score(_squared_error, mean, higher_is_better=False)
"""Mean squared error of means ``[B]`` and targets ``[B]``."""


def _confusion(logits: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Hits ``[B]``, and predicted and true classes one-hot ``[B, C]``."""
    classes = _classes(logits, labels)
    predicted, true = (jax.nn.one_hot(numbers, logits.shape[-1]) for numbers in classes)
    return or_nan(classes[1] >= 0, (predicted * true).sum(axis=-1)), predicted, true


def _matthews(sums: PyTree, count: Array) -> Array:
    """``(c s - sum_k p_k t_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2))``."""
    c, p, t = sums
    s = count
    scale = (s**2 - (p**2).sum(axis=-1)) * (s**2 - (t**2).sum(axis=-1))
    return (c * s - (p * t).sum(axis=-1)) / (scale + (scale == 0)) ** 0.5


MATTHEWS = Score(_confusion, _matthews, higher_is_better=True, unit="%")
"""Matthews correlation of any number of classes (Gorodkin, 2004, R_K), in [-1, 1].

Of logits ``[B, C]`` and class numbers ``[B]``; 0 where all predictions, or all labels,
are one class.
"""


def _f1(sums: PyTree, count: Array) -> Array:
    both, predicted, true = sums
    return ratio((2 * both, predicted + true), count)


def f1(positive: int) -> Score:
    """Make the F1 of one class: harmonic mean of its precision and recall, in [0, 1].

    Of logits ``[B, C]`` and class numbers ``[B]``; 0 where the class is neither
    predicted nor true.
    """

    def statistics(logits: Array, labels: Array) -> tuple[Array, Array, Array]:
        classes = _classes(logits, labels)
        predicted, true = (
            (numbers == positive).astype(jnp.float32) for numbers in classes
        )
        return or_nan(classes[1] >= 0, predicted * true), predicted, true

    return Score(statistics, _f1, higher_is_better=True, unit="%")


def _signs(logits: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Hits, predicted and true positives ``[B]``."""
    predicted, true = ((x > 0).astype(jnp.float32) for x in (logits, labels))
    hits = or_nan(BINARY.knows(logits, labels), predicted * true)
    return hits, predicted, true


BINARY_F1 = Score(_signs, _f1, higher_is_better=True, unit="%")
"""F1 of the label 1, of logits ``[B]`` and labels 0 or 1 ``[B]``; as `f1`."""


def _pairs(means: Array, targets: Array) -> tuple[Array, Array]:
    known = NUMBERS.knows(means, targets)
    return means.astype(jnp.float32), or_nan(known, targets.astype(jnp.float32))


def _pearson(pairs: PyTree, count: Any) -> float:
    del count
    x, y = np.asarray(pairs, np.float64)
    if not np.isfinite([x, y]).all():
        return np.nan
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _spearman(pairs: PyTree, count: Any) -> float:
    from scipy import stats  # on demand: half a second of every start

    return _pearson([stats.rankdata(values) for values in pairs], count)


PEARSON = Score(_pairs, _pearson, higher_is_better=True, unit="%", of_examples=True)
"""Correlation of means ``[B]`` with targets ``[B]``, in [-1, 1]; 0 where one is
constant, NaN where one is not finite."""
SPEARMAN = Score(_pairs, _spearman, higher_is_better=True, unit="%", of_examples=True)
"""Correlation of their ranks; equal values have the mean of theirs. 0 where one is
constant, NaN where one is NaN, or a target is not finite."""
