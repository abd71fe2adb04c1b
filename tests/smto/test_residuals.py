"""A residual is that of the direction returned: what is wrong is told, and no more.

Directions are those of float32; residuals and directions are found again in float64.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import smto
from mtl_jax.smto.solvers.components import components
from tests.smto import reference
from tests.smto.cases import jit

SIZE = 80
OPTIONS = {
    "nash_mtl": {"max_norm": 0.0},
    "fairgrad": {"alpha": 2.0, "max_norm": 0.0},
}
ANGLES = (3e-2, 5e-3, 1e-3, 1e-4)


def units(rng, count):
    rows = rng.normal(size=(count, SIZE))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def spread(rng, count, decades):
    """Spread lengths over so many decades."""
    return 10 ** (decades * rng.permutation(np.linspace(-0.5, 0.5, count)))[:, None]


def around(rng, count, angle):
    return units(rng, 1) + angle * units(rng, count)


def signs(rng, count):
    return rng.permutation(np.resize([1, -1], count))[:, None]


def paired(rng, count, angle, sign):
    """Make the last gradient the first one's twin, or opposed to it."""
    rows = units(rng, count - 1)
    return np.vstack([rows, sign * rows[0] + angle * units(rng, 1)[0]])


def balanced(rng, count, angle):
    rows = units(rng, count - 1)
    return np.vstack([rows, angle * units(rng, 1)[0] - rows.sum(axis=0)])


def low_rank(rng, count, rank):
    return units(rng, count) @ units(rng, rank).T @ units(rng, rank)


