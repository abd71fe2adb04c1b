from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mtl_jax.objectives.measure import Measure
from mtl_jax.objectives.scores import (
    ACCURACY,
    BINARY_ACCURACY,
    BINARY_F1,
    MATTHEWS,
    MSE,
    PEARSON,
    SPEARMAN,
    f1,
)

SEEDS = pytest.mark.parametrize("seed", range(8))
CORRELATIONS = pytest.mark.parametrize(
    ("score", "peer"),
    [(PEARSON, stats.pearsonr), (SPEARMAN, stats.spearmanr)],
    ids=["pearson", "spearman"],
)


def classes(seed, kinds=None):
    """Draw logits and labels; every seed has its number of classes and examples."""
    rng = np.random.default_rng(seed)
    kinds, n = kinds or int(rng.integers(2, 6)), int(rng.integers(5, 80))
    labels = rng.integers(kinds, size=n)
    logits = rng.normal(size=(n, kinds)) + 2 * rng.random() * np.eye(kinds)[labels]
    return logits.astype(np.float32), labels


def from_sums(score, outputs, targets):
    """Evaluate as training does: sum pieces in float32, add and divide in float64."""
    pieces = [slice(0, 3), slice(3, 4), slice(4, None)]
    statistics = [score.statistics(outputs[piece], targets[piece]) for piece in pieces]
    sums = jax.tree.map(
        lambda *leaves: sum(np.float64(leaf.sum(axis=0)) for leaf in leaves),
        *statistics,
    )
    return score.value(sums, np.float64(len(targets)))


def of_all(score, outputs, targets):
    statistics = score.statistics(jnp.asarray(outputs), jnp.asarray(targets))
    return score.value(jax.device_get(statistics), len(targets))


@SEEDS
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_scores_of_classes_are_those_of_scikit_learn(seed, dtype):
    logits, labels = classes(seed)
    predicted, targets = logits.argmax(axis=1), labels.astype(dtype)
    for score, expected in [
        (MATTHEWS, metrics.matthews_corrcoef(labels, predicted)),
        (ACCURACY, metrics.accuracy_score(labels, predicted)),
        *(
            (f1(c), metrics.f1_score(labels, predicted, labels=[c], average="macro"))
            for c in range(logits.shape[1])
            if c in labels or c in predicted
        ),
    ]:
        assert not score.of_examples and score.higher_is_better
        value = from_sums(score, logits, targets)
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@SEEDS
@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_scores_of_an_attribute_are_those_of_scikit_learn(seed, share, dtype):
    rng = np.random.default_rng(seed)
    labels = (rng.random(200) < share).astype(dtype)
    logits = (rng.normal(size=200) + 2 * labels - 1).astype(np.float32)
    for score, expected in [
        (BINARY_F1, metrics.f1_score(labels, logits > 0)),
        (BINARY_ACCURACY, metrics.accuracy_score(labels, logits > 0)),
    ]:
        assert score.measure == Measure(1, "%")
        value = from_sums(score, logits, labels)
        np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [([-1, -1, 0, -1], [0] * 4, 0), ([-1] * 4, [0, 0, 1, 1], 0)]
    + [([1] * 4, [0, 0, 0, 1], 2 / 5), ([-1] * 4, [0, 0, 0, -1], np.nan)],
    ids=["nowhere", "never predicted", "always predicted", "no label"],
)
def test_f1_of_an_attribute_at_its_limits(logits, labels, expected):
    logits = np.array(logits, np.float32)
    value = from_sums(BINARY_F1, logits, np.array(labels, np.int8))
    np.testing.assert_allclose(value, expected)


def test_matthews_of_a_split_of_glue_is_exact():
    """Multiply counts to products far beyond what float32 holds."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=40_000)
    predicted = np.where(rng.random(40_000) < 0.9, labels, 1 - labels)
    value = from_sums(MATTHEWS, np.eye(2, dtype=np.float32)[predicted], labels)
    expected = metrics.matthews_corrcoef(labels, predicted)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("predicted", "labels"),
    [([1] * 5, [0, 1, 1, 2, 1]), ([0, 1, 1, 2, 1], [1] * 5), ([2] * 5, [2] * 5)],
)
def test_matthews_is_0_where_a_side_is_one_class(predicted, labels):
    logits = np.eye(3, dtype=np.float32)[predicted]
    assert from_sums(MATTHEWS, logits, np.array(labels)) == 0


def test_f1_is_0_of_a_class_that_is_nowhere_and_of_one_never_found():
    logits = np.eye(4, dtype=np.float32)[[0, 1, 1, 2, 1]]
    labels = np.array([0, 1, 1, 0, 1])
    assert from_sums(f1(3), logits, labels) == 0
    assert from_sums(f1(2), logits, labels) == 0


def numbers(seed, ties):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 80))
    targets = rng.normal(size=n)
    means = 3 + rng.random() * targets + rng.normal(size=n)
    if ties:
        targets, means = np.round(2 * targets) / 2, np.round(means)
    return means.astype(np.float32), targets.astype(np.float32)


@SEEDS
@CORRELATIONS
@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
def test_correlations_are_those_of_scipy(score, peer, seed, ties):
    means, targets = numbers(seed, ties)
    assert score.of_examples and score.higher_is_better
    expected: Any = peer(means.astype(np.float64), targets.astype(np.float64))[0]
    np.testing.assert_allclose(of_all(score, means, targets), expected, rtol=1e-10)


def test_pearson_of_values_far_from_zero_does_not_cancel():
    means, targets = numbers(0, ties=False)
    means = means + np.float32(1e4)
    expected = np.corrcoef(means.astype(np.float64), targets.astype(np.float64))[0, 1]
    np.testing.assert_allclose(of_all(PEARSON, means, targets), expected, rtol=1e-10)


@CORRELATIONS
def test_correlation_with_a_constant_is_0(score, peer):
    del peer
    constant, targets = np.full(7, 0.1, np.float32), np.arange(7.0, dtype=np.float32)
    assert of_all(score, constant, targets) == of_all(score, targets, constant) == 0


@CORRELATIONS
def test_correlation_of_what_is_not_a_number_is_none(score, peer):
    del peer
    means = np.array([0, 1, np.nan, 3], np.float32)
    assert np.isnan(of_all(score, means, np.arange(4.0, dtype=np.float32)))
    if score is PEARSON:
        means[2] = np.inf
        assert np.isnan(of_all(score, means, np.arange(4.0, dtype=np.float32)))


def test_less_is_better_of_errors_only():
    assert not MSE.higher_is_better
