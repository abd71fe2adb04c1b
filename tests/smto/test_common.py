"""Properties of every multi-task optimizer that can be lifted.

Problems have three tasks. Every property is looked at over a few updates, so that
methods with a state show what they do with it.
"""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import smto
from mtl_jax.storage import checkpoint
from mtl_jax.types import InputError
from tests.smto.cases import (
    LIFTED,
    REDUCED,
    SIZE,
    SIZES,
    WEIGHTS,
    jit,
    keys_of,
    make,
    once,
    program,
    run,
)

LIFT: Any = smto.lift  # of methods that a type checker does not know
T, UPDATES = 3, 4
RANDOM = {"rlw", "sampled", "pcgrad", "gradvac", "graddrop"}
METHODS = pytest.mark.parametrize("name", LIFTED)
# What T copies of g give, as a multiple of g; of all others T.
LENGTHS = {
    "mean": 1,
    "gls": 1,
    "fixed": sum(WEIGHTS),
    "uw": T / 2,
    "cagrad": T * 1.4 / 1.16,
    "config": T,
    "dbmtl": 0.1 * T,
    "moco": 0.5 * T,
    "tchebycheff": 1 / T,
    "cosmos": 1,
    "pbi": T**0.5,
    "pcd": 1,
    "auto_lambda": 0.1 * T,
}
# Whose direction has a length of its own: 1, or for Adam's that of signs.
NORMED = {"nash_mtl", "fairgrad", "momentum_config"}
# Whose direction is not that of the reported weights: coordinates or time differ.
UNWEIGHTED = {"dbmtl", "moco", "momentum_config", "graddrop"}


def problems(count, seed=0, updates=UPDATES):
    """Draw gradients ``[S, N, T, P]`` in conflict here and there, of unlike lengths."""
    rng = np.random.default_rng(seed)
    grads = rng.normal(size=(updates, count, T, SIZE))
    grads[:, ::3, 1] -= 0.8 * grads[:, ::3, 0]
    lengths = np.exp(rng.normal(size=(1, count, T, 1)))
    return (grads * lengths).astype(np.float32)


def some_losses(count, seed=0, updates=UPDATES):
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(size=(updates, count, T))).astype(np.float32)


GRADS, LOSSES = problems(12), some_losses(12)
PLANE = GRADS * (np.arange(SIZE) < 2)
"""Three gradients in two dimensions: one depends on the others."""


def close(actual, expected, rtol=1e-4, atol=1e-4):
    """Compare directions or weights ``[..., P]``, to parts of their length."""
    actual, expected = np.float64(actual), np.float64(expected)
    size = np.linalg.norm(expected, axis=-1, keepdims=True)
    size = np.where(size > 0, size, 1)
    np.testing.assert_allclose(actual / size, expected / size, rtol=rtol, atol=atol)


alike = functools.partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-5)


def stayed(state):
    """Check that a state stayed, from the first update to the second."""
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf[0], leaf[1]), state)


@METHODS
def test_permuting_tasks_permutes_weights(name):
    order = np.array([1, 2, 0])
    per_task = {"fixed": ("weights", WEIGHTS), "sampled": ("sizes", SIZES)}
    chosen: Any = {}
    if name in ("pcd", "auto_lambda"):
        chosen = {"primary": order.tolist().index(0)}
    if name in per_task:
        option, values = per_task[name]
        chosen = {option: tuple(np.array(values)[order].tolist())}
    if name in RANDOM - {"graddrop"}:
        # Means of many draws, within five standard errors.
        grads, losses = [np.repeat(a[:1, :1], 1600, axis=1) for a in (GRADS, LOSSES)]
        plain = run(name, grads, losses).state.weights[0][:, order]
        outcome = run(
            name, grads[:, :, order], losses[:, :, order], 1, **chosen
        ).state.weights[0]
        variance = (outcome.var(axis=0) + plain.var(axis=0)) / 1600
        difference = np.abs(outcome.mean(axis=0) - plain.mean(axis=0))
        np.testing.assert_array_less(difference, 5 * np.sqrt(variance) + 1e-4)
        return
    plain = run(name, GRADS, LOSSES)
    outcome = run(name, GRADS[:, :, order], LOSSES[:, :, order], **chosen)
    close(outcome.direction, plain.direction)
    close(outcome.state.weights, plain.state.weights[..., order], atol=5e-4)


# Updates that do not depend on the scale: then steps of the weights go with the
# squared lengths, in the source already.
SCALE_FREE = {"moco": 0, "modo": 0, "gradnorm": 1}


@METHODS
def test_direction_scales_with_the_gradients(name):
    updates = SCALE_FREE.get(name, UPDATES)
    expected = run(name, GRADS, LOSSES)
    for scale in [1e-6, 1e-3, 1e3, 1e6]:
        outcome = run(name, np.float32(scale) * GRADS, LOSSES)
        exponent = 0 if name in NORMED else 1
        direction = np.asarray(outcome.direction, np.float64) / scale**exponent
        close(direction[:updates], expected.direction[:updates], 1e-3, 1e-3)
        residuals = outcome.state.residual[:updates], expected.state.residual[:updates]
        np.testing.assert_array_equal(*[r <= smto.TOLERANCE for r in residuals])


