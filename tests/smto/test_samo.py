"""SAMO against its authors' steps, redone on dense matrices in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import smto
from mtl_jax.types import Params

T, RHO, BETA, STEP = 3, 0.5, 0.3, 0.01
LIKE = Params(
    {"a": jnp.zeros((2, 2)), "b": jnp.zeros(3)}, {"k": jnp.zeros(2), "z": jnp.zeros(())}
)
P, H = 7, 3
LEAVES = slice(0, 4), slice(4, P)
"""Coordinates of the trunk's two leaves."""
RNG = np.random.default_rng(0)
ROOTS = RNG.normal(size=(T, P + H, P + H))
CURVATURES = ROOTS @ ROOTS.transpose(0, 2, 1) / 4
SLOPES = RNG.normal(size=(T, P + H))


def flat(offset):
    """Flatten to ``[T, P + H]``: of every task its trunk, then its head."""
    return jax.vmap(lambda row: ravel_pytree(row)[0])(offset)


def rows(matrix):
    """Make the tree ``[T, ...]`` of a matrix ``[T, P + H]``."""
    return jax.vmap(ravel_pytree(LIKE)[1])(jnp.float32(matrix))


@pytest.fixture(scope="module")
def step():
    """Step once: return SAMO's arguments, requests and results, as matrices."""
    asked = {"losses": [], "grads": []}

    def losses_of(x):
        bent = jnp.einsum("ti,tij,tj->t", x, jnp.float32(CURVATURES), x)
        return bent / 2 + jnp.sum(jnp.float32(SLOPES) * x, axis=1)

    def losses_at(offset):
        asked["losses"].append(flat(offset))
        return losses_of(flat(offset))

    def grads_at(offset):
        asked["grads"].append(flat(offset))
        bent = jnp.einsum("tij,tj->ti", jnp.float32(CURVATURES), flat(offset))
        return rows(bent + jnp.float32(SLOPES))

    method = smto.make("samo", inner="aligned_mtl", rho=RHO, beta=BETA)
    assert isinstance(method, smto.Perturbation)
    given = losses_of(jnp.zeros((T, P + H))), rows(SLOPES)
    key = jax.random.key(1)
    perturbed, _ = method.update(*given, grads_at, losses_at, method.init(T), key)
    return perturbed, jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), asked)


def test_every_task_draws_noise_of_its_own_for_the_trunk(step):
    _, asked = step
    up, down = asked["losses"]
    np.testing.assert_array_equal(up, -down)
    np.testing.assert_array_equal(up[:, P:], 0)  # heads stay for the estimate
    noise = up[:, :P] / STEP
    assert (np.abs(np.corrcoef(noise)[np.triu_indices(T, 1)]) < 0.9).all()
    assert 0.5 < noise.std() < 2 and len(np.unique(noise)) == T * P


def test_trunks_and_heads_are_moved_as_the_authors_move_them(step):
    _, asked = step
    noise = asked["losses"][0][:, :P] / STEP
    g0 = SLOPES[:, :P].mean(axis=0)
    for task in range(T):
        c, b = CURVATURES[task], SLOPES[task]
        u = np.append(noise[task], np.zeros(H))
        up, down = [x @ c @ x / 2 + b @ x for x in (STEP * u, -STEP * u)]
        estimate = (up - down) / (2 * STEP) * noise[task]
        mixed = np.concatenate(
            [
                (1 - BETA) * g0[leaf]
                + BETA
                * np.linalg.norm(g0[leaf])
                * estimate[leaf]
                / np.linalg.norm(estimate[leaf])
                for leaf in LEAVES
            ]
        )
        trunk, head = asked["grads"][0][task][:P], asked["grads"][0][task][P:]
        expected = RHO * mixed / np.linalg.norm(mixed)
        np.testing.assert_allclose(trunk, expected, rtol=1e-4, atol=1e-6)
        expected = RHO * b[P:] / np.linalg.norm(b[P:])
        np.testing.assert_allclose(head, expected, rtol=1e-4, atol=1e-6)


def test_gradients_there_are_combined_and_heads_take_theirs(step):
    perturbed, asked = step
    (offset,) = asked["grads"]
    moved = np.einsum("tij,tj->ti", CURVATURES, offset) + SLOPES
    direction = ravel_pytree(perturbed.direction)[0]
    weights = np.asarray(perturbed.solution.weights, np.float64)
    assert np.ptp(weights) > 0.1
    np.testing.assert_allclose(direction, weights @ moved[:, :P], rtol=1e-3, atol=1e-4)
    heads = flat(perturbed.heads)
    np.testing.assert_allclose(heads, moved[:, P:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["samo", "fmtl"])
def test_tasks_without_heads_are_moved_in_the_trunk(name, key):
    # Tasks that share their output layer have heads without parameters.
    method = smto.make(name, inner="sum", rho=0.1)
    assert isinstance(method, smto.Perturbation)

    def grads_at(offset):
        return Params(1 + offset.shared, offset.heads)

    perturbed, _ = method.update(
        jnp.ones(2),
        Params(jnp.ones((2, 1)), {}),
        grads_at,
        lambda offset: offset.shared[:, 0],
        method.init(2),
        key,
    )
    np.testing.assert_allclose(perturbed.direction, [2.2], rtol=1e-5)
