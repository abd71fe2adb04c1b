"""TIES against flat NumPy, its quirks one by one, and what holds for any vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import InputError, merging

SHAPES = {"a": (3, 4), "b": (5,), "c": ()}


def drawn(seed, tasks=4, *, coarse=False):
    """Draw a start and task vectors; coarse ones tie, and their sums cancel."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        values = rng.normal(size=shape)
        return jnp.asarray(np.round(values * 2) / 2 if coarse else values, jnp.float32)

    start = {name: draw(*shape) for name, shape in SHAPES.items()}
    return start, {name: draw(tasks, *shape) for name, shape in SHAPES.items()}


def flat(tree, tasks=4):
    rows = [np.asarray(leaf, np.float64).reshape(tasks, -1) for leaf in tree.values()]
    return np.concatenate(rows, axis=1)


def reference(vectors, density, merge):
    """Merge rows ``[T, D]`` entry by entry: (what is consistent, what is merged)."""
    tasks, total = vectors.shape
    rank = total - int(total * density)  # 1 is the smallest
    limits = np.sort(np.abs(vectors), axis=1)[:, max(rank, 1) - 1]
    trimmed = np.where(np.abs(vectors) >= limits[:, None], vectors, 0)
    signs = np.sign(trimmed.sum(axis=0))
    majority = np.sign(signs.sum())
    kept = np.zeros_like(vectors)
    merged = np.zeros(total)
    for d in range(total):
        sign = signs[d] or majority
        agree = [t for t in range(tasks) if trimmed[t, d] * (1 if sign > 0 else -1) > 0]
        kept[agree, d] = trimmed[agree, d]
        if agree:
            merged[d] = {"sum": np.sum, "mean": np.mean}[merge](trimmed[agree, d])
    return kept, merged


@pytest.mark.parametrize("coarse", [False, True], ids=["normal", "coarse"])
@pytest.mark.parametrize("merge", ["sum", "mean"])
def test_as_flat_numpy(merge, coarse):
    ties = jax.jit(merging.ties, static_argnames=("density", "merge"))
    consistent = jax.jit(merging.consistent, static_argnames="density")
    for seed in range(10):
        start, vectors = drawn(seed, coarse=coarse)
        for density in (0.2, 0.61, 1.0):
            kept, merged = reference(flat(vectors), density, merge)
            ours = ties(start, vectors, density=density, scale=0.3, merge=merge)
            expected = flat(start, 1)[0] + 0.3 * merged
            np.testing.assert_allclose(flat(ours, 1)[0], expected, atol=1e-6)
            ours = consistent(vectors, density=density)
            np.testing.assert_allclose(flat(ours), kept, atol=1e-6)


def test_permuted_tasks_scaled_vectors_and_no_scale():
    start, vectors = drawn(0)
    merged = merging.ties(start, vectors, merge="mean")
    permuted = jax.tree.map(lambda v: v[jnp.array([2, 0, 3, 1])], vectors)
    again = merging.ties(start, permuted, merge="mean")
    np.testing.assert_allclose(flat(merged, 1), flat(again, 1), atol=1e-6)
    for factor in (-1.0, 8.0):  # odd, where no sums cancel; trimming has no unit
        scaled = jax.tree.map(lambda v, f=factor: f * v, vectors)
        moved = merging.ties(start, scaled, merge="mean", scale=0.3 / factor)
        np.testing.assert_allclose(flat(merged, 1), flat(moved, 1), atol=1e-6)
    still = merging.ties(start, vectors, scale=0.0)
    np.testing.assert_array_equal(flat(still, 1), flat(start, 1))


def test_of_equal_tasks_the_mean_is_the_trimmed_vector():
    start, vectors = drawn(0, tasks=1)
    copies = jax.tree.map(lambda v: v.repeat(5, axis=0), vectors)
    merged = merging.ties(start, copies, scale=1.0, merge="mean")
    trimmed = merging.trim(vectors)
    expected = flat(start, 1) + flat(trimmed, 1)
    np.testing.assert_allclose(flat(merged, 1), expected, atol=1e-6)


def test_trimming_keeps_one_more_and_ties():
    vectors = jnp.array([[1.0, -2.0, 3.0, 4.0, -5.0], [1.0, 1.0, 2.0, 2.0, 2.0]])
    kept = merging.trim(vectors, density=0.2) != 0
    assert kept.tolist() == [[False] * 3 + [True] * 2, [False] * 2 + [True] * 3]


def test_an_entry_without_a_sign_takes_the_majoritys():
    vectors = jnp.array([[1.0, 2.0, -3.0], [-1.0, 2.0, -3.0]])
    assert merging.elect(vectors).tolist() == [0, 1, -1]  # which has none
    assert merging.consistent(vectors, density=1)[:, 0].tolist() == [0, -1]
    assert merging.elect(vectors[:, :2]).tolist() == [1, 1]
    assert merging.consistent(vectors[:, :2], density=1)[:, 0].tolist() == [1, 0]


def test_vmapped_over_seeds_and_scales_is_a_loop():
    pairs = [drawn(seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)
    scales = jnp.array([0.1, 1.0])

    def of_scale(start, vectors, scale):
        return merging.ties(start, vectors, scale=scale)

    grid = jax.vmap(jax.vmap(of_scale, (None, None, 0)), (0, 0, None))
    merged = grid(stacked[0], stacked[1], scales)
    for s, (start, vectors) in enumerate(pairs):
        for i in range(2):
            alone = merging.ties(start, vectors, scale=scales[i])
            np.testing.assert_allclose(merged["a"][s, i], alone["a"], atol=1e-6)


def test_bad_options():
    start, vectors = drawn(0)
    for density in (0, 1.5, float("nan"), True):
        with pytest.raises(InputError, match="density is"):
            merging.ties(start, vectors, density=density)
    with pytest.raises(InputError, match="merge 'max' is not one of: sum, mean"):
        merging.ties(start, vectors, merge="max")