def length(name, grad):
    """Return the length for equal or orthogonal gradients, relative to ``g``."""
    if name == "momentum_config":
        return 1 / np.abs(grad)
    if name in NORMED:
        return 1 / np.linalg.norm(grad, axis=-1, keepdims=True)
    return LENGTHS.get(name, T)


@METHODS
def test_equal_gradients_give_their_sum(name):
    grad = np.multiply.outer([1e-6, 1, 1e6], GRADS[0, 1, 0]).astype(np.float32)
    outcome = once(name, np.repeat(grad[:, None], T, axis=1))
    close(outcome.direction, length(name, grad) * grad, 1e-5, 1e-5)


ORTHOGONAL = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, T)))[0].T
PER_COORDINATE = {"momentum_config", "graddrop"}
UNEVEN = {"fixed", "rlw", "sampled", "pcd", "auto_lambda"}
TO_THE_MEAN = [name for name in LIFTED if name not in PER_COORDINATE | UNEVEN]


@pytest.mark.parametrize("name", TO_THE_MEAN)
def test_orthogonal_gradients_of_one_length_are_treated_alike(name):
    lengths = np.array([1e-3, 1, 1e3])[:, None, None]
    rows = lengths * ORTHOGONAL
    outcome = once(name, rows)
    expected = length(name, rows.sum(axis=1)) / T * rows.sum(axis=1)
    if name in NORMED:
        expected = expected * T
    if name in ("moco", "modo", "gradnorm"):  # see SCALE_FREE
        outcome = outcome._replace(direction=outcome.direction[:2])
        expected = expected[:2]
    close(outcome.direction, expected, 1e-5, 1e-5)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "upgrad", "dualproj", "sum"])
def test_without_conflict_there_is_nothing_to_do(name):
    rows = np.array([1, 30, 1e-2])[:, None] * ORTHOGONAL
    close(once(name, [rows]).direction[0], rows.sum(axis=0), 1e-5, 1e-5)


# The reduction "mean" is looked at along with the policy "drop": one program less.
DROPPING = {name: {"reduction": "mean"} for name in REDUCED}


def dropping(name, grads, losses):
    return run(name, grads, losses, nonfinite="drop", **DROPPING.get(name, {}))


@METHODS
def test_mean_is_the_sum_over_the_number_of_tasks(name):
    factor = T if name in REDUCED else 1
    outcome, summed = dropping(name, GRADS, LOSSES), run(name, GRADS, LOSSES)
    close(factor * outcome.direction, summed.direction)
    if name != "graddrop":  # ones, as no weights stand for its direction
        close(factor * outcome.state.weights, summed.state.weights)
    alike(outcome.state.method, summed.state.method)


def of_two(name):
    """Return what the first two tasks give alone ``[N, P]``."""
    return once(name, GRADS[0, :, :2], LOSSES[0, :, :2]).direction


