"""Directions that can be derived by hand, for Jacobians of two tasks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import smto

JACOBIANS = {
    "orthogonal": [(1, 0), (0, 2)],
    "equal norms": [(1, 0), (0, 1)],
    "conflict": [(1, 0), (-1, 1)],
    "opposed": [(1, 0), (-2, 0)],  # Pareto-stationary
    "identical": [(1, 2), (1, 2)],
    "one zero": [(1, 2), (0, 0)],
    "one task": [(1, 2)],
}

R5 = 5**0.5
MEAN = {
    "orthogonal": (0.5, 1),
    "equal norms": (0.5, 0.5),
    "conflict": (0, 0.5),
    "opposed": (-0.5, 0),
    "identical": (1, 2),
    "one zero": (0.5, 1),
    "one task": (1, 2),
}
# Without rescaling, c = 1/2: g0 + |g0| / 2 times the direction of g_w, which is g1 but
# for equal norms (halfway), identical gradients (any) and a zero one (g_w = 0).
CAGRAD = {
    "orthogonal": (0.5 + R5 / 4, 1),
    "equal norms": (0.75, 0.75),
    "conflict": (0.25, 0.5),
    "opposed": (-0.25, 0),
    "identical": (1.5, 3),
    "one zero": (0.5, 1),
    "one task": (1.5, 3),
}


def divided(table, by):
    return {name: np.divide(value, by) for name, value in table.items()}


# Directions with reduction "mean": T copies of g give g, times the method's length.
TABLE = {
    "mean": ("mean", {}, MEAN),
    "pcgrad": (
        "pcgrad",
        {},
        # g1 + |<g1, g2>| / |g2|^2 g2, the other way round, and their mean.
        {**MEAN, "conflict": (0.25, 0.75), "opposed": (0, 0)},
    ),
    "mgda": (
        "mgda",
        {},
        {
            "orthogonal": (0.8, 0.4),  # w = (.8, .2)
            "equal norms": (0.5, 0.5),
            "conflict": (0.2, 0.4),  # w = (.6, .4)
            "opposed": (0, 0),  # w = (2/3, 1/3)
            "identical": (1, 2),
            "one zero": (0, 0),  # stalls: the zero gradient is the shortest
            "one task": (1, 2),
        },
    ),
    "cagrad": ("cagrad", {"c": 0.5, "rescale": 0}, CAGRAD),
    "cagrad / (1 + c^2)": ("cagrad", {"c": 0.5, "rescale": 1}, divided(CAGRAD, 1.25)),
    "cagrad / (1 + c)": ("cagrad", {"c": 0.5, "rescale": 2}, divided(CAGRAD, 1.5)),
    "cagrad c = 0": ("cagrad", {"c": 0.0}, MEAN),
}
CASES = [
    pytest.param(name, options, jacobian, direction[jacobian], id=f"{case}-{jacobian}")
    for case, (name, options, direction) in TABLE.items()
    for jacobian in JACOBIANS
]


@functools.cache
def update(name, num_tasks, **options):
    method = smto.lift(smto.make(name, **options), num_tasks)
    state = method.init(jnp.zeros(2))

    @jax.jit
    def run(jacobian, key):
        losses = jnp.ones(num_tasks)
        return method.update(jacobian, state, losses=losses, key=key)  # type: ignore[call-arg]

    return run


def direction(name, jacobian, key, **options):
    jacobian = np.array(jacobian, np.float32)
    found, state = update(name, len(jacobian), **options)(jacobian, key)
    np.testing.assert_allclose(found, state.weights @ jacobian, rtol=1e-6, atol=1e-6)
    return found


@pytest.mark.parametrize(("name", "options", "jacobian", "expected"), CASES)
def test_mean(name, options, jacobian, expected, key):
    if name != "mean":  # has no option, it is the reduction
        options = {**options, "reduction": "mean"}
    found = direction(name, JACOBIANS[jacobian], key, **options)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("name", "options", "jacobian", "expected"), CASES)
def test_sum_is_longer_by_the_number_of_tasks(name, options, jacobian, expected, key):
    rows = JACOBIANS[jacobian]
    name = "sum" if name == "mean" else name
    found = direction(name, rows, key, **options)
    expected = np.multiply(expected, len(rows))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=4e-6)


@pytest.mark.parametrize(
    ("jacobian", "expected"),
    [
        ("orthogonal", (0.25, 1.5)),
        ("conflict", (-0.5, 0.75)),
        ("opposed", (-1.25, 0)),
        ("identical", (1, 2)),
        ("one zero", (0.25, 0.5)),
    ],
)
def test_fixed_weights_are_used_as_they_are(jacobian, expected, key):
    found = direction("fixed", JACOBIANS[jacobian], key, weights=(0.25, 0.75))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("jacobian", "weights"),
    [
        ("orthogonal", (0.8, 0.2)),
        ("conflict", (0.6, 0.4)),
        ("opposed", (2 / 3, 1 / 3)),
        ("one zero", (0, 1)),
    ],
)
def test_mgda_weights(jacobian, weights, key):
    rows = np.array(JACOBIANS[jacobian], np.float32)
    _, state = update("mgda", 2, reduction="mean")(rows, key)
    np.testing.assert_allclose(state.weights, weights, atol=1e-5)


def test_pcgrad_projects_onto_the_original_gradients(key):
    # By the algorithm, in all orders of the others. At these angles a projection can
    # turn a gradient against itself, which must not be projected away in turn.
    angles = np.deg2rad([0, 170, 250])
    jacobian = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    possible = []
    for order in [(1, 2), (2, 1)]:
        for second in [(0, 2), (2, 0)]:
            for third in [(0, 1), (1, 0)]:
                total = np.zeros(2)
                for i, others in enumerate((order, second, third)):
                    p = jacobian[i]
                    for j in others:
                        g = jacobian[j]
                        p = p - min(p @ g, 0) / (g @ g) * g
                    total += p
                possible.append(total)
    draws = jax.random.split(key, 60)
    seen = set()
    for draw in draws:
        found = np.asarray(direction("pcgrad", jacobian, draw))
        errors = np.abs(found - np.array(possible)).max(axis=1)
        assert errors.min() < 1e-5
        seen |= set(np.flatnonzero(errors < 1e-5))
    assert seen == set(range(len(possible)))
