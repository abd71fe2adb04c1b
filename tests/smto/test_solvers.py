"""Solutions are checked in float64: optimality conditions, references, closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from mtl_jax.smto.solvers import dual_cone, fairness, simplex
from mtl_jax.smto.solvers.solution import TOLERANCE

EPS = float(np.finfo(np.float32).eps)
CS = (0.1, 0.4, 0.9)
SIZES = [4, 40]


@functools.cache
def jacobians(num_tasks, decades):
    """Draw rows, some of them in conflict; norms over 2 * ``decades`` decades."""
    rng = np.random.default_rng(num_tasks)
    rows = rng.normal(size=(12, num_tasks, 60))
    rows[:6] += rng.normal(size=(6, 1, 60))  # half of the problems: agreement
    rows *= 10 ** rng.uniform(-decades, decades, (12, num_tasks, 1))
    return rows.astype(np.float32).astype(np.float64)


def gram_of(rows):
    return jnp.asarray(rows @ np.swapaxes(rows, -1, -2), jnp.float32)


def each_preference(gram):
    rows = jnp.eye(gram.shape[0]) / gram.shape[0]
    return jax.vmap(dual_cone.project, (None, 0))(gram, rows)


def to_mean(gram):
    return dual_cone.project(gram, jnp.full(len(gram), 1 / len(gram)))


SOLVERS = {
    "min_norm": simplex.min_norm,
    "dual_cone": to_mean,
    "nash": lambda gram: fairness.balance(gram, 1.0),
    "fair": lambda gram: fairness.balance(gram, 2.0),
}
SOLVE = {name: jax.jit(jax.vmap(solver)) for name, solver in SOLVERS.items()}
SOLVE_EACH = jax.jit(jax.vmap(each_preference))
SOLVE_CONE = jax.jit(jax.vmap(simplex.min_cone))


def solve_cone(rows, c):
    return SOLVE_CONE(gram_of(rows), jnp.full(len(rows), c, jnp.float32))


def solved(name, rows):
    cone = name == "min_cone"
    solution = solve_cone(rows, 0.4) if cone else SOLVE[name](gram_of(rows))
    return np.asarray(solution.weights, np.float64), np.asarray(solution.residual)


def in_units(rows, weights):
    """Return unit rows, their norms, and the weights on unit rows."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / norms, norms[..., 0], weights * norms[..., 0]


def cosines(rows, weights):
    """Compute cosines of gradients and direction, and its length, in float64."""
    units, _, scaled = in_units(rows, weights)
    direction = np.einsum("nip,ni->np", units, scaled)
    length = np.linalg.norm(direction, axis=-1, keepdims=True)
    return np.einsum("nip,np->ni", units, direction / length), length


def is_on_the_simplex(weights):
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)


everywhere = pytest.mark.parametrize("decades", [0, 3])
sizes = pytest.mark.parametrize("num_tasks", SIZES)


@everywhere
@sizes
def test_no_gradient_is_behind_the_point_of_least_norm(num_tasks, decades):
    rows = jacobians(num_tasks, decades)
    weights, residual = solved("min_norm", rows)
    is_on_the_simplex(weights)
    cosine, length = cosines(rows, weights)
    short = length / np.linalg.norm(rows, axis=-1) - cosine
    assert short.max() <= 1e-5
    assert residual.max() <= 1e-5


def cone_value(rows, weights, c):
    mean = rows.mean(axis=-2)
    point = np.einsum("...ip,...i->...p", rows, weights)
    radius = c * np.linalg.norm(mean, axis=-1)
    return (mean * point).sum(-1) + radius * np.linalg.norm(point, axis=-1)


@everywhere
@sizes
@pytest.mark.parametrize("c", CS)
def test_cone_has_no_duality_gap(num_tasks, decades, c):
    # The value is that of max over ``|d - g0| <= c |g0|`` of ``min_i <g_i, d>``.
    rows = jacobians(num_tasks, decades)
    solution = solve_cone(rows, c)
    weights = np.asarray(solution.weights, np.float64)
    is_on_the_simplex(weights)
    mean = rows.mean(axis=1)
    size = np.linalg.norm(mean, axis=-1, keepdims=True)
    units, norms, scaled = in_units(rows, weights)
    point = np.einsum("nip,ni->np", units, scaled)
    d = mean / size + c * point / np.linalg.norm(point, axis=-1, keepdims=True)
    value = cone_value(rows, weights, c)[:, None] / size
    assert (value / norms - np.einsum("nip,np->ni", units, d)).max() <= 3e-5
    assert np.asarray(solution.residual).max() <= 3e-5


def by_scipy(rows, c):
    """Return the lowest value that SLSQP finds from the middle and some corners."""
    num_tasks = len(rows)
    constraint = {"type": "eq", "fun": lambda w: w.sum() - 1}
    values = []
    for start in (np.full(num_tasks, 1 / num_tasks), *np.eye(num_tasks)[:3]):
        w = minimize(
            lambda w: float(cone_value(rows, w, c)),
            start,
            method="SLSQP",
            bounds=[(0, 1)] * num_tasks,
            constraints=constraint,
            options={"ftol": 1e-12, "maxiter": 300},
        ).x
        w = np.maximum(w, 0)
        values.append(cone_value(rows, w / w.sum(), c))
    return min(values)