# How the direction changes with a third task that is absent or whose gradient is zero,
# for methods that leave it out; of those that weigh on the simplex, that is T / 2.
LEFT_OUT = {
    "sum": 1,
    "fixed": 1,
    "finetune": 1,
    "si": 1,
    "uw": 1,
    "imtl_l": 1,
    "stch": 1,
    "igb": 1,
    "dbmtl": 1,
    "pcgrad": 1,
    "gradvac": 1,
    "imtl_g": T / 2,
    "imtl": T / 2,
    "nash_mtl": 1,
    "fairgrad": 1,
    "aligned_mtl": 1,
    "upgrad": 1,
    "dualproj": 1,
    "pcd": 1,
    "config": 1,
    "cr_mogm": 1,
    "reweighted": 1,
    "momentum_config": 1,
    "graddrop": 1,
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_zero_gradient_changes_nothing(name):
    grads = GRADS[0].copy()
    grads[:, 2] = 0
    close(once(name, grads, LOSSES[0]).direction, LEFT_OUT[name] * of_two(name))


def test_a_zero_gradient_is_the_shortest():
    grads = GRADS[0].copy()
    grads[:, 2] = 0
    outcome = once("mgda", grads)
    np.testing.assert_array_equal(outcome.direction, 0)
    assert (outcome.state.residual == 0).all()


@pytest.mark.parametrize(("name", "factor"), [("mgda", T / 2), ("imtl_g", T / 2)])
def test_a_twin_changes_nothing(name, factor):
    twins = GRADS[0][:, [0, 1, 1]]
    close(once(name, twins).direction, factor * of_two(name), 1e-3, 1e-3)


def test_a_twin_only_stretches_config():
    directions = once("config", GRADS[0][:, [0, 1, 1]]).direction
    expected = of_two("config")
    sizes = [np.linalg.norm(d, axis=1, keepdims=True) for d in (directions, expected)]
    close(directions * sizes[1], expected * sizes[0], 1e-3, 1e-3)


def with_rows(**rows):
    """Make a Jacobian with rows ``g0``, ``g1``, ``g2`` replaced."""
    rows_of_task = GRADS[0, 1].copy()
    for name, row in rows.items():
        rows_of_task[int(name[1])] = row
    return rows_of_task


G0, G1, _ = GRADS[0, 1]
EDGES = {
    **{f"plane {number}": plane for number, plane in enumerate(PLANE[0])},
    "all zero": with_rows(g0=0, g1=0, g2=0),
    "one zero": with_rows(g1=0),
    "two zero": with_rows(g1=0, g2=0),
    "opposed": with_rows(g1=-3 * G0),
    "twins": with_rows(g1=G0),
    "Pareto-stationary": with_rows(g2=-G0 - G1),
    "unlike norms": with_rows(g0=1e-4 * G0, g1=1e4 * G1),
    "huge": np.float32(1e10) * GRADS[0, 1],
    "tiny": np.float32(1e-10) * GRADS[0, 1],
}


@METHODS
def test_edges_are_finite_and_bounded(name):
    rows = np.array(list(EDGES.values()))
    outcome = run(name, np.stack([rows] * UPDATES))
    for leaf in jax.tree.leaves((outcome.direction, outcome.state.method)):
        assert np.isfinite(leaf).all()
    assert np.isfinite(outcome.state.weights).all()
    zero = list(EDGES).index("all zero")
    np.testing.assert_array_equal(outcome.direction[:, zero], 0)
    # No method here makes a direction longer than what its tasks could ask for.
    longest = np.linalg.norm(np.float64(rows), axis=2).max(axis=1)
    if name == "momentum_config":
        longest = np.full_like(longest, SIZE)
    elif name in NORMED:
        longest = np.ones_like(longest)
    sizes = np.linalg.norm(np.float64(outcome.direction), axis=2)
    assert (sizes <= 2 * T * longest).all()


@METHODS
def test_reported_length_and_angles_are_those_of_the_direction(name):
    outcome = run(name, GRADS, LOSSES)
    direction, grads = np.float64(outcome.direction), np.float64(GRADS)
    norm = np.linalg.norm(direction, axis=-1)
    np.testing.assert_allclose(outcome.state.norm, norm, rtol=1e-4)
    lengths = np.linalg.norm(grads, axis=-1)
    cosines = np.einsum("snp,sntp->snt", direction, grads) / lengths / norm[..., None]
    np.testing.assert_allclose(outcome.state.cosines, cosines, atol=2e-4)
    if name not in UNWEIGHTED:
        weighted = np.einsum("snt,sntp->snp", np.float64(outcome.state.weights), grads)
        close(direction, weighted, 1e-4, 1e-4)


SOLVED = {
    *("mgda", "cagrad", "imtl_g", "imtl", "nash_mtl", "fairgrad", "upgrad"),
    *("dualproj", "config", "momentum_config", "aligned_mtl", "pcd"),
    *("cr_mogm", "reweighted"),  # here made of aligned_mtl
}


@METHODS
def test_residuals_are_those_of_solvers(name):
    residuals = run(name, GRADS, LOSSES).state.residual
    if name in SOLVED:
        assert (residuals <= smto.TOLERANCE).all()
        assert (residuals > 0).any()
    else:
        np.testing.assert_array_equal(residuals, 0)


def solved(name, losses=LOSSES, **options):
    """Return Gramians ``[M, T, T]`` in float64, and weights for them ``[M, T]``."""
    grads = np.float64(GRADS).reshape(-1, T, SIZE)
    weights = run(name, GRADS, losses, **options).state.weights
    return grads @ grads.transpose(0, 2, 1), np.float64(weights).reshape(-1, T)


def lengths_of(grams):
    return np.sqrt(np.diagonal(grams, axis1=1, axis2=2))


def gains_of(grams, weights):
    """Compute ``<g_i, d>`` ``[M, T]``."""
    return np.einsum("mij,mj->mi", grams, weights)


def test_mgda_is_the_point_of_least_norm():
    grams, weights = solved("mgda")
    gains = gains_of(grams, weights / T)
    squared = (weights / T * gains).sum(axis=1)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), T, rtol=1e-5)
    assert (gains.min(axis=1) >= squared * (1 - 1e-3)).all()


def test_cagrad_is_the_best_worst_case():
    grams, weights = solved("cagrad")
    c, mean = 0.4, np.full(T, 1 / T)
    corrections = weights * 1.16 / T - mean  # c |g0| w / |g_w|
    w = corrections / corrections.sum(axis=1, keepdims=True)
    size = np.sqrt((w * gains_of(grams, w)).sum(axis=1, keepdims=True))
    reach = c * np.sqrt(mean @ grams @ mean)[:, None]
    np.testing.assert_allclose(corrections, reach * w / size, rtol=1e-3, atol=1e-4)
    assert (w >= -1e-4).all()
    slope = grams @ mean + reach * gains_of(grams, w) / size
    value = (w * slope).sum(axis=1, keepdims=True)
    assert (slope - value >= -1e-3 * lengths_of(grams) * reach / c).all()


