import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import tree
from mtl_jax.gradients.gramian import gramian, of

T = 3


@pytest.fixture
def grads(key):
    shapes = {"a": (T, 4), "b": [(T, 2, 3), (T,)]}
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda s: isinstance(s, tuple))
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten(
        [jax.random.normal(k, shape) for k, shape in zip(keys, leaves, strict=True)]
    )


def matrix(grads):
    return np.asarray(jax.vmap(lambda row: ravel_pytree(row)[0])(grads), np.float64)


def row(grads, t):
    return jax.tree.map(lambda leaf: leaf[t], grads)


@pytest.mark.parametrize("size", [1e-37, 1e-20, 1.0, 1e20, 1e37])
@pytest.mark.parametrize("other", [0.0, 1e-30, 1.0, 1e19])
def test_a_length_in_one_pass_is_the_norm(size, other):
    leaves = jnp.array([3.0, -4.0]) * size, jnp.full((2, 3), other)
    expected = np.linalg.norm(np.concatenate([np.float64(x).ravel() for x in leaves]))
    for f in (tree.length, lambda *leaves: tree.norm(leaves)):
        np.testing.assert_allclose(f(*leaves), expected, rtol=1e-6)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_a_length_of_what_is_not_finite_is_not(value):
    """The finiteness of a direction is that of its length."""
    for other in (0.0, 1.0, 1e37, 1e-37):
        leaves = jnp.array([other, value]), jnp.full(3, other)
        assert not jnp.isfinite(tree.length(*leaves))
        assert not jnp.isfinite(tree.norm(leaves))
    assert tree.length(jnp.zeros(2)) == 0


def test_dot_and_norm_are_those_of_all_leaves(grads):
    a, b = matrix(grads)[:2]
    np.testing.assert_allclose(tree.dot(row(grads, 0), row(grads, 1)), a @ b, 1e-5)
    np.testing.assert_allclose(tree.norm(row(grads, 0)), np.linalg.norm(a), rtol=1e-6)


def test_gram_and_cosines_are_those_of_the_matrix(grads):
    dense = matrix(grads)
    gram = gramian(grads)
    np.testing.assert_allclose(gram.entries, dense @ dense.T, rtol=1e-5)
    units = dense / np.linalg.norm(dense, axis=1, keepdims=True)
    np.testing.assert_allclose(gram.cosines, units @ units.T, atol=1e-6)


def test_cosines_of_a_zero_gradient_are_nan():
    cosines = of(jnp.diag(jnp.array([4.0, 0.0]))).cosines
    np.testing.assert_array_equal(np.isnan(cosines), [[False, True], [True, True]])


def test_half_precision_is_accumulated_in_float32():
    # 4096 ones and a tail: bfloat16 sums would stand still at 256.
    ones = {"w": jnp.ones((2, 4096), jnp.bfloat16), "b": jnp.ones((2, 1), jnp.bfloat16)}
    gram = gramian(ones).entries
    assert gram.dtype == jnp.float32
    np.testing.assert_array_equal(gram, np.full((2, 2), 4097))
    assert float(tree.dot(row(ones, 0), row(ones, 1))) == 4097


def test_combine_is_a_matrix_product(grads):
    weights = jnp.array([0.5, -2.0, 0.0])
    combined, _ = ravel_pytree(tree.combine(weights, grads))
    expected = np.asarray(weights) @ matrix(grads)
    np.testing.assert_allclose(combined, expected, rtol=1e-5, atol=1e-6)


def test_scale_rows_scales_rows(grads):
    weights = jnp.array([0.5, -2.0, 0.0])
    scaled = tree.scale_rows(weights, grads)
    np.testing.assert_allclose(
        matrix(scaled), np.asarray(weights)[:, None] * matrix(grads), rtol=1e-6
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_combine_and_scale_rows_keep_dtypes(dtype):
    grads = {"w": jnp.ones((2, 3), dtype)}
    weights = jnp.array([1.0, 2.0])
    assert tree.combine(weights, grads)["w"].dtype == dtype
    assert tree.scale_rows(weights, grads)["w"].dtype == dtype


def test_where_takes_a_whole_tree(grads):
    other = jax.tree.map(jnp.zeros_like, grads)
    for condition, chosen in ((True, grads), (False, other)):
        result = tree.where(jnp.array(condition), grads, other)
        chex.assert_trees_all_equal(result, chosen)


def test_a_choice_by_all_leaves_looks_once_at_each():
    # Fused into each of 30 leaves, it would look at 30 times as many.
    leaves = [jnp.ones(1 + place % 3) for place in range(30)]

    def choose(a, b):
        return tree.where(tree.all_finite(a) & jnp.isfinite(tree.dot(a, a)), a, b)

    text = jax.jit(choose).lower(leaves, leaves).compile().as_text() or ""
    assert 30 <= text.count(" is-finite(") <= 2 * 30 + 1
    assert text.count(" and(") <= 3 * 30


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite_sees_one_bad_number(grads, bad):
    assert tree.all_finite(grads)
    grads["b"][0] = grads["b"][0].at[1, 0, 2].set(bad)
    assert not tree.all_finite(grads)


def test_all_finite_takes_integers():
    assert tree.all_finite({"count": jnp.arange(3), "w": jnp.ones(2)})
