"""Missing labels: a batch with them is the batch without these examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.objectives.losses import BERNOULLI, GAUSSIAN, SOFTMAX
from mtl_jax.objectives.missing import is_labelled, mean_loss, skip_missing
from mtl_jax.objectives.mixed import MixedTargets, of_head, of_kinds

NAN = np.nan
OUTPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
CASES = {
    "softmax": (SOFTMAX, 3, np.array([0, -1, 2, 1, -1])),
    "softmax of numbers": (SOFTMAX, 3, np.array([0, NAN, 2, 1, -1], np.float32)),
    "bernoulli": (BERNOULLI, 1, np.array([1, -1, 0, 1, -1])),
    "gaussian": (GAUSSIAN, 1, np.array([-1.0, NAN, 0.5, 2.0, NAN], np.float32)),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_gradient_and_scores_are_those_of_the_others(name):
    objective, width, targets = CASES[name]
    there = np.asarray(is_labelled(objective, targets))
    assert there.tolist() == [True, False, True, True, False]
    skipping, plain = of_head(skip_missing(objective), width), of_head(objective, width)
    loss = jax.jit(jax.value_and_grad(lambda z: mean_loss(skipping, z, targets)))
    expected, gradient = jax.value_and_grad(
        lambda z: plain.example_loss(z[there], jnp.asarray(targets[there])).mean()
    )(OUTPUTS)
    np.testing.assert_allclose(loss(OUTPUTS)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(loss(OUTPUTS)[1], gradient, atol=1e-6)
    for score, other in zip(
        skipping.scores.values(), plain.scores.values(), strict=True
    ):
        sums = score.statistics(OUTPUTS, jnp.asarray(targets)).sum(axis=0)
        known = other.statistics(OUTPUTS[there], jnp.asarray(targets[there]))
        np.testing.assert_allclose(sums, known.sum(axis=0), rtol=1e-6)


def test_of_no_label_the_loss_is_0():
    assert mean_loss(skip_missing(GAUSSIAN), OUTPUTS[:, 0], jnp.full(5, NAN)) == 0


def test_kinds_skip_by_their_own_rule():
    objectives = [
        of_head(skip_missing(SOFTMAX), 3),
        of_head(skip_missing(GAUSSIAN), 1),
        of_head(BERNOULLI, 1),
    ]
    mixed = of_kinds(objectives)
    targets = jnp.array([1.0, -1.0, 0.0, 1.0, 0.0])

    def loss(kind, values):
        kinds = jnp.full(5, kind, jnp.int32)
        return mean_loss(mixed, OUTPUTS, MixedTargets(kinds, values))

    for kind, objective in enumerate(objectives):
        values = targets if kind < 2 else jnp.abs(targets)
        expected = mean_loss(objective, OUTPUTS, values)
        np.testing.assert_allclose(loss(kind, values), expected, rtol=1e-6)