@pytest.mark.parametrize(
    ("name", "alpha", "options"),
    [
        ("nash_mtl", 1, {}),
        ("fairgrad", 1, {}),
        ("fairgrad", 2, {"alpha": 2.0, "max_norm": 0.0}),
    ],
)
def test_bargains_are_fair(name, alpha, options):
    grams, weights = solved(name, **options)
    if not options:
        np.testing.assert_allclose(
            (weights * gains_of(grams, weights)).sum(axis=1), 1, rtol=1e-4
        )
        weights = weights * T**0.5  # before it was shortened to 1
    assert (weights > 0).all()
    fair = weights ** (1 / alpha) * gains_of(grams, weights)
    np.testing.assert_allclose(fair, 1, rtol=1e-3)


@pytest.mark.parametrize("name", ["imtl_g", "imtl", "config"])
def test_projections_on_unit_gradients_are_equal(name):
    grams, weights = solved(name, np.ones_like(LOSSES[:1]))
    projections = gains_of(grams, weights) / lengths_of(grams)
    np.testing.assert_allclose(projections / projections[:, :1], 1, atol=1e-3)


def test_dualproj_is_the_nearest_without_conflict():
    grams, weights = solved("dualproj")
    extra, gains = weights - 1, gains_of(grams, weights)
    scale = lengths_of(grams)
    size = np.sqrt((weights * gains).sum(axis=1, keepdims=True))
    assert (extra >= -1e-5).all() and (gains >= -1e-3 * scale * size).all()
    assert (np.minimum(extra * scale, gains / scale) <= 1e-3 * size).all()


def project(gram, preference):
    """Minimise ``v' G v`` over ``v >= u`` by trying every set of bounds."""
    for chosen in np.ndindex(*[2] * T):
        free = np.flatnonzero(chosen)
        extra = np.zeros(T)
        if len(free):
            rest = -(gram @ preference)[free]
            extra[free] = np.linalg.solve(gram[np.ix_(free, free)], rest)
        slack = gram @ (preference + extra)
        slack[free] = 0
        if (extra >= 0).all() and (slack >= 0).all():
            return preference + extra
    raise AssertionError("a convex problem has a solution")


def test_upgrad_is_the_sum_of_projections():
    grams, weights = solved("upgrad")
    expected = [sum(project(gram, row) for row in np.eye(T)) for gram in grams]
    lengths = lengths_of(grams)
    close(weights * lengths, np.array(expected) * lengths, 1e-3, 1e-3)


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "mgda", "nash_mtl"])
def test_no_task_is_harmed(name):
    rows = np.array(
        [*GRADS.reshape(-1, T, SIZE), *PLANE.reshape(-1, T, SIZE), *EDGES.values()],
        np.float64,
    )
    outcome = once(name, rows)
    lengths = np.linalg.norm(rows, axis=2)
    gains = np.einsum("ntp,np->nt", rows, np.float64(outcome.direction))
    size = lengths * lengths.max(axis=1, keepdims=True)
    if name == "nash_mtl":  # where there is a bargain, of length 1
        size = lengths
        gains = gains[outcome.state.residual <= smto.TOLERANCE]
        size = size[outcome.state.residual <= smto.TOLERANCE]
        assert len(size) >= 48
    assert (gains >= -1e-4 * size).all()


def config_of(jacobian):
    units = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
    x = np.linalg.pinv(units) @ np.ones(T)
    return (jacobian @ x).sum() * x / (x @ x)


def imtl_g_of(jacobian):
    units = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
    differences = jacobian[0] - jacobian[1:], units[0] - units[1:]
    inverse = np.linalg.inv(differences[0] @ differences[1].T)
    rest = jacobian[0] @ differences[1].T @ inverse
    return T * np.append(1 - rest.sum(), rest) @ jacobian


def aligned_mtl_of(jacobian):
    left, sizes, right = np.linalg.svd(jacobian, full_matrices=False)
    return sizes.min() * np.ones(T) @ left @ right


@pytest.mark.parametrize("dense", [config_of, imtl_g_of, aligned_mtl_of])
def test_gramian_serves_as_well_as_the_jacobian(dense):
    grads = GRADS[0]
    expected = np.array([dense(np.float64(jacobian)) for jacobian in grads])
    directions = once(dense.__name__.removesuffix("_of"), grads).direction
    close(directions, expected, 1e-3, 1e-3)


def test_config_is_imtl_g_of_another_length():
    directions, other = [once(n, GRADS[0]).direction for n in ("config", "imtl_g")]
    sizes = [np.linalg.norm(d, axis=1, keepdims=True) for d in (directions, other)]
    close(directions * sizes[1], other * sizes[0], 1e-3, 1e-3)


