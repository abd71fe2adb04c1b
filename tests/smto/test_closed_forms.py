"""Directions and weights that can be derived by hand, for Jacobians of two tasks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import smto
from mtl_jax.types import Params
from tests.smto.cases import LIFTED, REDUCED, jit, once, padded, run

TWO = {
    "orthogonal": [(1, 0), (0, 2)],
    "equal norms": [(1, 0), (0, 1)],
    "conflict": [(1, 0), (-1, 1)],
    "opposed": [(1, 0), (-2, 0)],  # Pareto-stationary
    "identical": [(1, 2), (1, 2)],
    "one zero": [(1, 2), (0, 0)],
}
ONE = {"one task": [(1, 2)]}

R2, R5, R10 = 2**0.5, 5**0.5, 10**0.5
MEAN = {
    "orthogonal": (0.5, 1),
    "equal norms": (0.5, 0.5),
    "conflict": (0, 0.5),
    "opposed": (-0.5, 0),
    "identical": (1, 2),
    "one zero": (0.5, 1),
    "one task": (1, 2),
}


def times(factor, table):
    return {name: tuple(np.multiply(factor, value)) for name, value in table.items()}


def summed(table):
    """Return twice the mean of two tasks, of one the same."""
    return {**times(2, table), **{n: table[n] for n in ONE if n in table}}


def unit(vector):
    return tuple(np.divide(vector, np.hypot(*vector)))


SUM = summed(MEAN)
# g1 + |<g1, g2>| / |g2|^2 g2, the other way round, and their mean.
PCGRAD = {**MEAN, "conflict": (0.25, 0.75), "opposed": (0, 0)}
MGDA = {
    "orthogonal": (0.8, 0.4),
    "equal norms": (0.5, 0.5),
    "conflict": (0.2, 0.4),
    "opposed": (0, 0),
    "identical": (1, 2),
    "one zero": (0, 0),  # stalls: the zero gradient is the shortest
    "one task": (1, 2),
}
MGDA_WEIGHTS = {
    "orthogonal": (0.8, 0.2),
    "equal norms": (0.5, 0.5),
    "conflict": (0.6, 0.4),
    "opposed": (2 / 3, 1 / 3),
    "one zero": (0, 1),
    "one task": (1,),
}
# Of (1, 0) and (-1, 1) / sqrt 2, the first halved: inner product -a.
a = R2 / 4
SHARE = (1 + a) / (1.25 + 2 * a)


def cagrad(c):
    """Return ``g0 + c |g0|`` times the direction of ``g_w``.

    That is ``g1``, but for equal norms (halfway), identical gradients (any), and a zero
    one (``g_w = 0``, no correction).
    """
    return {
        "orthogonal": (0.5 + c * R5 / 2, 1),
        "equal norms": (0.5 + c / 2, 0.5 + c / 2),
        "conflict": (c / 2, 0.5),
        "opposed": (-0.5 + c / 2, 0),
        "identical": (1 + c, 2 + 2 * c),
        "one zero": (0.5, 1),
        "one task": (1 + c, 2 + 2 * c),
    }


IMTL_G = {
    "orthogonal": (2 / 3, 2 / 3),
    "equal norms": (0.5, 0.5),
    "conflict": (3 - 2 * R2, R2 - 1),
    "opposed": (0, 0),
    "identical": (1, 2),
    "one zero": (1, 2),  # left out
    "one task": (1, 2),
}
IMTL_G_WEIGHTS = {
    "orthogonal": (2 / 3, 1 / 3),
    "conflict": (2 - R2, R2 - 1),
    "opposed": (2 / 3, 1 / 3),
    "one zero": (1, 0),
}
CONFIG = {  # of the sum
    "orthogonal": (1.5, 1.5),
    "equal norms": (1, 1),
    "conflict": (R2 / 4, (2 + R2) / 4),
    "opposed": (0, 0),
    "identical": (2, 4),
    "one zero": (1, 2),
    "one task": (1, 2),
}
NASH = {
    "orthogonal": (1, 1),
    "equal norms": (1, 1),
    "conflict": ((2 + R2) ** 0.5 - (1 + 1 / R2) ** 0.5, (1 + 1 / R2) ** 0.5),
    "opposed": (0, 0),  # there is no bargain
    "identical": (2 / R10, 4 / R10),
    "one zero": (1 / R5, 2 / R5),
    "one task": (1 / R5, 2 / R5),
}
NASH_WEIGHTS = {
    "orthogonal": (1, 0.5),
    "conflict": ((2 + R2) ** 0.5, (1 + 1 / R2) ** 0.5),
    "opposed": (2 / 3, 1 / 3),
    "one zero": (1 / R5, 0),
}


def shortened(table):
    """Shorten to length 1 what is longer."""
    return {
        name: tuple(np.divide(value, max(1, np.linalg.norm(value))))
        for name, value in table.items()
    }


FAIR = {  # alpha 2: G w = 1 / sqrt(w)
    "orthogonal": (1, 2 ** (-1 / 3)),
    "equal norms": (1, 1),
    "conflict": (2.17405 - 1.49584, 1.49584),
    "identical": (2 * 10 ** (-2 / 3), 4 * 10 ** (-2 / 3)),
    "one zero": (5 ** (-2 / 3), 2 * 5 ** (-2 / 3)),
    "one task": (5 ** (-2 / 3), 2 * 5 ** (-2 / 3)),
}
# Both principal components as long as the shorter, or as their root mean square.
ALIGNED = {
    "orthogonal": (0.5, 0.5),
    "equal norms": (0.5, 0.5),
    "conflict": ((R5 - 1) / 4 / R5, 3 * (R5 - 1) / 4 / R5),
    "opposed": (-0.5, 0),
    "identical": (1, 2),
    "one zero": (0.5, 1),
    "one task": (1, 2),
}
ALIGNED_RMSE = {
    **ALIGNED,
    "orthogonal": (2.5**0.5 / 2, 2.5**0.5 / 2),
    "conflict": tuple((3 / (3 - R5)) ** 0.5 * np.array(ALIGNED["conflict"])),
}
ALIGNED_WEIGHTS = {
    "orthogonal": (0.5, 0.25),
    "conflict": (2 * (R5 - 1) / 2 / R5, 3 * (R5 - 1) / 4 / R5),
}
UPGRAD = {**MEAN, "conflict": (0.25, 0.75), "opposed": (0, 0)}
UPGRAD_WEIGHTS = {"orthogonal": (0.5, 0.5), "conflict": (1, 0.75)}
DUALPROJ = {**MEAN, "opposed": (0, 0)}
STRETCHED = {  # both as long as the longer
    "orthogonal": (2, 2),
    "equal norms": (1, 1),
    "conflict": (R2 - 1, 1),
    "opposed": (0, 0),
    "identical": (2, 4),
    "one zero": (1, 2),
    "one task": (1, 2),
}
# From equal weights one step of 1/10 along G w, put back on the simplex.
ONE_STEP = {
    "orthogonal": (0.575, 0.85),
    "equal norms": (0.5, 0.5),
    "conflict": (0.05, 0.475),
    "opposed": (-0.275, 0),
    "identical": (1, 2),
    "one zero": (0.375, 0.75),
    "one task": (1, 2),
}
ONE_STEP_WEIGHTS = {
    "orthogonal": (0.575, 0.425),
    "conflict": (0.525, 0.475),
    "opposed": (0.575, 0.425),
    "one zero": (0.375, 0.625),
}
UNSEEN = {"conflict", "opposed"}  # left to chance
PCD = {
    "orthogonal": unit((1, 0.02)),
    "equal norms": unit((1, 0.02)),
    "conflict": unit((1 - (0.02 + R2 / 2) / R2, (0.02 + R2 / 2) / R2)),
    "opposed": (-1, 0),
    "identical": (1, 2),
    "one zero": (1, 2),
    "one task": (1, 2),
}

# Name, options, directions and weights of the mean over tasks: with the option
# reduction left at "sum" both are longer by the number of tasks.
MEANS = {"reduction": "mean"}
EXACT = {**MEANS, "iterations": 400, "learning_rate": 0.3, "momentum": 0.0}
TABLE = {
    "sum": ("sum", {}, SUM, {}),
    "mean": ("mean", {}, MEAN, {}),
    "fixed": (
        "fixed",
        {"weights": (0.25, 0.75)},
        {
            "orthogonal": (0.25, 1.5),
            "conflict": (-0.5, 0.75),
            "opposed": (-1.25, 0),
            "identical": (1, 2),
            "one zero": (0.25, 0.5),
        },
        {},
    ),
    # All losses are 1 here; for others see below.
    "si": ("si", {}, SUM, {}),
    "dwa": ("dwa", {}, MEAN, {}),
    "uw": ("uw", {}, times(0.5, SUM), {}),
    "imtl_l": ("imtl_l", {}, SUM, {}),
    "gls": ("gls", {}, MEAN, {}),
    "famo": ("famo", {}, MEAN, {}),
    "stch": ("stch", {}, SUM, {}),
    "igb": ("igb", {}, SUM, {}),
    "gradnorm": ("gradnorm", {}, MEAN, {}),
    "excessmtl": ("excessmtl", {}, MEAN, {}),
    "dbmtl": ("dbmtl", {}, times(0.1, STRETCHED), {}),
    "dbmtl 0": ("dbmtl", {"beta": 0.0}, STRETCHED, {}),
    "mgda": ("mgda", {}, MGDA, MGDA_WEIGHTS),
    "mgda l2": (
        "mgda",
        {**MEANS, "normaliser": "l2"},
        {**MEAN, "one zero": (0, 0)},
        {"conflict": (0.5, 0.5), "one zero": (0, 1)},
    ),
    "pcgrad": ("pcgrad", {}, PCGRAD, {"conflict": (1, 0.75), "opposed": (1.5, 0.75)}),
    "gradvac": ("gradvac", {}, PCGRAD, {}),
    "gradvac layer": ("gradvac", {**MEANS, "groups": "layer"}, PCGRAD, {}),
    "cagrad": ("cagrad", {}, times(1 / 1.16, cagrad(0.4)), {}),
    "cagrad .5": ("cagrad", {**MEANS, "c": 0.5, "rescale": 0}, cagrad(0.5), {}),
    "cagrad 0": ("cagrad", {**MEANS, "c": 0.0, "rescale": 2}, MEAN, {}),
    "imtl_g": ("imtl_g", {}, IMTL_G, IMTL_G_WEIGHTS),
    "imtl": ("imtl", {}, IMTL_G, IMTL_G_WEIGHTS),
    "nash_mtl": ("nash_mtl", {}, shortened(NASH), {}),
    "nash_mtl long": ("nash_mtl", {"max_norm": 0.0}, NASH, NASH_WEIGHTS),
    "fairgrad": ("fairgrad", {}, shortened(NASH), {}),
    "fairgrad long": ("fairgrad", {"max_norm": 0.0}, NASH, NASH_WEIGHTS),
    "fairgrad 2": (
        "fairgrad",
        {"alpha": 2.0, "max_norm": 0.0},
        FAIR,
        {"orthogonal": (1, 4 ** (-2 / 3)), "conflict": (2.17405, 1.49584)},
    ),
    # The factor T comes before the limit.
    "fairgrad 2 times": (
        "fairgrad",
        {"alpha": 2.0, "max_norm": 0.0, "times_tasks": True},
        summed(FAIR),
        {"orthogonal": (2, 2 * 4 ** (-2 / 3))},
    ),
    "fairgrad 2 times, short": (
        "fairgrad",
        {"alpha": 2.0, "times_tasks": True},
        shortened(summed(FAIR)),
        {},
    ),
    "aligned_mtl": ("aligned_mtl", {}, ALIGNED, ALIGNED_WEIGHTS),
    "aligned_mtl rmse": ("aligned_mtl", {**MEANS, "scale": "rmse"}, ALIGNED_RMSE, {}),
    "upgrad": ("upgrad", {}, UPGRAD, UPGRAD_WEIGHTS),
    "dualproj": ("dualproj", {}, DUALPROJ, {"conflict": (0.5, 0.5)}),
    "finetune": ("finetune", {}, SUM, {}),
    "auto_lambda": (
        "auto_lambda",
        {"initial": 1.0},
        SUM,
        {},
    ),
    "finetune, alone": (
        "finetune",
        {"joint_steps": 0, "target": 1},
        {"orthogonal": (0, 2), "conflict": (-1, 1)},
        {"orthogonal": (0, 1)},
    ),
    # Of unit gradients: d with <u_1, d> = 0.02, as long as the first gradient.
    "pcd": ("pcd", {}, PCD, {}),
    # Equal losses lie on an equal preference.
    "tchebycheff": ("tchebycheff", {}, {**times(0.5, MEAN), "one task": (1, 2)}, {}),
    "cosmos": ("cosmos", {}, MEAN, {}),
    "pbi": ("pbi", {}, {**times(R2, MEAN), "one task": (1, 2)}, {}),
    "config": (
        "config",
        {},
        {**times(0.5, CONFIG), "one task": (1, 2)},
        {},
    ),
    # Here both are made of aligned_mtl.
    "cr_mogm": ("cr_mogm", {}, summed(ALIGNED), summed(ALIGNED_WEIGHTS)),
    "cr_mogm sum": ("cr_mogm", {"inner": smto.make("uw")}, times(0.5, SUM), {}),
    "reweighted": ("reweighted", {}, summed(ALIGNED), summed(ALIGNED_WEIGHTS)),
    "sdmgrad": (
        "sdmgrad",
        EXACT,
        # Of min norm where w can be that far from the mean.
        {**MGDA, "one zero": (0.15 / 1.3, 0.3 / 1.3)},
        {**MGDA_WEIGHTS, "one zero": (0.15 / 1.3, 1.15 / 1.3)},
    ),
    "modo": ("modo", {**MEANS, "rho": 0.0}, ONE_STEP, ONE_STEP_WEIGHTS),
    "moco": ("moco", {**MEANS, "beta": 1.0}, ONE_STEP, ONE_STEP_WEIGHTS),
    "moco, authors": (
        "moco",
        {**MEANS, "beta": 1.0, "gamma": 0.2},
        {"orthogonal": (0.65, 0.7)},
        {"orthogonal": (0.65, 0.35)},
    ),
    # As Adam's first step: the signs of ConFIG's direction.
    "momentum_config": (
        "momentum_config",
        {},
        {name: tuple(np.sign(value)) for name, value in CONFIG.items()},
        {},
    ),
    "graddrop": (
        "graddrop",
        {},
        {name: value for name, value in MEAN.items() if name not in UNSEEN},
        {},
    ),
    "graddrop, all leaks": ("graddrop", {**MEANS, "leak": 1.0}, MEAN, {}),
}


def test_every_method_has_a_closed_form():
    # Random weights have a distribution, further down.
    assert {name for name, *_ in TABLE.values()} == set(LIFTED) - {"rlw", "sampled"}


def check(case, table, losses=None):
    name, options, directions, weights = TABLE[case]
    table = {key: table[key] for key in table if key in directions}
    rows = np.array(list(table.values()), np.float32)
    outcome = once(name, rows, losses, **options)
    summed = name in REDUCED and "reduction" not in options
    factor = rows.shape[1] if summed else 1
    for number, problem in enumerate(table):
        np.testing.assert_allclose(
            outcome.direction[number] / factor,
            padded(directions[problem]),
            rtol=5e-5,
            atol=5e-5,
            err_msg=problem,
        )
        if problem in weights:
            np.testing.assert_allclose(
                outcome.state.weights[number] / factor,
                weights[problem],
                rtol=5e-5,
                atol=5e-5,
                err_msg=f"weights: {problem}",
            )


@pytest.mark.parametrize("case", TABLE)
def test_two_tasks(case):
    check(case, TWO)


@pytest.mark.parametrize("case", [c for c in TABLE if c in LIFTED and c != "fixed"])
def test_one_task(case):
    check(case, ONE)


def test_cagrad_divided_by_its_longest():
    outcome = once("cagrad", [ONE["one task"]], c=0.5, rescale=2)
    np.testing.assert_allclose(outcome.direction[0], padded((1, 2)), rtol=1e-5)


def test_no_bargain_is_told():
    for name in ("nash_mtl", "fairgrad"):
        outcome = once(name, [TWO["opposed"], TWO["conflict"]], max_norm=0.0)
        assert outcome.state.residual[0] > smto.TOLERANCE > outcome.state.residual[1]


# Of the orthogonal gradients. Name, options, losses of update after update, weights.
LOSSES = {
    "sum": ("sum", {}, [(2, 8)], (1, 1)),
    "si": ("si", {}, [(2, 8)], (1 / 2, 1 / 8)),
    "uw": ("uw", {}, [(2, 8)], (0.5, 0.5)),
    "imtl_l": ("imtl_l", {}, [(2, 8)], (1, 1)),
    "gls": ("gls", {}, [(2, 8)], (1, 0.25)),
    "famo": ("famo", {}, [(1, 4)], (1.6, 0.4)),
    # An update an epoch. r = (1 / 2, 1)
    "dwa": ("dwa", {}, [(2, 1), (1, 1), (5, 3)], (0.87565, 1.12435)),
    "dwa at rest": ("dwa", {}, [(100, 0.01)] * 3, (1, 1)),
    "dwa, loss 0": ("dwa", {}, [(0, 1), (1, 1), (1, 1)], (1, 1)),
    # Nadir (2, 4): shares of the log-losses (1, 2) / 3
    "stch": ("stch", {}, [(2, 4), (2, 8)], (1 / 3, 1 / 6)),
    "stch before": ("stch", {}, [(2, 8)], (1 / 2, 1 / 8)),
    "stch sharp": ("stch", {"mu": 0.5}, [(2, 4), (2, 8)], (1 / 5, 1 / 5)),
    "tchebycheff": (
        "tchebycheff",
        {"preference": (3, 1), "ideal": 1.0, "mu": 1 / np.log(2)},
        [(2, 8)],
        # Softmax of log 2 * (3 / 4, 7 / 4)
        (3 / 4 / 3, 1 / 4 * 2 / 3),
    ),
    # p = (3, 1) / 4 and l = (1, 0): the cosine's slope is 0 and 1 / sqrt(10).
    "cosmos": (
        "cosmos",
        {"preference": (3, 1), "penalty": 2.0},
        [(1, 0)],
        (3 / 4, 1 / 4 - 2 / R10),
    ),
    # p = (0.6, 0.8), l - 1 = (0.8, 0.6) off it by (0.224, -0.168), 0.28 long
    "pbi": (
        "pbi",
        {"preference": (3, 4), "ideal": 1.0},
        [(1.8, 1.6)],
        (0.6 + 5 * 0.8, 0.8 - 5 * 0.6),
    ),
    "igb": ("igb", {}, [(7, 5), (2, 4), (2, 8)], (0.53788 / 2, 1.46212 / 8)),
    "igb before": ("igb", {}, [(7, 5), (2, 4)], (1 / 2, 1 / 4)),
    # The gradients of the logarithms are 1/2 and 1/4 long.
    "dbmtl 0": ("dbmtl", {"beta": 0.0}, [(2, 8)], (1 / 2, 1 / 4)),
    "gradnorm": ("gradnorm", {}, [(2, 8)], (1, 1)),
    # Of si's gradients (1/2, 0) and (0, 1/4), aligned_mtl takes (1/2, 1).
    "reweighted": ("reweighted", {}, [(2, 8)], (1 / 4, 1 / 8)),
    "imtl": ("imtl", {}, [(2, 8)], (4 / 3, 2 / 3)),
    # Smoothed once: 9/10 of the first, 1/10 of the second.
    "cr_mogm": (
        "cr_mogm",
        {"inner": smto.make("si")},
        [(2, 8), (1, 1)],
        (0.55, 0.2125),
    ),
}


@pytest.mark.parametrize("case", LOSSES)
def test_losses(case):
    name, options, losses, weights = LOSSES[case]
    losses = np.array(losses)[:, None]
    rows = np.array([[TWO["orthogonal"]]] * len(losses))
    outcome = run(name, rows, losses, **options)
    np.testing.assert_allclose(outcome.state.weights[-1, 0], weights, rtol=1e-5)
    np.testing.assert_allclose(
        outcome.direction[-1, 0], padded(np.multiply(weights, (1, 2))), rtol=1e-5
    )


# Directions for losses (2, 1).
NORMALISED = {
    "loss": {
        "orthogonal": (16 / 17, 2 / 17),
        "equal norms": (0.8, 0.2),
        "conflict": (7 / 13, 3 / 13),
        "opposed": (0.4, 0),
        "identical": (1, 2),
        "one zero": (0, 0),
    },
    "loss+": {
        "orthogonal": (0.8, 0.4),
        "equal norms": (0.8, 0.2),
        "conflict": (2 * SHARE - 1, 1 - SHARE),
        "opposed": (0, 0),
        "identical": (1, 2),
        "one zero": (0, 0),
    },
}


@pytest.mark.parametrize("normaliser", NORMALISED)
def test_mgda_normalised_by_losses(normaliser):
    expected = NORMALISED[normaliser]
    rows = [TWO[problem] for problem in expected]
    losses = [(2, 1)] * len(rows)
    outcome = once("mgda", rows, losses, normaliser=normaliser, reduction="mean")
    np.testing.assert_allclose(
        outcome.direction, padded(list(expected.values())), rtol=1e-5, atol=1e-5
    )


def test_aligned_mtl_to_the_median_component():
    rows = [(1, 0, 0), (0, 2, 0), (0, 0, 3)]
    outcome = once("aligned_mtl", [rows], scale="median", reduction="mean")
    np.testing.assert_allclose(outcome.direction[0, :3], 2 / 3, rtol=1e-5)
    weights = outcome.state.weights[0]
    np.testing.assert_allclose(weights, (2 / 3, 1 / 3, 2 / 9), rtol=1e-5)


def test_config_of_twins_serves_the_third_task():
    outcome = once("config", [[(1, 2, 0), (1, 2, 0), (0, 0, 1)]])
    np.testing.assert_allclose(
        outcome.direction[0, :3], (1.2236, 2.4472, 2.7361), rtol=5e-5
    )


def test_pcgrad_projects_onto_the_original_gradients():
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
    directions = once("pcgrad", [jacobian] * 64).direction[:, :2]
    errors = np.abs(directions[:, None] - np.array(possible)).max(axis=2)
    assert (errors.min(axis=1) < 1e-5).all()
    assert set(np.argwhere(errors < 1e-5)[:, 1]) == set(range(len(possible)))


def test_gradvac_lifts_a_cosine_to_its_target(key):
    weighting = smto.make("gradvac")
    assert isinstance(weighting, smto.GramianWeighting)
    gram = jnp.array([[1.0, 0.0], [0.0, 4.0]])
    targets = jnp.array([[0.0, 0.5], [0.0, 0.0]])
    (weights, _), seen = jit(weighting.update)(gram, jnp.ones(2), targets, key)
    # p_1 = g_1 + .288675 g_2 = (1, .57735), at 60 degrees from g_2; p_2 = g_2
    np.testing.assert_allclose(weights, (1, 1.288675), rtol=1e-5)
    np.testing.assert_allclose(seen, 0.99 * targets, rtol=1e-5)  # found at cosine 0


@pytest.mark.parametrize(("leak", "values"), [(0.0, (3, -1)), (0.5, (2.5, 0.5))])
def test_graddrop_keeps_a_sign_by_its_purity(leak, values):
    directions = once("graddrop", [[(3,), (-1,)]] * 3200, leak=leak).direction[:, 0]
    positive = np.isclose(directions, values[0])
    assert (positive | np.isclose(directions, values[1])).all()
    # Of 3,200 draws with probability 3/4, within four standard errors.
    assert abs(positive.mean() - 0.75) < 4 * (0.75 * 0.25 / 3200) ** 0.5


def test_graddrop_at_the_representation(key):
    method = smto.make("graddrop_rep")
    assert isinstance(method, smto.Cotangent)
    # Two examples, three features. Votes are 3 and -1, 2 and 0, -1 and -1.
    z = jnp.array([[[1.0, 1.0, 2.0], [-1.0, -2.0, 1.0]]])
    first = jnp.array([[2.0, 3.0, 0.0], [-1.0, 1.0, -1.0]])
    second = jnp.array([[-1.0, -1.0, -2.0], [0.0, -1.0, 1.0]])
    grads = jnp.stack([first, second])
    draw = jit(jax.vmap(lambda k: method.update(z, grads, (), k)[0]))
    draws = draw(jax.random.split(key, 3200))
    kept_first = np.isclose(draws[:, 0, :, 0], first[:, 0]).all(axis=1)
    kept_second = np.isclose(draws[:, 1, :, 0], second[:, 0]).all(axis=1)
    assert (kept_first != kept_second).all()
    assert abs(kept_first.mean() - 0.75) < 4 * (0.75 * 0.25 / 3200) ** 0.5
    np.testing.assert_array_equal(draws[:, 0, :, 1], np.tile(first[:, 1], (3200, 1)))
    np.testing.assert_array_equal(draws[:, 1, :, 1], 0)
    np.testing.assert_array_equal(draws[:, 0, :, 2], np.tile(first[:, 2], (3200, 1)))
    np.testing.assert_array_equal(draws[:, 1, :, 2], np.tile(second[:, 2], (3200, 1)))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


DRAWS = 4000
RNG = np.random.default_rng(0)
SUBSETS = RNG.integers(2, size=(2 * DRAWS, 3))
SUBSETS = SUBSETS[SUBSETS.any(axis=1)]
# Of the authors, by NumPy.
DISTRIBUTIONS = {
    "normal": softmax(RNG.normal(size=(DRAWS, 3))),
    "uniform": softmax(RNG.uniform(size=(DRAWS, 3))),
    "random_normal": softmax(
        RNG.uniform(size=(DRAWS, 3))
        + RNG.uniform(size=(DRAWS, 3)) * RNG.normal(size=(DRAWS, 3))
    ),
    "dirichlet": RNG.dirichlet(np.ones(3), DRAWS),
    "bernoulli": SUBSETS / SUBSETS.sum(axis=1, keepdims=True),
    "constrained_bernoulli": np.eye(3)[RNG.integers(3, size=DRAWS)],
}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_rlw(distribution, key):
    weighting = smto.make("rlw", distribution=distribution, reduction="mean")
    assert isinstance(weighting, smto.LossWeighting)
    update = weighting.update
    draw = jit(jax.vmap(lambda k: update(jnp.ones(3), (), k)[0]))
    weights = np.asarray(draw(jax.random.split(key, DRAWS)), np.float64)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    error = weights.std(axis=0) / DRAWS**0.5
    np.testing.assert_array_less(np.abs(weights.mean(axis=0) - 1 / 3), 4 * error)
    expected = DISTRIBUTIONS[distribution]
    quantiles = np.linspace(0, 1, 11)[1:-1]
    np.testing.assert_allclose(
        np.quantile(np.ravel(weights), quantiles, method="nearest"),
        np.quantile(np.ravel(expected), quantiles, method="nearest"),
        atol=0.02,
    )


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_sampled(temperature, key):
    sizes = np.array([600, 300, 100])
    weighting = smto.make(
        "sampled", sizes=sizes, temperature=temperature, reduction="mean"
    )
    assert isinstance(weighting, smto.LossWeighting)
    draw = jit(jax.vmap(lambda k: weighting.update(jnp.ones(3), (), k)[0]))
    weights = np.asarray(draw(jax.random.split(key, DRAWS)), np.float64)
    assert {*map(tuple, weights)} == {*map(tuple, np.eye(3))}
    chances = sizes ** (1 / temperature) / np.sum(sizes ** (1 / temperature))
    error = np.sqrt(chances * (1 - chances) / DRAWS)
    np.testing.assert_array_less(np.abs(weights.mean(axis=0) - chances), 4 * error)


def parabolas(curvatures):
    """Make losses ``c_i theta^2 / 2 + h_i^2 / 2`` at ``theta = 1``, ``h_i = 1``."""
    at = Params(jnp.ones((2, 1)), jnp.ones((2, 1)))

    def grads_at(offset):
        moved = jax.tree.map(jnp.add, at, offset)
        return Params(curvatures[:, None] * moved.shared, moved.heads)

    def losses_at(offset):
        moved = jax.tree.map(jnp.add, at, offset)
        return ((curvatures[:, None] * moved.shared**2 + moved.heads**2) / 2)[:, 0]

    still = jax.tree.map(jnp.zeros_like, at)
    return losses_at(still), grads_at(still), grads_at, losses_at


@functools.cache
def at_other_points(name, **options):
    method = smto.make(name, inner=smto.make("sum"), rho=0.1, **options)
    assert isinstance(method, smto.Perturbation)

    @jit
    def update(curvatures, key):
        return method.update(*parabolas(curvatures), method.init(2), key)[0]

    return update


@pytest.mark.parametrize(
    ("name", "options", "curvatures", "direction", "head"),
    [
        # Gradients (1, 2), sharpness gradients (.1, .2); heads have a ball of their own
        ("fmtl", {}, (1.0, 2.0), 3.3, 1.1),
        ("fmtl", {}, (1.0, -2.0), -1 + 0.3, 1.1),
        ("fmtl", {}, (1.0, 0.0), 1.1, 1.1),
        ("fmtl", {"head_ratio": 5.0}, (1.0, 2.0), 3.3, 1.5),
        ("fmtl", {"head_ratio": 0.0}, (1.0, 2.0), 3.3, 1.0),
        # Trunks moved by .1 up the mean gradient, or up their own; heads up their own
        ("samo", {"beta": 0.0}, (1.0, 2.0), 3.3, 1.1),
        ("samo", {"beta": 0.0}, (1.0, -2.0), -0.9, 1.1),
        ("samo", {"beta": 1.0}, (1.0, -2.0), 1.1 - 1.8, 1.1),
        ("samo", {"beta": 1.0}, (1.0, 2.0), 3.3, 1.1),
    ],
)
def test_gradients_at_other_points(name, options, curvatures, direction, head, key):
    perturbed = at_other_points(name, **options)(jnp.array(curvatures), key)
    np.testing.assert_allclose(perturbed.direction, [direction], rtol=1e-4)
    np.testing.assert_allclose(perturbed.heads, [[head], [head]], rtol=1e-4)
    np.testing.assert_allclose(perturbed.solution.weights, 1)


def test_fmtl_combines_gradients_and_sharpness_apart(key):
    # mgda of (1, 0), (0, 2) and of their sharpness gradients .1 (1, 0), .1 (0, 1)
    grads = Params(jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.zeros((2, 1)))

    def grads_at(offset):
        return Params(grads.shared + offset.shared, grads.heads)

    method = smto.make("fmtl", inner=smto.make("mgda", reduction="mean"), rho=0.1)
    assert isinstance(method, smto.Perturbation)

    @jit
    def update(losses, grads, key):
        return method.update(losses, grads, grads_at, None, method.init(2), key)

    perturbed, _ = update(jnp.ones(2), grads, key)
    np.testing.assert_allclose(perturbed.direction, (0.8 + 0.05, 0.4 + 0.05), rtol=1e-5)
    np.testing.assert_allclose(perturbed.solution.weights, (0.8, 0.2), rtol=1e-5)