# The convex hull of the gradients comes close to 0: so does the norm in the value.
NEAR_THE_TIP = [
    [(-2, 2, -1), (3, -3, 1), (2, 3, -2), (-2, 0, 0)],
    [(-3, 3, 1), (3, -3, -3), (3, -1, 3), (-1, 1, 3)],
    [(-3, 3, -2), (2, 3, -3), (2, -2, -1), (2, -3, 2)],
]


def test_cone_near_its_tip_is_not_worse_than_scipy():
    cs = np.tile([*CS, 1.0], len(NEAR_THE_TIP)).astype(np.float32)
    rows = np.repeat(np.array(NEAR_THE_TIP, np.float64), len(CS) + 1, axis=0)
    weights = SOLVE_CONE(gram_of(rows), jnp.asarray(cs)).weights
    weights = np.asarray(weights, np.float64)
    is_on_the_simplex(weights)
    for gradients, c, w in zip(rows, cs, weights, strict=True):
        # Where a norm cancels to 0, rounding of the Gramian weighs as its square root.
        tolerance = 3e-4 * np.abs(gradients @ gradients.mean(axis=0)).max()
        least = by_scipy(gradients, c)
        assert cone_value(gradients, w, c) <= least + tolerance, (gradients, c)


@everywhere
@sizes
def test_dual_cone_is_complementary(num_tasks, decades):
    # ``v >= u``, ``G v >= 0``, and one of both is tight.
    rows = jacobians(num_tasks, decades)
    solution = SOLVE_EACH(gram_of(rows))
    assert np.asarray(solution.residual).max() <= 1e-5
    preference = np.eye(num_tasks, dtype=np.float32) / num_tasks
    for i in range(num_tasks):
        weights = np.asarray(solution.weights[:, i], np.float64)
        assert (weights >= preference[i]).all()
        cosine, length = cosines(rows, weights)
        assert cosine.min() >= -1e-5
        extra = in_units(rows, weights - preference[i])[2] / length
        assert np.minimum(extra, cosine).max() <= 1e-5


@everywhere
@sizes
def test_preferences_for_all_tasks_are_projected(num_tasks, decades):
    rows = jacobians(num_tasks, decades)
    weights, residual = solved("dual_cone", rows)
    assert residual.max() <= 1e-5
    cosine, length = cosines(rows, weights)
    extra = in_units(rows, weights - np.float32(1 / num_tasks))[2] / length
    assert extra.min() >= 0
    assert cosine.min() >= -1e-5
    assert np.minimum(extra, cosine).max() <= 1e-5


@everywhere
@sizes
@pytest.mark.parametrize(("name", "alpha"), [("nash", 1.0), ("fair", 2.0)])
def test_gains_are_fair(name, alpha, num_tasks, decades):
    rows = jacobians(num_tasks, decades)
    weights, residual = solved(name, rows)
    assert (weights > 0).all()
    gain = np.einsum("nip,njp,nj->ni", rows, rows, weights)
    # Gains below the mean are what is left of terms that cancel.
    tolerance = 1e-5 if name == "nash" else 1e-4
    assert np.abs(weights ** (1 / alpha) * gain - 1).max() <= tolerance
    assert residual.max() <= tolerance


B = (1, 0), (-1, 1)
O = (1, 0), (0, 2)  # noqa: E741
I = (1, 2), (1, 2)  # noqa: E741
P = (1, 0), (-2, 0)
Z = (1, 2), (0, 0)
ROOT = np.sqrt(2)
# Weights derived by hand, in the notes on the multi-task optimizers.
CLOSED_FORMS = [
    ("min_norm", O, (0.8, 0.2)),
    ("min_norm", B, (0.6, 0.4)),
    ("min_norm", P, (2 / 3, 1 / 3)),
    ("min_norm", Z, (0, 1)),
    ("min_cone", Z, (0, 1)),
    ("min_cone", O, (1, 0)),
    ("min_cone", P, (1, 0)),
    ("dual_cone", O, (0.5, 0.5)),
    ("dual_cone", B, (0.5, 0.5)),
    ("dual_cone", Z, (0.5, 0.5)),
    ("nash", O, (1, 0.5)),
    ("nash", B, (np.sqrt(2 + ROOT), np.sqrt(1 + ROOT / 2))),
    ("nash", I, (1 / np.sqrt(10), 1 / np.sqrt(10))),
    ("nash", Z, (1 / np.sqrt(5), 0)),
    ("fair", O, (1, 4 ** (-2 / 3))),
    ("fair", B, (2.17405, 1.49584)),
]
# How the weights of a method grow with J.
POWERS = {"nash": -1, "fair": -4 / 3}