def test_fairgrad_of_alpha_1_is_nash():
    close(*[once(n, GRADS[0]).direction for n in ("fairgrad", "nash_mtl")])


def test_imtl_l_is_twice_uw_turned_round():
    scales, other = [run(n, GRADS, LOSSES).state for n in ("imtl_l", "uw")]
    close(scales.weights, 2 * other.weights, 1e-5, 1e-5)
    np.testing.assert_allclose(scales.method.s, -other.method.s, rtol=1e-4)


def test_si_and_gls_and_famo_at_first_share_a_direction():
    weights = [
        once(n, GRADS[0], LOSSES[0]).state.weights for n in ("si", "gls", "famo")
    ]
    shares = [w / w.sum(axis=1, keepdims=True) for w in weights]
    close(shares[1], shares[0])
    close(shares[2], shares[0])


# Kinds of damage, at task 2.
BAD = 2


def damaged():
    """Make four problems whose second update is not finite, in four ways."""
    grads, losses = GRADS[:, 1:5].copy(), LOSSES[:, 1:5].copy()
    grads[1, 0, BAD, 3] = np.nan
    grads[1, 1, BAD, 0] = -np.inf
    losses[1, 2, BAD] = np.nan
    losses[1, 3, BAD] = np.inf
    return grads, losses


@METHODS
def test_update_that_is_not_finite_is_skipped(name):
    grads, losses = damaged()
    outcome = run(name, grads, losses)
    np.testing.assert_array_equal(outcome.direction[1], 0)
    np.testing.assert_array_equal(outcome.state.weights[1], 0)
    np.testing.assert_array_equal(outcome.state.skipped.T, [[0, 1, 1, 1]] * 4)
    stayed(outcome.state.method)
    if name not in RANDOM:
        # As if it had never been.
        kept = [0, 2, 3]
        expected = run(name, grads[kept], losses[kept])
        close(outcome.direction[kept], expected.direction, 1e-5, 1e-5)


@METHODS
def test_task_that_is_not_finite_is_dropped(name):
    grads, losses = damaged()
    outcome = dropping(name, grads, losses)
    for leaf in jax.tree.leaves((outcome.direction, outcome.state.method)):
        assert np.isfinite(leaf).all()
    np.testing.assert_array_equal(outcome.state.skipped, 0)
    if name not in UNWEIGHTED:
        np.testing.assert_array_equal(outcome.state.weights[1, :, BAD], 0)
    assert (np.abs(outcome.direction).max(axis=-1) > 0).all()


@pytest.mark.parametrize("name", [*LEFT_OUT, "mgda"])
def test_dropped_task_leaves_the_others_as_they_were(name):
    grads, losses = GRADS[0].copy(), LOSSES[0].copy()
    grads[::2, BAD] = np.nan
    losses[1::2, BAD] = np.nan
    directions = dropping(name, grads[None], losses[None]).direction[0]
    factor = T if name in REDUCED else 1
    close(factor * directions, LEFT_OUT.get(name, T / 2) * of_two(name))


@METHODS
def test_where_no_task_is_finite_the_update_is_skipped(name):
    grads = np.stack([GRADS[0], np.full_like(GRADS[0], np.nan)])
    outcome = dropping(name, grads, LOSSES[:2])
    np.testing.assert_array_equal(outcome.direction[1], 0)
    np.testing.assert_array_equal(outcome.state.skipped[1], 1)
    stayed(outcome.state.method)


@METHODS
def test_updates_compile_once(name):
    run(name, GRADS, LOSSES)  # raises where an update is traced again


PARAMS = {"a": jnp.zeros((2, 2)), "b": (jnp.zeros(()), jnp.zeros(2, jnp.bfloat16))}
STACKED = jax.tree.map(lambda leaf: jnp.zeros((T, *leaf.shape), leaf.dtype), PARAMS)


@METHODS
def test_structure_and_dtypes_stay(name, key):
    optimizer = program(name, T, "skip")[0]
    before = jax.eval_shape(optimizer.init, PARAMS)
    direction, after = jax.eval_shape(
        lambda: optimizer.update(
            STACKED, optimizer.init(PARAMS), PARAMS, losses=jnp.ones(T), key=key, more=3
        )
    )
    assert isinstance(after, smto.SmtoState)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert jax.tree.leaves(before) == jax.tree.leaves(after)  # with weak types
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), direction) == (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), PARAMS)
    )


def as_tree(matrix):
    parts = matrix[:, :4].reshape(T, 2, 2), matrix[:, 4], matrix[:, 5:]
    return {"a": parts[0], "b": (parts[1], parts[2])}


# Of every family one, and all that look at the gradients themselves; but for graddrop,
# which draws leaf by leaf.
WITH_LEAVES = ["uw", "aligned_mtl", "modo"] + [
    name
    for name in LIFTED
    if isinstance(make(name), smto.Aggregator) and name != "graddrop"
]


