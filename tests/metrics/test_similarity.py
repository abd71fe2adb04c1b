"""CKA: the definition written out, what it is blind to, and what it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.metrics.similarity import linear_cka, pairwise_cka
from mtl_jax.types import InputError

RNG = np.random.default_rng(0)
N = 50
X = RNG.normal(size=(N, 6)) + 3
Y = np.tanh(X @ RNG.normal(size=(6, 9))) + 0.3 * RNG.normal(size=(N, 9))


def hsic(k, l):  # noqa: E741
    """Estimate with bias, by the centring matrix."""
    center = np.eye(len(k)) - 1 / len(k)
    return np.trace(center @ k @ center @ l)


def hsic_1(k, l):  # noqa: E741
    """Estimate without bias: Song et al., 2012, Eq. 5."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    return (
        np.trace(k @ l)
        + k.sum() * l.sum() / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (k @ l).sum()
    ) / (n * (n - 3))


def dense(x, y, measure):
    k, l = x @ x.T, y @ y.T  # noqa: E741
    return measure(k, l) / np.sqrt(measure(k, k) * measure(l, l))


CKA = jax.jit(linear_cka, static_argnames="debiased")


def of(x, y, **options):
    return float(CKA(np.asarray(x, "f4"), np.asarray(y, "f4"), **options))


DEBIASED = pytest.mark.parametrize("debiased", [False, True])


@pytest.mark.parametrize(("debiased", "measure"), [(False, hsic), (True, hsic_1)])
def test_is_the_dense_definition(debiased, measure):
    similarity = of(X, Y, debiased=debiased)
    np.testing.assert_allclose(similarity, dense(X, Y, measure), rtol=1e-5)
    assert 0.1 < similarity < 0.9


@DEBIASED
def test_identical_features_give_one_and_order_does_not_matter(debiased):
    np.testing.assert_allclose(of(X, X, debiased=debiased), 1, rtol=1e-6)
    np.testing.assert_allclose(
        of(X, Y, debiased=debiased), of(Y, X, debiased=debiased), rtol=1e-6
    )


@DEBIASED
def test_blind_to_rotation_scale_and_offset_only(debiased):
    rotation = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    same = of(X, Y, debiased=debiased)
    for seen in (X @ rotation, 1e-12 * X, 1e30 * X, X + 40):
        np.testing.assert_allclose(of(seen, Y, debiased=debiased), same, rtol=1e-4)
    mixed = X @ np.diag([10, 1, 1, 1, 1, 0.1])
    assert abs(of(mixed, Y, debiased=debiased) - same) > 0.02
    assert of(mixed, X, debiased=debiased) < 0.8


def test_unrelated_features_are_unlike_only_without_the_bias(key):
    # Eight examples of many features look alike until the bias is taken off.
    keys = jax.random.split(key, 300)

    def once(key):
        x, y = jax.random.normal(key, (2, 8, 40))
        return linear_cka(x, y), linear_cka(x, y, debiased=True)

    biased, debiased = jax.lax.map(once, keys)
    assert biased.mean() > 0.7
    assert abs(debiased.mean()) < 4 * debiased.std() / np.sqrt(300)


@DEBIASED
@pytest.mark.parametrize("size", [0.0, 1.0, 1e6])
def test_constant_features_give_nan_and_count_for_nothing(debiased, size):
    # Also where their means are rounded.
    constant = size * np.tile(RNG.uniform(-1, 1, size=7), (N, 1))
    assert np.isnan(of(constant, Y, debiased=debiased))
    assert np.isnan(of(Y, constant, debiased=debiased))
    beside = np.concatenate([size * X, 9 * constant], axis=1)
    if size:
        expected = of(X, Y, debiased=debiased)
        np.testing.assert_allclose(
            of(beside, Y, debiased=debiased), expected, rtol=1e-5
        )


def test_bad_shapes():
    for y, match in ((Y[:-1], "same N"), (Y[:, 0], "same N"), (Y[None], "same N")):
        with pytest.raises(InputError, match=match):
            of(X, y)
    with pytest.raises(InputError, match="at least 4 examples, not 3"):
        of(X[:3], Y[:3], debiased=True)


@pytest.mark.parametrize("debiased", [False, True])
def test_all_pairs_are_those_pair_by_pair(debiased):
    features = jnp.asarray(np.stack([X, Y[:, :6], 2 * X]), "f4")
    pairs = np.asarray(pairwise_cka(features, debiased=debiased))
    np.testing.assert_allclose(pairs, pairs.T, atol=1e-6)
    np.testing.assert_allclose(np.diagonal(pairs), 1, rtol=1e-5)
    assert pairs[0, 1] == pytest.approx(of(X, Y[:, :6], debiased=debiased), rel=1e-4)
    assert pairs[0, 2] == pytest.approx(1, rel=1e-5)


def test_pairs_need_features_of_networks():
    with pytest.raises(InputError, match=r"\(2, 3\); pass \[T, N, D\]"):
        pairwise_cka(jnp.zeros((2, 3)))
    with pytest.raises(InputError, match="at least 4 examples, not 3"):
        pairwise_cka(jnp.zeros((2, 3, 1)), debiased=True)