# Where float32 knows the direction.
PLAIN = {
    "any": units,
    "agreeing": lambda rng, count: units(rng, count) + units(rng, 1) / 2,
    **{
        f"lengths over 1e{decades}": functools.partial(
            lambda rng, count, decades: units(rng, count) * spread(rng, count, decades),
            decades=decades,
        )
        for decades in (2, 4, 6, 8)
    },
}
HARD: dict[str, Any] = {
    f"{name}, {angle}": functools.partial(kind, angle=angle)
    for angle in ANGLES
    for name, kind in {
        "opposed": lambda rng, n, angle: around(rng, n, angle) * signs(rng, n),
        "opposed, of any length": lambda rng, n, angle: (
            around(rng, n, angle) * signs(rng, n) * spread(rng, n, 1)
        ),
        "alike": lambda rng, n, angle: around(rng, n, angle) * spread(rng, n, 1),
        "a pair": lambda rng, n, angle: paired(rng, n, angle, -1) * spread(rng, n, 1),
        "a twin": lambda rng, n, angle: paired(rng, n, angle, 1) * spread(rng, n, 1),
        "balanced": balanced,
    }.items()
}
HARD["low rank"] = lambda rng, count: low_rank(rng, count, count // 2 + 1)
HARD["low rank, of any length"] = lambda rng, count: (
    low_rank(rng, count, count // 2 + 1) * spread(rng, count, 3)
)
KINDS = PLAIN | HARD
# Of many tasks every second kind, and one problem of it.
CHOICES = {2: (1, 3), 5: (1, 3), 64: (2, 1)}


@functools.cache
def jacobians(num_tasks):
    """Make gradients ``[N, T, P]``, and the kind of each."""
    step, count = CHOICES[num_tasks]
    kinds = list(KINDS)[::step]
    rows = [
        KINDS[kind](np.random.default_rng((seed, num_tasks)), num_tasks)
        for kind in kinds
        for seed in range(count)
    ]
    return np.array(rows, np.float32), np.repeat(kinds, count)


def update(name, rows, **options) -> Any:
    """Return directions ``[N, P]``, weights ``[N, T]``, residuals ``[N]``, float64."""
    method: Any = smto.make(name, **options)
    optimizer = smto.lift(method, rows.shape[1])
    state = optimizer.init(jnp.zeros(rows.shape[2]))
    program = jit(jax.vmap(lambda grads: optimizer.update(grads, state)))
    direction, after = program(jnp.asarray(rows, jnp.float32))
    return np.float64(direction), np.float64(after.weights), np.float64(after.residual)


@functools.cache
def solved(name, num_tasks) -> Any:
    return update(name, jacobians(num_tasks)[0], **OPTIONS.get(name, {}))


@functools.cache
def expected(name, num_tasks):
    """Compute directions ``[N, P]`` in another way, in float64."""
    find = getattr(reference, name)
    return np.array([find(np.float64(rows)) for rows in jacobians(num_tasks)[0]])


def gains(rows, direction):
    """Compute ``<g_i, d>`` ``[N, T]``."""
    return np.einsum("ntp,np->nt", rows, direction)


def norm(vectors) -> Any:
    return np.linalg.norm(vectors, axis=-1)


def cosines(rows, direction):
    size = norm(direction)[:, None]
    return gains(rows, direction) / norm(rows) / np.where(size > 0, size, 1)


# Violations of optimality [N, ...] by a direction and its weights.


def behind_the_least(rows, direction, weights):
    del weights
    least = norm(direction)[:, None] / rows.shape[1]
    return least / norm(rows) - cosines(rows, direction)


def below_the_best(rows, direction, weights):
    del weights
    best = expected("cagrad", rows.shape[1])
    mean, size = rows.mean(axis=1), norm(rows.mean(axis=1))[:, None]
    worst = gains(rows, best).min(axis=1, keepdims=True)
    factor = 1.16 / rows.shape[1]
    lack = factor * (worst - gains(rows, direction)) / norm(rows) / size
    outside = norm(factor * direction - mean)[:, None] / size - 0.4
    return np.hstack([lack, outside])


def unequal(rows, direction, weights):
    del weights
    angles = cosines(rows, direction)
    return np.abs(angles - angles.mean(axis=1, keepdims=True))


def unfair(alpha):
    return lambda rows, direction, weights: np.abs(
        weights ** (1 / alpha) * gains(rows, direction) - 1
    )


def in_conflict(rows, direction, weights):
    del weights
    return -cosines(rows, direction)


def in_conflict_or_in_vain(rows, direction, weights):
    added = (weights - 1) * norm(rows) / norm(direction)[:, None]
    return np.abs(np.minimum(added, cosines(rows, direction)))


def wrong(rows, direction, weights):
    del weights
    right = expected("aligned_mtl", rows.shape[1])
    return (norm(direction - right) / norm(right))[:, None]


VIOLATIONS = {
    "mgda": behind_the_least,
    "cagrad": below_the_best,
    "imtl_g": unequal,
    "nash_mtl": unfair(1),
    "fairgrad": unfair(2),
    "aligned_mtl": wrong,
    "upgrad": in_conflict,
    "dualproj": in_conflict_or_in_vain,
    "config": unequal,
}
each = pytest.mark.parametrize("name", VIOLATIONS)
sizes = pytest.mark.parametrize("num_tasks", CHOICES)


def error(name, num_tasks):
    """Measure errors of the directions ``[N]``, relative to their lengths."""
    right = expected(name, num_tasks)
    return norm(solved(name, num_tasks)[0] - right) / norm(right)


@each
@sizes
def test_residual_is_of_the_direction_returned(name, num_tasks):
    rows, kinds = jacobians(num_tasks)
    direction, weights, residual = solved(name, num_tasks)
    assert np.isfinite(direction).all() and np.isfinite(residual).all()
    violation = VIOLATIONS[name](np.float64(rows), direction, weights).max(axis=1)
    untold = (violation > 5 * smto.TOLERANCE) & (residual <= smto.TOLERANCE)
    assert not untold.any(), (kinds[untold], violation[untold], residual[untold])


@each
@sizes
def test_what_is_wrong_is_told(name, num_tasks):
    wrong, residual = error(name, num_tasks), solved(name, num_tasks)[2]
    untold = (wrong > 1e-2) & (residual <= smto.TOLERANCE)
    kinds = jacobians(num_tasks)[1][untold]
    assert not untold.any(), (kinds, wrong[untold], residual[untold])


@each
@sizes
def test_what_float32_knows_is_right(name, num_tasks):
    plain = np.isin(jacobians(num_tasks)[1], list(PLAIN))
    assert error(name, num_tasks)[plain].max() <= 1e-4
    if name != "fairgrad":  # tells of gains that do not count in the direction
        assert solved(name, num_tasks)[2][plain].max() <= smto.TOLERANCE


@each
@pytest.mark.parametrize("num_tasks", [2, 5])
def test_no_more_is_told_than_is_wrong(name, num_tasks):
    near = np.char.endswith(jacobians(num_tasks)[1], "0.03")
    assert solved(name, num_tasks)[2][near].max() <= 1e-2
    assert error(name, num_tasks)[near].max() <= 1e-2


AROUND = np.array([(3.0, 0.0), (-1.0, 1.0), (-0.5, -2.0)])
WITHOUT = np.array([(1.0, 0.0), (-1.2, 1.0), (0.0, 0.0)])


@pytest.mark.parametrize("c", [1.0, 1.5])
def test_cagrad_stays_where_zero_is_in_the_hull(c):
    # ``d = 0`` is in the ball, and nothing is better.
    rows = np.array([AROUND, WITHOUT])
    directions, _, residuals = update("cagrad", rows, c=c)
    np.testing.assert_array_equal(directions[0], 0)
    assert residuals[0] <= 1e-5
    # Of that a task without a gradient is not to blame.
    assert norm(directions[1]) > 0.1


def corrected(rows, c=0.4):
    """Return CAGrad's published directions ``[N, P]``, residuals, mean gradients."""
    options = {"c": c, "rescale": 0, "reduction": "mean"}
    directions, _, residuals = update("cagrad", rows, **options)
    return directions, residuals, rows.mean(axis=1)


def test_cagrad_reaches_the_tip_of_its_cone():
    # Below 1 too, ``g_w`` may vanish: then ``<g_i, d> = 0`` for all that it is of.
    rows = np.array([[(1.0, 0.0), (-1.0, 0.0), (1.0, 1.0)]])
    direction, _, mean = corrected(rows, 0.9)
    assert (rows[0] @ direction[0] >= -1e-4).all()
    assert norm(direction - mean) <= 0.9 * norm(mean)


def test_cagrad_corrects_close_to_opposition():
    half = np.sin(np.array([1e-2, 2e-3, 1e-3, 1e-4]) / 2).astype(np.float32)
    rows = np.array([[(1, height), (-1, height)] for height in half])
    directions, _, means = corrected(rows)
    worst = gains(rows, directions).min(axis=1) / norm(means) ** 2
    np.testing.assert_allclose(worst, 1.4, rtol=5e-2)


def test_cagrad_harms_no_task_for_one_without_gradient():
    rows = WITHOUT[None]
    direction, residual, mean = corrected(rows)
    assert gains(rows, mean).min() < -0.05
    worst = gains(rows, direction)[0]
    # No further than that takes.
    np.testing.assert_allclose(worst[0], 0, atol=1e-6)
    assert (worst >= -1e-6).all() and residual <= 1e-5
    assert norm(direction - mean) <= 0.4 * norm(mean)


@pytest.mark.parametrize("name", ["config", "imtl_g"])
def test_equal_projections_close_to_opposition(name):
    # The bisector of two gradients, of their mean length, whatever the angle.
    angles = (2e-3, 1e-3, 6e-4, 3e-4, 1e-4)
    rows = [[(3, 0), (-np.cos(angle), np.sin(angle))] for angle in angles]
    rows = np.array(rows, np.float32).astype(np.float64)
    mean = {"config": (3 + 1) / 2, "imtl_g": 3 * 1 * 2 / (3 + 1)}[name]
    right = mean * (rows / norm(rows)[..., None]).sum(axis=1)
    wrong = norm(update(name, rows)[0] - right) / norm(right)
    assert wrong.max() <= 5e-3


def test_a_usable_bargain_is_kept():
    # Gains that do not count in the direction are far from fair, and this is told.
    rngs = [np.random.default_rng(seed) for seed in (7, 10)]
    rows = [units(rng, 5) * spread(rng, 5, 8) for rng in rngs]
    rows = np.array(rows, np.float32).astype(np.float64)
    direction, _, residual = update("fairgrad", rows, alpha=0.5, max_norm=0.0)
    assert (residual > 3 * smto.TOLERANCE).all()
    right = np.array([reference.fairgrad(row, 0.5) for row in rows])
    assert (norm(direction - right) <= 1e-5 * norm(right)).all()


def test_components_of_lengths_over_many_decades():
    rng = np.random.default_rng(0)
    directions, lengths = units(rng, 9), spread(rng, 9, 8)
    cosines = jnp.asarray(directions @ directions.T, jnp.float32)
    values, vectors = jit(components)(cosines, jnp.asarray(lengths[:, 0], jnp.float32))
    left, sizes, _ = np.linalg.svd(directions * lengths)
    order = np.argsort(-values)
    np.testing.assert_allclose(np.sqrt(values[order]), sizes, rtol=1e-5)
    # Small entries, too, to as many digits.
    expected, entries = [
        np.abs(matrix) * lengths / sizes for matrix in (left, vectors[:, order])
    ]
    np.testing.assert_allclose(entries, expected, atol=1e-4)