@pytest.mark.parametrize("name", WITH_LEAVES)
def test_pytree_is_its_ravelled_matrix(name):
    optimizer = program(name, T, "skip")[0]
    update = jit(lambda *args: optimizer.update(*args[:2], losses=args[2]))
    state = optimizer.init(jax.tree.map(lambda leaf: leaf[0], as_tree(GRADS[0, 0])))
    expected = run(name, GRADS[:, :1], LOSSES[:, :1])
    for step, grads in enumerate(GRADS[:, 0]):
        direction, state = update(as_tree(grads), state, LOSSES[step, 0])
        close(ravel_pytree(direction)[0], expected.direction[step, 0])
        close(state.weights, expected.state.weights[step, 0])


@pytest.mark.parametrize("name", ["igb", "modo", "excessmtl"])
def test_neither_jit_nor_vmap_changes_anything(name):
    optimizer: Any = program(name, T, "skip")[0]
    expected = once(name, GRADS[0], LOSSES[0])
    for number in (1, 4):
        actual = optimizer.update(
            jnp.asarray(GRADS[0, number]),
            optimizer.init(jnp.zeros(SIZE)),
            losses=jnp.asarray(LOSSES[0, number]),
            key=keys_of(0, 0, 0)[number],
        )
        alike(actual[1], jax.tree.map(lambda a, n=number: a[n], expected.state))
        close(actual[0], expected.direction[number])


@pytest.mark.parametrize("name", ["uw", "aligned_mtl", "moco"])
def test_chains_with_an_optimizer(name):
    optimizer: Any = optax.chain(program(name, T, "skip")[0], optax.adam(0.1))
    adam: Any = optax.adam(0.1)
    update, plain = jit(optimizer.update), jit(adam.update)
    params = {"w": jnp.ones(SIZE)}
    state, plain_state = optimizer.init(params), adam.init(jnp.zeros(SIZE))
    expected = run(name, GRADS, LOSSES).direction[:, 0]
    for step in range(2):
        grads = {"w": jnp.asarray(GRADS[step, 0])}
        updates, state = update(grads, state, params, losses=LOSSES[step, 0])
        steps, plain_state = plain(expected[step], plain_state)
        np.testing.assert_allclose(updates["w"], steps, rtol=1e-4, atol=1e-5)


def test_states_survive_a_checkpoint(tmp_path):
    states = {
        name: jax.tree.map(lambda leaf: leaf[-1, 0], run(name, GRADS, LOSSES).state)
        for name in LIFTED
    }
    with checkpoint.open_manager(tmp_path, keep_last=1) as manager:
        checkpoint.save(manager, 4, states)
        checkpoint.finish(manager)
        template = {n: program(n, T, "skip")[0].init(jnp.zeros(SIZE)) for n in LIFTED}
        restored = checkpoint.restore(manager, template, print)
    assert restored is not None and restored[0] == 4
    chex.assert_trees_all_equal(restored[1], states)
    chex.assert_trees_all_equal_dtypes(restored[1], states, template)
    chex.assert_trees_all_equal_structs(restored[1], template)


