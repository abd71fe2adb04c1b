from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mtl_jax.objectives.label_words import LABEL_WORDS, NUMBERS
from mtl_jax.objectives.losses import OBJECTIVES, SOFTMAX

WORDS = len(LABEL_WORDS)
NAMED = [name for name in OBJECTIVES if name.startswith("words")]


def said(*words):
    return np.array([LABEL_WORDS[word] for word in words], np.float32)


def logits(*words):
    """Draw logits whose largest says the words."""
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=(len(words), WORDS)).astype(np.float32)
    noisy[np.arange(len(words)), said(*words).astype(int)] += 20
    return jnp.asarray(noisy)


def value(objective, name, outputs, targets):
    score = OBJECTIVES[objective].scores[name]
    statistics = score.statistics(outputs, jnp.asarray(targets))
    kept = [np.asarray(leaf, np.float64) for leaf in statistics]
    if not score.of_examples:
        kept = [leaf.sum(axis=0) for leaf in kept]
    return score.value(kept, len(targets))


def test_words_are_numbered_once():
    """Keep the numbers that files of targets hold: none may change its word."""
    assert list(LABEL_WORDS.values()) == list(range(38))
    assert (LABEL_WORDS["unacceptable"], LABEL_WORDS["not_entailment"]) == (0, 11)
    assert (LABEL_WORDS["0.0"], LABEL_WORDS["5.0"]) == (12, 37)
    assert NUMBERS[:12] == (-1.0,) * 12
    np.testing.assert_allclose(NUMBERS[12:], np.arange(26) / 5, rtol=1e-12)


@pytest.mark.parametrize("name", NAMED)
def test_a_word_is_one_of_all_classes(name):
    outputs, targets = logits("2.6", "neutral"), said("2.4", "neutral")
    losses = OBJECTIVES[name].example_loss(outputs, targets)
    np.testing.assert_array_equal(losses, SOFTMAX.example_loss(outputs, targets))
    assert losses[0] > 10 and losses[1] < 1e-3
    assert OBJECTIVES[name].probabilities is not None


@pytest.mark.parametrize(
    ("objective", "positive", "negative"),
    [
        ("words_equivalent", "equivalent", "not_equivalent"),
        ("words_duplicate", "duplicate", "not_duplicate"),
    ],
)
def test_f1_of_the_positive_word(objective, positive, negative):
    true = [positive, negative, positive, positive, negative, positive]
    predicted = [positive, positive, "neutral", negative, negative, positive]
    expected = metrics.f1_score(true, predicted, labels=[positive], average="macro")
    outputs, targets = logits(*predicted), said(*true)
    np.testing.assert_allclose(value(objective, "f1", outputs, targets), expected)
    right = OBJECTIVES[objective].scores["accuracy"].statistics(outputs, targets)
    np.testing.assert_allclose(right.mean(), 0.5)


def test_a_word_of_another_task_is_a_wrong_class():
    true = ["acceptable", "unacceptable", "acceptable", "unacceptable", "acceptable"]
    predicted = ["acceptable", "unacceptable", "positive", "acceptable", "acceptable"]
    expected = metrics.matthews_corrcoef(true, predicted)
    outputs = logits(*predicted)
    outcome = value("words_matthews", "matthews", outputs, said(*true))
    np.testing.assert_allclose(outcome, expected)
    without = metrics.matthews_corrcoef(
        true[:2] + true[3:], predicted[:2] + predicted[3:]
    )
    assert abs(expected - without) > 0.01


def test_similarity_of_a_word_that_is_no_number_is_minus_one():
    true = ["0.0", "1.4", "3.6", "5.0", "2.2"]
    predicted = ["0.2", "entailment", "3.4", "4.8", "2.2"]
    numbers = [0.2, -1, 3.4, 4.8, 2.2]
    for name, peer in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        outcome = value("words_similarity", name, logits(*predicted), said(*true))
        expected: Any = peer(numbers, [float(word) for word in true])[0]
        np.testing.assert_allclose(outcome, expected, rtol=1e-6)


def test_a_true_word_that_says_no_number_has_no_similarity():
    outputs, targets = logits("2.6", "5.0", "0.0"), said("2.6", "neutral", "0.2")
    for name in ("pearson", "spearman"):
        assert np.isfinite(
            value("words_similarity", name, outputs, said("2.6", "5.0", "0.2"))
        )
        assert np.isnan(
            value("words_similarity", name, outputs, np.array([25.0, -1, 13]))
        )
    known = OBJECTIVES["words_similarity"].targets
    assert known is not None
    assert known.knows(outputs, targets).tolist() == [True, False, True]
