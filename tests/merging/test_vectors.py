"""Task vectors, points that they span, and averages, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import InputError, merging
from tests.merging import net


def flat(tree):
    """Rows of a stacked tree ``[T, D]``."""
    return np.concatenate([np.asarray(v).reshape(len(v), -1) for v in tree.values()], 1)


def test_vectors_lengths_and_cosines():
    corners = net.corners()
    solutions = jax.tree.map(lambda s, v: s[None] + v, corners.start, corners.vectors)
    vectors = merging.task_vectors(corners.start, solutions)
    np.testing.assert_allclose(flat(vectors), flat(corners.vectors), atol=1e-6)
    second = merging.compose(corners.start, vectors, jnp.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(second["w"], solutions["w"][1], atol=1e-6)
    rows = flat(corners.vectors).astype(np.float64)
    sizes = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(merging.lengths(corners.vectors), sizes, rtol=1e-6)
    cosines = rows @ rows.T / sizes[:, None] / sizes[None]
    np.testing.assert_allclose(
        merging.cosines(corners.vectors), cosines, rtol=1e-5, atol=1e-6
    )
    last = jax.tree.map(lambda v: v[2], corners.vectors)
    np.testing.assert_allclose(
        merging.cosines_to(corners.vectors, last), cosines[2], rtol=1e-5, atol=1e-6
    )


def test_a_vector_of_zero_length_has_no_cosine():
    vectors = {"w": jnp.array([[1.0, 2.0], [0.0, 0.0]])}
    assert jnp.isnan(merging.cosines(vectors)).tolist() == [[False, True], [True] * 2]


def test_coefficients_of_tasks_layers_and_modules():
    start = {"trunk": {"w": jnp.ones(2), "b": jnp.zeros(1)}, "norm": jnp.ones(1)}
    rng = np.random.default_rng(0)
    vectors = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=(2, *leaf.shape)), jnp.float32), start
    )
    c, d = jnp.array([0.2, -0.7]), jnp.array([1.0, 0.4])
    by_module = merging.compose(start, vectors, {"trunk": c, "norm": d})
    layers = {"trunk": {"w": c, "b": c}, "norm": d}
    assert str(by_module) == str(merging.compose(start, vectors, layers))
    w = start["trunk"]["w"] + 0.2 * vectors["trunk"]["w"][0]
    w -= 0.7 * vectors["trunk"]["w"][1]
    np.testing.assert_allclose(by_module["trunk"]["w"], w, atol=1e-6)
    tasks = merging.compose(start, vectors, c)
    np.testing.assert_allclose(tasks["trunk"]["w"], w, atol=1e-6)
    assert not np.allclose(tasks["norm"], by_module["norm"])


def test_arithmetic_goes_from_the_start_over_the_average_to_the_sum():
    corners = net.corners()
    merged = jax.jit(jax.vmap(merging.arithmetic, (None, None, 0)))(
        corners.start, corners.vectors, jnp.array([0.0, 1 / net.TASKS, 0.3])
    )
    solutions = jax.tree.map(lambda s, v: s[None] + v, corners.start, corners.vectors)
    average = merging.average(solutions)
    for name, start in corners.start.items():
        np.testing.assert_array_equal(merged[name][0], start)
        np.testing.assert_allclose(merged[name][1], average[name], atol=1e-6)
        total = start + 0.3 * np.asarray(corners.vectors[name]).sum(axis=0)
        np.testing.assert_allclose(merged[name][2], total, atol=1e-6)


def test_parts_add_up_and_do_not_overlap(key):
    vectors = net.corners().vectors
    parts = merging.partition(key, vectors, 3)
    for name, leaf in parts.items():
        leaf = np.asarray(leaf).reshape(3, *vectors[name].shape)
        np.testing.assert_array_equal(leaf.sum(axis=0), vectors[name])
        kept = leaf != 0
        assert (kept.sum(axis=0) == 1).all() and (kept == kept[:, :1]).all()
    whole = merging.arithmetic(net.corners().start, vectors, 0.3)
    again = merging.arithmetic(net.corners().start, parts, 0.3)
    np.testing.assert_allclose(whole["w"], again["w"], atol=1e-6)


def fishers(seed=2):
    rng = np.random.default_rng(seed)
    vectors = net.corners().vectors
    draw = lambda v: jnp.asarray(rng.gamma(0.5, size=v.shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, vectors)


def test_fisher_average_is_that_of_the_formula():
    solutions, diagonals = net.corners().vectors, fishers()
    sizes = np.linalg.norm(flat(diagonals), axis=1).reshape(-1, 1)
    weights = np.maximum(flat(diagonals), 1e-2) / sizes
    expected = (weights * flat(solutions)).sum(axis=0) / weights.sum(axis=0)
    merged = merging.fisher_average(solutions, diagonals, floor=1e-2)
    merged = flat({k: v[None] for k, v in merged.items()})[0]
    np.testing.assert_allclose(merged, expected, rtol=1e-4, atol=1e-6)


def test_fisher_average_does_not_see_the_length_of_a_diagonal():
    solutions, diagonals = net.corners().vectors, fishers()
    longer = jax.tree.map(lambda f: f.at[1].mul(100), diagonals)
    merged = [
        merging.fisher_average(solutions, fisher, floor=0.0)["w"]
        for fisher in (diagonals, longer)
    ]
    np.testing.assert_allclose(*merged, rtol=1e-4, atol=1e-5)


def test_fisher_average_of_equals_and_of_nothing_is_plain():
    solutions = net.corners().vectors
    average = merging.average(solutions)
    for diagonal in (jnp.ones_like, jnp.zeros_like):
        merged = merging.fisher_average(
            solutions, jax.tree.map(diagonal, solutions), floor=0.0
        )
        np.testing.assert_allclose(merged["w"], average["w"], rtol=1e-5, atol=1e-6)


def test_trees_that_do_not_fit():
    start, vectors = net.corners().start, net.corners().vectors
    with pytest.raises(InputError, match="of one structure"):
        merging.task_vectors(start, {"w": vectors["w"]})
    with pytest.raises(InputError, match="the same T tasks"):
        merging.task_vectors(start, {**vectors, "b": vectors["b"][:2]})
    with pytest.raises(InputError, match=r"\[2\] for 3 tasks"):
        merging.compose(start, vectors, jnp.ones(2))
    with pytest.raises(InputError, match="no upper part"):
        merging.compose(start, vectors, {"w": jnp.ones(3)})
    with pytest.raises(InputError, match="no leaves"):
        merging.arithmetic({}, {})
    with pytest.raises(InputError, match="one diagonal"):
        merging.fisher_average(vectors, start)
    with pytest.raises(InputError, match="parts"):
        merging.partition(jax.random.key(0), vectors, 0)