@METHODS
def test_key_decides(name):
    grads, losses = np.repeat(GRADS[:1, 1:2], 8, axis=1), LOSSES[:1, :1]
    outcome, again, other = [run(name, grads, losses, seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(outcome.direction, again.direction)
    distinct = np.unique([*outcome.direction[0], *other.direction[0]], axis=0)
    assert (len(distinct) > 1) == (name in RANDOM)
    expected = dict.fromkeys(RANDOM, True)
    is_same = np.array_equal(outcome.direction, other.direction)
    assert is_same != expected.get(name, False)


@METHODS
def test_fresh_state_has_done_nothing(name):
    state = program(name, T, "skip")[0].init(jnp.zeros(SIZE))
    np.testing.assert_array_equal(state.weights, 1)
    assert np.isnan(state.norm) and np.isnan(state.cosines).all()
    assert (state.residual, state.skipped) == (0, 0)


WITHOUT_LOSSES = {
    *("mgda", "pcgrad", "gradvac", "cagrad", "imtl_g", "nash_mtl", "fairgrad"),
    *("aligned_mtl", "upgrad", "dualproj", "config", "cr_mogm", "sdmgrad", "modo"),
    *("moco", "momentum_config", "graddrop", "excessmtl", "pcd", "auto_lambda"),
}


@METHODS
def test_losses_and_keys_are_asked_for_where_they_are_needed(name, key):
    optimizer: Any = program(name, T, "skip")[0]
    state = optimizer.init(jnp.zeros(SIZE))
    grads, losses = jnp.asarray(GRADS[0, 0]), jnp.ones(T)
    if name in RANDOM:
        with pytest.raises(InputError, match="key"):
            optimizer.update(grads, state, losses=losses)
    if name not in WITHOUT_LOSSES:
        with pytest.raises(InputError, match="losses"):
            optimizer.update(grads, state, key=key)
    elif name not in RANDOM:
        jax.eval_shape(lambda: optimizer.update(grads, state))
    dropper: Any = LIFT(make(name), T, "drop")
    with pytest.raises(InputError, match="losses"):
        dropper.update(grads, state, key=key)


@pytest.mark.parametrize("normaliser", ["loss", "loss+"])
def test_mgda_normalised_by_losses_asks_for_them(normaliser):
    optimizer: Any = LIFT(smto.make("mgda", normaliser=normaliser), T)
    with pytest.raises(InputError, match="losses"):
        optimizer.update(jnp.asarray(GRADS[0, 0]), optimizer.init(jnp.zeros(SIZE)))


@pytest.mark.parametrize("name", ["fmtl", "samo"])
def test_perturbations_ask_for_a_key(name):
    method: Any = smto.make(name)
    with pytest.raises(InputError, match="key"):
        method.update(None, None, None, None, method.init(T), None)


@METHODS
@pytest.mark.parametrize("shape", [(T - 1, SIZE), (T + 1,), ()], ids=str)
def test_wrong_number_of_tasks(name, shape, key):
    optimizer: Any = program(name, T, "skip")[0]
    grads = {"good": jnp.ones((T, SIZE)), "bad": jnp.ones(shape)}
    state = optimizer.init({"good": jnp.ones(SIZE), "bad": jnp.ones(())})
    with pytest.raises(InputError) as error:
        optimizer.update(grads, state, losses=jnp.ones(T), key=key)
    assert f"shape {shape}" in str(error.value)
    assert "3 tasks" in str(error.value) and "num_tasks" in str(error.value)


STEPS = {"steps_per_epoch": 1}
INF, NAN = float("inf"), float("nan")
# Option, values out of its range, and what the message says of it.
WRONG = {
    "fixed": {"weights": [((1.0, -1.0), "not negative"), ((1.0, NAN), "finite")]},
    "rlw": {"distribution": [("gamma", "dirichlet")]},
    "sampled": {
        "temperature": [(0.0, "more than 0"), (INF, "finite")],
        "sizes": [((5, 0), "must be positive")],
    },
    "dwa": {
        "temperature": [(0.0, "more than 0"), (NAN, "nan")],
        "steps_per_epoch": [(0, "1 or more"), (1.5, "1 or more")],
    },
    "uw": {"learning_rate": [(0.0, "more than 0"), (INF, "finite")]},
    "imtl_l": {"learning_rate": [(-1.0, "more than 0")]},
    "famo": {
        "learning_rate": [(0.0, "more than 0")],
        "weight_decay": [(-1.0, "at least 0")],
    },
    "stch": {
        "mu": [(0.0, "more than 0")],
        "warmup_epochs": [(-1, "0 or more"), (0.5, "0 or more")],
        "steps_per_epoch": [(0, "1 or more")],
    },
    "igb": {
        "base_epoch": [(-1, "0 or more"), (0.5, "0 or more")],
        "steps_per_epoch": [(0, "1 or more")],
    },
    "tchebycheff": {"mu": [(0.0, "more than 0")], "ideal": [(NAN, "nan")]},
    "cosmos": {"penalty": [(-1.0, "at least 0")]},
    "pbi": {"theta": [(-1.0, "at least 0")], "ideal": [(INF, "finite")]},
    "auto_lambda": {
        "learning_rate": [(0.0, "more than 0")],
        "initial": [(0.0, "more than 0")],
        "primary": [(-1, "0 or more")],
    },
    "pcd": {
        "tau": [(1.5, "at most 1")],
        "beta": [(1.0, "at most 0.999999")],
        "eps": [(-1.0, "at least 0")],
        "primary": [(-1, "0 or more"), (0.5, "0 or more")],
    },
    "gradnorm": {
        "alpha": [(-1.0, "at least 0")],
        "learning_rate": [(0.0, "more than 0")],
    },
    "dbmtl": {
        "beta": [(1.5, "at most 1"), (-0.1, "at least 0")],
        "beta_sigma": [(-1.0, "at least 0")],
    },
    "mgda": {"normaliser": [("l1", "none, l2, loss, loss+")]},
    "gradvac": {"beta": [(2.0, "at most 1")], "groups": [("all", "matrix")]},
    "cagrad": {
        "c": [(-0.1, "at least 0"), (NAN, "nan"), (INF, "inf"), ("big", "'big'")],
        "rescale": [(3, "0, 1, 2")],
    },
    "imtl": {"learning_rate": [(0.0, "more than 0")]},
    "nash_mtl": {
        "max_norm": [(-1.0, "at least 0")],
        "update_every": [(0, "1 or more"), (0.5, "1 or more")],
    },
    "fairgrad": {
        "alpha": [(0.0, "more than 0"), (INF, "inf")],
        "max_norm": [(-1.0, "at least 0")],
        "times_tasks": [("yes", "False, True")],
    },
    "aligned_mtl": {"scale": [("max", "min, rmse, median")]},
    "cr_mogm": {
        "alpha": [(1.1, "at most 1")],
        "inner": [("moco", "mgda"), ("famo", "mgda"), (None, "None")],
    },
    "reweighted": {"losses": [("mgda", "losses")], "inner": [("modo", "mgda")]},
    "sdmgrad": {
        "penalty": [(-1.0, "at least 0")],
        "iterations": [(0, "1 or more")],
        "learning_rate": [(0.0, "more than 0")],
        "momentum": [(1.5, "at most 1")],
    },
    "modo": {"gamma": [(0.0, "more than 0")], "rho": [(-1.0, "at least 0")]},
    "moco": {
        "beta": [(0.0, "more than 0"), (2.0, "at most 1")],
        "beta_sigma": [(-1.0, "at least 0")],
        "gamma": [(0.0, "more than 0")],
        "gamma_sigma": [(-1.0, "at least 0")],
        "rho": [(-1.0, "at least 0")],
    },
    "momentum_config": {
        "tasks_per_step": [(-1, "0 or more"), (0.5, "0 or more")],
        "b1": [(1.5, "at most 1")],
        "b2": [(-1.0, "at least 0")],
        "eps": [(-1.0, "at least 0")],
    },
    "graddrop": {"leak": [(2.0, "at most 1")]},
    "graddrop_rep": {"leak": [(-1.0, "at least 0")]},
    "excessmtl": {"step": [(-1.0, "at least 0")]},
    "finetune": {
        "joint_steps": [(-1, "0 or more"), (0.5, "0 or more")],
        "target": [(-1, "0 or more")],
    },
    "fmtl": {
        "rho": [(0.0, "more than 0")],
        "head_ratio": [(-2.0, "at least 0")],
        "inner": [("moco", "mgda")],
    },
    "rotograd": {"burn_in": [(-1, "0 or more")]},
    "repmtl": {
        "tsr": [(-1.0, "at least 0"), (INF, "finite")],
        "csa": [(-1.0, "at least 0")],
        "temperature": [(0.0, "more than 0")],
        "through_heads": [("yes", "False, True")],
    },
    "palora": {
        "rays": [(0, "1 or more"), (1.5, "1 or more")],
        "concentration": [(0.0, "more than 0"), (INF, "finite")],
        "annealing": [(-1, "0 or more"), (10, "rays of at least 2")],
    },
    "samo": {
        "rho": [(0.0, "more than 0")],
        "beta": [(1.1, "at most 1")],
        "inner": [("moco", "mgda")],
    },
}


def test_every_option_can_be_wrong():
    for name in smto.SMTOS:
        looked_at = {*WRONG.get(name, {}), "reduction", "preference"}
        assert set(smto.options(name)) <= looked_at, name


@pytest.mark.parametrize(
    ("name", "option", "value", "limit"),
    [
        pytest.param(name, option, value, limit, id=f"{name}-{option}-{value}")
        for name, options in WRONG.items()
        for option, values in options.items()
        for value, limit in values
    ]
    + [(name, "reduction", "avg", "sum, mean") for name in REDUCED],
)
def test_options_out_of_range(name, option, value, limit):
    needed = STEPS if name in ("dwa", "igb", "stch") else {}
    with pytest.raises(InputError) as error:
        smto.make(name, **{**needed, option: value})
    message = str(error.value)
    assert limit in message and "\n" not in message
    if isinstance(value, float | int):
        assert str(value) in message and option in message


@pytest.mark.parametrize("name", ["dwa", "igb", "stch"])
def test_epochs_must_have_a_length(name):
    with pytest.raises(InputError, match="steps_per_epoch is 0"):
        smto.make(name)


@pytest.mark.parametrize(
    ("name", "chosen", "words"),
    [
        ("mdga", {}, ["'mdga'", "mgda", "cagrad"]),
        ("cagrad", {"d": 1}, ["cagrad", "'d'", "c, rescale, reduction"]),
        ("sum", {"reduction": "sum"}, ["sum", "'reduction'", "none"]),
        ("cr_mogm", {"inner": "mdga"}, ["'mdga'", "mgda"]),
    ],
)
def test_unknown_names(name, chosen, words):
    with pytest.raises(InputError) as error:
        smto.make(name, **chosen)
    assert all(word in str(error.value) for word in words)


def test_unknown_method_has_no_options():
    with pytest.raises(InputError, match="'mdga'"):
        smto.options("mdga")


def test_fixed_weights_must_fit_the_tasks():
    with pytest.raises(InputError, match="2 weights .* for 3 tasks"):
        LIFT(smto.make("fixed", weights=(1.0, 2.0)), T).init(jnp.zeros(SIZE))


def test_sizes_must_fit_the_tasks():
    with pytest.raises(InputError, match="2 sizes of 3 tasks"):
        LIFT(smto.make("sampled", sizes=(1, 2)), T).init(jnp.zeros(SIZE))


def test_policy_must_be_known():
    with pytest.raises(InputError, match="'keep'.*skip, drop"):
        LIFT(smto.make("sum"), T, "keep")
