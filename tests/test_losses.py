import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mtl_jax.losses import BERNOULLI, GAUSSIAN, SOFTMAX

B, C, DRAWS = 64, 5, 20_000


def outputs_and_targets(objective):
    rng = np.random.default_rng(0)
    shape = (B, C) if objective is SOFTMAX else (B,)
    outputs = 3 * rng.normal(size=shape).astype(np.float32)
    if objective is GAUSSIAN:
        return outputs, rng.normal(size=B).astype(np.float32)
    return outputs, rng.integers(C if objective is SOFTMAX else 2, size=B, dtype="i4")


def log_likelihood(objective, outputs, targets):
    """In float64, by the library of distributions."""
    outputs = outputs.astype(np.float64)
    if objective is SOFTMAX:
        p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        return np.log(p[np.arange(len(p)), targets])
    if objective is BERNOULLI:
        return stats.bernoulli.logpmf(targets, 1 / (1 + np.exp(-outputs)))
    return stats.norm.logpdf(targets, outputs) + np.log(2 * np.pi) / 2


OBJECTIVES = pytest.mark.parametrize(
    "objective", [SOFTMAX, BERNOULLI, GAUSSIAN], ids=["softmax", "bernoulli", "gauss"]
)


@OBJECTIVES
def test_loss_is_the_negative_log_likelihood(objective):
    outputs, targets = outputs_and_targets(objective)
    losses = objective.example_loss(outputs, targets)
    assert losses.shape == (B,) and losses.dtype == jnp.float32
    expected = -log_likelihood(objective, outputs, targets)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("objective", "logits"),
    [(SOFTMAX, [[1e4, -1e4]] * 2), (BERNOULLI, [-2e4] * 2)],
    ids=["softmax", "bernoulli"],
)
def test_losses_of_large_logits_are_exact(objective, logits):
    losses = objective.example_loss(jnp.array(logits), jnp.array([0, 1]))
    np.testing.assert_array_equal(losses, [0, 2e4])


@pytest.mark.parametrize(
    ("objective", "values"),
    [(SOFTMAX, range(C)), (BERNOULLI, range(2))],
    ids=["softmax", "bernoulli"],
)
def test_score_function_has_zero_mean(objective, values):
    outputs, _ = outputs_and_targets(objective)
    mean = np.zeros(outputs.shape)
    for value in values:
        targets = jnp.full(B, value)
        loss, pullback = jax.vjp(
            lambda o, y=targets: objective.example_loss(o, y), jnp.asarray(outputs)
        )
        weights = jnp.exp(-loss)  # the likelihood of this target
        mean += pullback(weights)[0]
    np.testing.assert_allclose(mean, 0, atol=1e-6)


@pytest.mark.parametrize("objective", [SOFTMAX, BERNOULLI], ids=["softmax", "binary"])
def test_sampled_targets_have_the_frequencies_of_the_likelihood(objective, key):
    outputs = outputs_and_targets(objective)[0][:4]
    draws = jax.vmap(objective.sample_targets, (0, None))(
        jax.random.split(key, DRAWS), outputs
    )
    assert draws.shape == (DRAWS, 4) and jnp.issubdtype(draws.dtype, jnp.integer)
    for value in range(C if objective is SOFTMAX else 2):
        p = np.exp(log_likelihood(objective, outputs, np.full(4, value)))
        error = np.sqrt(p * (1 - p) / DRAWS)
        frequency = np.asarray(draws == value).mean(axis=0)
        np.testing.assert_array_less(np.abs(frequency - p), 4 * error + 1e-9)


def test_sampled_gaussian_targets_have_unit_variance(key):
    means = jnp.array([-2.0, 0.0, 5.0])
    draws = jax.vmap(GAUSSIAN.sample_targets, (0, None))(
        jax.random.split(key, DRAWS), means
    )
    found = np.asarray(draws, np.float64)
    error = 1 / np.sqrt(DRAWS)
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - means), 4 * error)
    np.testing.assert_array_less(np.abs(found.var(axis=0) - 1), 4 * np.sqrt(2) * error)


def expected_score(objective, name, outputs, targets):
    if name == "mse":
        return np.mean((outputs - targets) ** 2)
    predicted = outputs.argmax(axis=1) if objective is SOFTMAX else outputs > 0
    return np.mean(predicted == targets)


@OBJECTIVES
def test_score_from_sums_in_pieces_is_that_of_the_whole(objective):
    outputs, targets = outputs_and_targets(objective)
    for name, score in objective.scores.items():
        sums = jax.tree.map(
            jnp.zeros_like, score.statistics(outputs[0:0], targets[0:0])
        )
        sums = jax.tree.map(lambda leaf: leaf.sum(axis=0), sums)
        for start, stop in ((0, 1), (1, 20), (20, B)):
            piece = score.statistics(outputs[start:stop], targets[start:stop])
            sums = jax.tree.map(lambda s, p: s + p.sum(axis=0), sums, piece)
        found = score.value(sums, jnp.float32(B))
        expected = expected_score(objective, name, outputs, targets)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert score.higher_is_better == (name == "accuracy")
