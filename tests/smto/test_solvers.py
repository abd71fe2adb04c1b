import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from mtl_jax.smto import simplex

PROBLEMS = 12
CS = (0.1, 0.4, 0.5, 1.0)


def gramians(num_tasks, size, seed=0):
    """Normalised Gramians of random Jacobians with unlike norms, in float64."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(PROBLEMS, num_tasks, size))
    rows *= np.exp(rng.normal(size=(PROBLEMS, num_tasks, 1)))
    return normalised(np.einsum("nip,njp->nij", rows, rows))


def normalised(gram):
    return gram / np.diagonal(gram, axis1=-2, axis2=-1).mean(-1)[..., None, None]


def is_on_the_simplex(weights):
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("num_tasks", [2, 3, 10, 40])
def test_quadratic_is_optimal(num_tasks):
    gram = gramians(num_tasks, size=60)
    solve = jax.jit(jax.vmap(simplex.minimise_quadratic, (0, None)))
    weights = solve(gram.astype(np.float32), np.zeros(num_tasks, np.float32))
    weights = np.asarray(weights, np.float64)
    is_on_the_simplex(weights)
    slopes = np.einsum("nij,nj->ni", gram, weights)
    value = (weights * slopes).sum(axis=1)  # w' G w, and no task may gain less
    assert (slopes.min(axis=1) >= value * (1 - 1e-4)).all()


@pytest.mark.parametrize("num_tasks", [3, 10])
def test_quadratic_with_a_linear_term_is_optimal(num_tasks):
    gram = gramians(num_tasks, size=60, seed=1)
    linear = np.random.default_rng(2).normal(size=gram.shape[:2])
    solve = jax.jit(jax.vmap(simplex.minimise_quadratic))
    weights = solve(gram.astype(np.float32), linear.astype(np.float32))
    weights = np.asarray(weights, np.float64)
    is_on_the_simplex(weights)
    gradient = np.einsum("nij,nj->ni", gram, weights) + linear
    gap = (weights * gradient).sum(axis=1) - gradient.min(axis=1)
    assert (gap <= 1e-5).all()


@jax.jit
@jax.vmap
def cone(gram, c):
    """The problem of CAGrad."""
    linear = gram.mean(axis=0)
    return simplex.minimise_cone(gram, linear, c * jnp.sqrt(linear.mean()))


def problems(gram):
    """Every Gramian with every ``c``."""
    pairs = np.repeat(gram, len(CS), axis=0), np.tile(CS, len(gram))
    weights = np.asarray(cone(*[p.astype(np.float32) for p in pairs]), np.float64)
    is_on_the_simplex(weights)
    return zip(*pairs, weights, strict=True)


def value_and_grad(weights, gram, c):
    linear = gram.mean(axis=0)
    radius = c * np.sqrt(linear.mean())
    norm = np.sqrt(max(weights @ gram @ weights, 0))
    slope = gram @ weights / norm if norm > 0 else 0 * linear
    return linear @ weights + radius * norm, linear + radius * slope


@pytest.mark.parametrize("num_tasks", [2, 3, 10, 40])
def test_cone_is_optimal(num_tasks):
    for gram, c, weights in problems(gramians(num_tasks, size=60)):
        _, gradient = value_and_grad(weights, gram, c)
        assert weights @ gradient - gradient.min() <= 1e-5 * np.abs(gradient).max()


def by_scipy(gram, c):
    """Lowest value that SLSQP finds from the middle and from every corner."""
    num_tasks = len(gram)
    values = [
        minimize(
            value_and_grad,
            start,
            args=(gram, c),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * num_tasks,
            constraints={
                "type": "eq",
                "fun": lambda w: w.sum() - 1,
                "jac": np.ones_like,
            },
            options={"ftol": 1e-12, "maxiter": 300},
        ).x
        for start in (np.full(num_tasks, 1 / num_tasks), *np.eye(num_tasks)[:3])
    ]
    feasible = [np.maximum(w, 0) / np.maximum(w, 0).sum() for w in values]
    return min(value_and_grad(w, gram, c)[0] for w in feasible)


def is_not_worse_than_scipy(gram, tolerance=1e-5):
    for one, c, weights in problems(gram):
        found = value_and_grad(weights, one, c)[0]
        expected = by_scipy(one, c)
        # A value may cancel to nothing: errors are relative to what is summed.
        scale = max(abs(expected), np.abs(one.mean(axis=0)).max())
        assert found <= expected + tolerance * scale, (one.tolist(), c)


@pytest.mark.parametrize("num_tasks", [2, 3, 5, 10])
def test_cone_is_not_worse_than_scipy(num_tasks):
    is_not_worse_than_scipy(gramians(num_tasks, size=60)[:4])


# Here steps towards the tip of the cone can end far from the solution, which is
# elsewhere: the convex hull of the gradients comes close to 0.
NEAR_THE_TIP = [
    [(-2, 2, -1), (3, -3, 1), (2, 3, -2), (-2, 0, 0)],
    [(-3, 3, 1), (3, -3, -3), (3, -1, 3), (-1, 1, 3)],
    [(-3, 3, -2), (2, 3, -3), (2, -2, -1), (2, -3, 2)],
]


@pytest.mark.parametrize("jacobian", NEAR_THE_TIP, ids=str)
def test_cone_near_its_tip(jacobian):
    rows = np.array(jacobian, np.float64)
    # Where a norm cancels to 0, rounding of the Gramian weighs as its square root.
    is_not_worse_than_scipy(normalised(rows @ rows.T)[None], tolerance=3e-4)


def test_zero_gramian_is_left_alone():
    np.testing.assert_array_equal(simplex.normalise(jnp.zeros((3, 3))), 0)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_normalised_gramian_has_a_mean_diagonal_of_one(scale):
    gram = np.diag(np.array([1, 2, 6], np.float32)) * np.float32(scale)
    found = np.diagonal(simplex.normalise(jnp.asarray(gram)))
    np.testing.assert_allclose(found, [1 / 3, 2 / 3, 2], rtol=1e-6)


def test_norm_of_what_cancels_is_zero():
    rows = np.array([(1, 3), (-2, -6)], np.float32)
    gram = simplex.normalise(jnp.asarray(rows @ rows.T))
    assert simplex.norm(gram, jnp.array([2 / 3, 1 / 3])) == 0
    assert simplex.norm(gram, jnp.array([0.67, 0.33])) > 0