@pytest.mark.parametrize(("name", "jacobian", "expected"), CLOSED_FORMS, ids=str)
def test_closed_forms_at_any_scale(name, jacobian, expected):
    scales = np.array([1e-15, 1e-6, 1, 1e6, 1e15])
    rows = np.array(jacobian, np.float64) * scales[:, None, None]
    weights, residual = solved(name, rows)
    weights = weights / scales[:, None] ** POWERS.get(name, 0)
    np.testing.assert_allclose(weights, [expected] * 5, rtol=1e-5, atol=1e-5)
    assert residual.max() <= 1e-5


@pytest.mark.parametrize(
    ("name", "expected"),
    [("min_norm", 1), ("min_cone", 1), ("dual_cone", 1), ("nash", 0.2)],
)
def test_a_task_alone(name, expected):
    np.testing.assert_allclose(solved(name, np.array([[(3, 4)]]))[0], expected, 1e-6)


def test_upgrad_weights_of_a_conflict():
    rows = np.array([B], np.float64)
    each = SOLVE_EACH(gram_of(rows)).weights[0]
    np.testing.assert_allclose(each.sum(axis=0), (1, 0.75), rtol=1e-5)


def test_opposed_gradients_leave_no_direction():
    rows = np.array(P, np.float64)
    each = SOLVE_EACH(gram_of(rows[None])).weights[0]
    for weights in np.asarray(each):
        assert np.linalg.norm(weights @ rows) <= 4 * EPS * np.abs(weights).max()


def test_opposed_gradients_have_no_fair_direction():
    scales = np.array([1e-15, 1e-6, 1, 1e6, 1e15])
    rows = np.array(P, np.float64) * scales[:, None, None]
    for name in ("nash", "fair"):
        weights, residual = solved(name, rows)
        assert np.isfinite(weights).all()
        assert (residual > TOLERANCE).all()


DEGENERATE = {
    "duplicates": np.repeat(jacobians(4, 3), 10, axis=1),
    "fewer parameters than tasks": jacobians(40, 0)[..., :20],
    "fewer, of unlike norms": jacobians(40, 3)[..., :20],
    "a zero": np.concatenate([jacobians(40, 0)[:, 1:], np.zeros((12, 1, 60))], axis=1),
    "zeros": np.zeros((12, 40, 60)),
    "opposed": jacobians(40, 0) - np.roll(jacobians(40, 0), 1, axis=1),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("name", ["min_norm", "min_cone", "dual_cone"])
def test_degenerate_problems_are_solved(name, case):
    weights, residual = solved(name, DEGENERATE[case])
    assert np.isfinite(weights).all()
    assert residual.max() <= TOLERANCE
    if name != "dual_cone":
        is_on_the_simplex(weights)


@pytest.mark.parametrize("case", DEGENERATE)
def test_fair_weights_are_finite(case):
    for name in ("nash", "fair"):
        assert np.isfinite(solved(name, DEGENERATE[case])[0]).all()


def test_zero_gradients_share_the_least_norm():
    rows = np.array([(1, 0), (0, 0), (-1, 1), (0, 0)], np.float64)
    solve = jax.jit(simplex.min_norm)
    everyone = solve(gram_of(rows), jnp.ones(4, bool)).weights
    np.testing.assert_array_equal(everyone, (0, 0.5, 0, 0.5))
    weights = solve(gram_of(rows), jnp.array([True, False, True, False])).weights
    np.testing.assert_allclose(weights, (0.6, 0, 0.4, 0), rtol=1e-5)
    # Nor does a gradient count that is absent.
    weights = solve(gram_of(rows), jnp.array([True, False, False, False])).weights
    np.testing.assert_array_equal(weights, (1, 0, 0, 0))


def test_a_cone_without_radius_is_a_corner():
    rows = jacobians(4, 0)
    weights = solve_cone(rows, 0).weights
    least = np.einsum("nip,np->ni", rows, rows.mean(axis=1)).argmin(axis=1)
    np.testing.assert_allclose(weights, np.eye(4)[least], atol=1e-5)


def test_projection_on_the_simplex_is_the_closest_point():
    rng = np.random.default_rng(0)
    v = rng.normal(size=(50, 7)).astype(np.float32) * 2
    point = np.asarray(jax.vmap(simplex.project)(jnp.asarray(v)), np.float64)
    is_on_the_simplex(point)
    # No corner is on the side of v: <v - p, e_i - p> <= 0.
    lag = v - point
    assert (lag.max(axis=1) - (lag * point).sum(axis=1)).max() <= 1e-5
    far = simplex.project(jnp.array([1e20, 1e20, -1e30]))
    np.testing.assert_array_equal(far, (0.5, 0.5, 0))


def test_norm_of_what_cancels_is_zero():
    for scale in (1e-12, 1, 1e12):
        gram = gram_of(np.array([(1.0, 3.0), (-2.0, -6.0)]) * scale)
        assert simplex.norm(gram, jnp.array([2 / 3, 1 / 3])) == 0
        length = simplex.norm(gram, jnp.array([1.0, 0.25]))
        np.testing.assert_allclose(length, np.sqrt(10) / 2 * scale, rtol=1e-6)
