"""Parity with TorchJD, where it is installed and where it is right.

Both get the same Jacobians of gradients of length about 1, theirs in float64. What
TorchJD 0.18 does differently, by design or not, and is either avoided or looked at:

- It averages over tasks in CAGrad, MGDA, UPGrad, DualProj, Aligned-MTL and IMTL-G, and
  sums in PCGrad, GradVac, GradDrop and ConFIG; CAGrad's direction is not rescaled.
- UPGrad and DualProj add 1e-4 to the diagonal of the Gramian, which biases them; here
  they are given a projector that adds 1e-12. They and CAGrad take a Gramian of a trace
  below 1e-4 for zero: what is to be without conflict is the mean then, and CAGrad 0.
- CAGrad reads any short ``g_w`` as a Pareto-stationary point and returns 0, also for
  one zero gradient among others.
- IMTL-G and ConFIG normalise round-off where gradients are opposed.
- FairGrad starts at a fixed point and stops at absolute tolerances: the direction
  depends on the scale of the losses. Its direction is not shortened.
- Nash-MTL needs ecos, falls back to equal weights in conflict, and does not know one
  task; it is compared where no gradient conflicts with the sum.
- MGDA stops after 100 Frank-Wolfe steps or at epsilon 1e-3, 4 % too long on average for
  ten tasks; here it is given many steps and few tasks. It knows no normalisers.
- Aligned-MTL's median of an even number of components is the lower of the two.
- PCGrad and GradVac draw orders from torch's generator: two tasks have one order.
- SDMGrad takes 20 steps of 10 over the squared mean length, too long to converge; here
  both go to the optimum.
- ExcessMTL moves the weights at the first update already, by absolute excess risks.
- STCH is that of losses, without logarithms, nadir and warm-up: that is tchebycheff
  here; against stch it is given logarithms.
- MoCo, DB-MTL, M-ConFIG, GradNorm, SI, IGB, F-MTL and SAMO are missing.
"""

import functools
import importlib.util
import warnings
from typing import Any

import jax
import numpy as np
import pytest

from tests.smto.cases import SIZE, make, once, run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch: Any = pytest.importorskip("torch")
    aggregation: Any = pytest.importorskip("torchjd.aggregation")
    scalarization: Any = pytest.importorskip("torchjd.scalarization")
    linalg: Any = pytest.importorskip("torchjd.linalg")


def needs(*packages):
    missing = [name for name in packages if not importlib.util.find_spec(name)]
    return pytest.mark.skipif(bool(missing), reason=f"TorchJD needs {missing} for it")


QP = needs("qpsolvers", "quadprog")
CONE = needs("cvxpy", "clarabel")
ECOS = needs("cvxpy", "ecos")
SCIPY = needs("scipy")


def jacobians(num_tasks, count=12):
    """Draw gradients of unlike lengths, half of them in conflict."""
    rng = np.random.default_rng(num_tasks)
    rows = rng.normal(size=(count, num_tasks, SIZE))
    rows[::2, 1] -= 0.8 * rows[::2, 0]
    return (rows * np.exp(rng.normal(size=(count, num_tasks, 1)) / 2)).astype("f4")


def theirs(peer, rows, dtype: Any = np.float64):
    """Return directions, or weights, of one call for every matrix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.stack([peer(torch.tensor(dtype(m))).numpy() for m in rows])


def unit(directions):
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def close(actual, expected, tolerance):
    size = np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(actual / size, expected / size, atol=tolerance)


def projecting(name):
    projector = linalg.QuadprogProjector(norm_eps=0.0, reg_eps=1e-12)
    return getattr(aggregation, name)(projector=projector)


# Ours, tasks, theirs, by how much ours is longer (0: only directions), tolerance.
AGGREGATORS = [
    pytest.param("sum", 3, lambda: aggregation.Sum(), 1, 1e-6),
    pytest.param("mean", 3, lambda: aggregation.Mean(), 1, 1e-6),
    pytest.param("mgda", 2, lambda: slow_mgda(), 2, 1e-5),
    pytest.param("mgda", 3, lambda: slow_mgda(), 3, 2e-2),
    pytest.param("pcgrad", 2, lambda: aggregation.PCGrad(), 1, 1e-5),
    pytest.param("gradvac", 2, lambda: fresh_gradvac, 1, 1e-5),
    pytest.param(
        "cagrad", 3, lambda: aggregation.CAGrad(c=0.4), 3 / 1.16, 2e-3, marks=CONE
    ),
    pytest.param("imtl_g", 3, lambda: aggregation.IMTLG(), 3, 1e-3),
    pytest.param("config", 3, lambda: aggregation.ConFIG(), 1, 1e-3),
    pytest.param("aligned_mtl", 3, lambda: aggregation.AlignedMTL(), 3, 1e-3),
    pytest.param("upgrad", 3, lambda: projecting("UPGrad"), 3, 1e-3, marks=QP),
    pytest.param("dualproj", 3, lambda: projecting("DualProj"), 3, 1e-3, marks=QP),
    pytest.param(
        "fairgrad", 3, lambda: aggregation.FairGrad(alpha=1.0), 0, 5e-3, marks=SCIPY
    ),
]


def slow_mgda():
    return aggregation.MGDA(epsilon=1e-9, max_iters=1500)


def fresh_gradvac(matrix):
    return aggregation.GradVac()(matrix)


@pytest.mark.parametrize(
    ("name", "num_tasks", "peer", "factor", "tolerance"), AGGREGATORS
)
def test_aggregator(name, num_tasks, peer, factor, tolerance):
    rows = jacobians(num_tasks)
    directions, expected = once(name, rows).direction, theirs(peer(), rows)
    close(directions, factor * expected if factor else unit(expected), tolerance)


@pytest.mark.parametrize("scale", ["rmse", "median"])
def test_aligned_mtl_to_other_components(scale):
    rows = jacobians(3)
    expected = theirs(aggregation.AlignedMTL(scale_mode=scale), rows)
    directions = once("aligned_mtl", rows, scale=scale, reduction="mean").direction
    close(directions, expected, 1e-3)


RAY = (0.2, 0.5, 0.3)


@pytest.mark.parametrize(
    ("name", "peer", "factor"),
    [
        ("aligned_mtl", aggregation.AlignedMTL, 3),
        ("config", aggregation.ConFIG, 1),
        pytest.param("upgrad", aggregation.UPGrad, 3, marks=QP),
        pytest.param("dualproj", aggregation.DualProj, 3, marks=QP),
    ],
)
def test_preference(name, peer, factor):
    rows, ray = jacobians(3), torch.tensor(RAY, dtype=torch.float64)
    options = {}
    if name in ("upgrad", "dualproj"):
        options["projector"] = linalg.QuadprogProjector(norm_eps=0.0, reg_eps=1e-12)
    expected = factor * theirs(peer(ray, **options), rows)
    close(once(name, rows, preference=RAY).direction, expected, 1e-3)


def test_pcd_over_time():
    rows = jacobians(3)
    expected = in_turn(aggregation.PCD(tau=0.1, beta=0.9), rows)
    ours = run("pcd", rows[:, None], tau=0.1, beta=0.9, eps=1e-8).direction
    close(ours, expected, 1e-4)


@SCIPY
def test_fairgrad_of_alpha_2():
    rows = jacobians(3)
    expected = theirs(aggregation.FairGrad(alpha=2.0), rows)
    directions = once("fairgrad", rows, alpha=2.0, max_norm=0.0).direction
    close(directions, expected, 5e-3)


@ECOS
def test_nash_mtl():
    rows = jacobians(3)
    agree = (rows @ rows.sum(axis=1)[..., None] > 0).all(axis=(1, 2))
    expected = theirs(lambda m: aggregation.NashMTL(n_tasks=3)(m), rows[agree])
    close(once("nash_mtl", rows[agree]).direction, expected, 5e-3)


@ECOS
def test_nash_mtl_of_one_task_is_an_error_there():
    with pytest.raises(ValueError):
        theirs(aggregation.NashMTL(n_tasks=1), [[(1, 2)]])


def test_graddrop_that_drops_nothing():
    rows = jacobians(3)
    expected = theirs(aggregation.GradDrop(leak=torch.ones(3)), rows)
    close(once("graddrop", rows, leak=1.0).direction, expected, 1e-5)


def in_turn(peer, rows):
    """Repeat rows for a peer with a state, update after update ``[S, 1, ...]``."""
    return theirs(peer, rows)[:, None]


def test_gradvac_over_time():
    rows = jacobians(2)
    expected = in_turn(aggregation.GradVac(beta=0.5), rows)
    close(run("gradvac", rows[:, None], beta=0.5).direction, expected, 5e-4)


@pytest.mark.parametrize(
    ("name", "peer", "options"),
    [
        ("modo", lambda: aggregation.MoDoWeighting(gamma=0.1, rho=0.1), {}),
        (
            "sdmgrad",
            lambda: aggregation.SDMGradWeighting(lr=0.2, n_iter=600),
            {"iterations": 300},
        ),
        (
            "cr_mogm",
            lambda: aggregation.CRMOGMWeighting(
                aggregation.AlignedMTLWeighting(), alpha=0.9
            ),
            {"inner": make("aligned_mtl")},
        ),
    ],
)
def test_weighting_over_time(name, peer, options):
    rows = np.asarray(jacobians(3), np.float64) / 2
    grams = rows @ rows.transpose(0, 2, 1)
    ours = run(name, rows[:, None], **options).state.weights[:, 0]
    np.testing.assert_allclose(ours / 3, theirs(peer(), grams), atol=1e-3)


# Scalarizations. Weights are the derivatives of what they return.

LOSSES = np.exp(np.random.default_rng(0).normal(size=(6, 3)))
ROWS = np.broadcast_to(np.eye(3, SIZE), (6, 1, 3, SIZE))


def slopes(peer, losses):
    values = torch.tensor(losses, requires_grad=True)
    return torch.autograd.grad(peer(values), values)[0].numpy()


def weights(name, losses=LOSSES, **options):
    return run(name, ROWS[: len(losses)], losses[:, None], **options).state.weights[
        :, 0
    ]


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("sum", lambda: scalarization.Sum()),
        ("mean", lambda: scalarization.Mean()),
        ("gls", lambda: scalarization.GeometricMean()),
        (
            "fixed",
            lambda: scalarization.Constant(torch.tensor([0.5, 2.0, 1.25])),
        ),
    ],
)
def test_scalarization(name, peer):
    expected = [slopes(peer(), row) for row in LOSSES]
    np.testing.assert_allclose(weights(name), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "peer"),
    [
        ("tchebycheff", {"mu": 0.1}, lambda r: scalarization.STCH(0.1, r)),
        ("cosmos", {"penalty": 2.0}, lambda r: scalarization.COSMOS(2.0, r)),
        ("pbi", {"theta": 5.0}, lambda r: scalarization.PBI(5.0, r)),
    ],
)
def test_scalarization_by_preference(name, options, peer):
    ray = torch.tensor(RAY, dtype=torch.float64)
    expected = [slopes(peer(ray), row) for row in LOSSES]
    actual = weights(name, preference=RAY, **options)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "peer"), [("uw", scalarization.UW), ("imtl_l", scalarization.IMTLL)]
)
def test_learned_scalarization(name, peer):
    scalarizer, expected = peer(3).double(), []
    adam = torch.optim.Adam(scalarizer.parameters(), lr=0.025)
    for row in LOSSES:
        expected.append(slopes(scalarizer, row))
        adam.zero_grad()
        scalarizer(torch.tensor(row)).backward()
        adam.step()
    np.testing.assert_allclose(weights(name), expected, rtol=1e-5)


def test_dwa():
    scalarizer, expected = scalarization.DWA(temperature=2.0), []
    for row in LOSSES:
        expected.append(slopes(scalarizer, row))
        scalarizer.step()
    np.testing.assert_allclose(weights("dwa"), expected, rtol=1e-5)


def test_stch_of_logarithms():
    nadir = LOSSES[0]
    peer = scalarization.STCH(mu=1.0, weights=torch.ones(3, dtype=torch.float64))

    def of_losses(values):
        return 3 * peer(torch.log(values / torch.tensor(nadir)))

    expected = [slopes(of_losses, row) for row in LOSSES[1:]]
    np.testing.assert_allclose(weights("stch")[1:], expected, rtol=1e-5)


def test_famo():
    method = make("famo", reduction="mean")
    state = method.init(3)
    scalarizer = scalarization.FAMO(3).double()

    @jax.jit
    def step(losses, later, state):
        actual, state = method.update(losses, state, None)
        return actual, method.after_update(later, state)

    for row, later in zip(LOSSES, np.roll(LOSSES, 1, axis=0), strict=True):
        expected = slopes(scalarizer, row)
        scalarizer.update(torch.tensor(later))
        actual, state = step(np.float32(row), np.float32(later), state)
        np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_rlw_has_their_distribution():
    torch.manual_seed(0)
    expected = theirs(aggregation.RandomWeighting(), [np.eye(3)] * 2000)
    actual = once("rlw", np.broadcast_to(ROWS[0], (2000, 3, SIZE))).state.weights / 3
    levels = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(
        np.quantile(actual, levels), np.quantile(expected, levels), atol=0.03
    )


# What they do differently.

CONFLICT = np.array([(1, 0), (-1, 1)])
OPPOSED = np.array([(1, 0), (-2, 0)])
ONE_ZERO = np.array([(1, 2), (0, 0)])


@functools.cache
def both(name, peer, rows, scale=1.0):
    """Return ours, with the reduction mean, and theirs over the scale; in float32."""
    rows = np.float32(scale) * np.array([rows], np.float32)
    ours = once(name, rows).direction[0] / (1 if name in ("config", "fairgrad") else 2)
    return ours[:2] / scale, theirs(peer(), rows, np.float32)[0] / scale


def as_rows(matrix):
    return tuple(map(tuple, matrix.tolist()))


@QP
def test_their_upgrad_is_biased():
    ours, peers = both("upgrad", aggregation.UPGrad, as_rows(CONFLICT))
    np.testing.assert_allclose(ours, (0.25, 0.75), atol=1e-6)
    np.testing.assert_allclose(peers, (0.24989, 0.74996), atol=1e-5)


@QP
def test_their_upgrad_of_small_gradients_is_the_mean():
    ours, peers = both("upgrad", aggregation.UPGrad, as_rows(CONFLICT), 0.005)
    np.testing.assert_allclose(ours, (0.25, 0.75), atol=1e-6)
    np.testing.assert_allclose(peers, (0, 0.5), atol=1e-6)


@CONE
@pytest.mark.parametrize(
    ("rows", "scale", "expected"),
    [(ONE_ZERO, 1, (0.5, 1)), (CONFLICT, 0.005, (0.2, 0.5))],
)
def test_their_cagrad_stops(rows, scale, expected):
    peer = functools.partial(aggregation.CAGrad, c=0.4)
    ours, peers = both("cagrad", peer, as_rows(rows), scale)
    np.testing.assert_allclose(ours, np.divide(expected, 1.16), rtol=1e-5)
    np.testing.assert_array_equal(peers, 0)


def test_their_imtl_g_jumps_where_gradients_are_opposed():
    ours, peers = both("imtl_g", aggregation.IMTLG, as_rows(OPPOSED))
    np.testing.assert_allclose(ours, 0, atol=1e-6)
    np.testing.assert_allclose(peers, (-5, 0), atol=1e-5)


def test_their_config_of_opposed_gradients_is_rounding():
    ours, peers = both("config", aggregation.ConFIG, as_rows(OPPOSED))
    np.testing.assert_array_equal(ours, 0)
    assert np.linalg.norm(peers) > 0.5


@SCIPY
def test_their_fairgrad_depends_on_the_scale_of_the_losses():
    peer = functools.partial(aggregation.FairGrad, alpha=1.0)
    ours, peers = both("fairgrad", peer, as_rows(CONFLICT), 1e-3)
    expected = unit(np.array([0.54120, 1.30656]))
    np.testing.assert_allclose(unit(ours), expected, atol=1e-4)
    assert unit(peers) @ expected < 0.97


def test_their_median_is_the_lower_one():
    rows = np.array([[(1, 0), (0, 2)]])
    lower, median = [
        theirs(aggregation.AlignedMTL(scale_mode=scale), rows)
        for scale in ("min", "median")
    ]
    np.testing.assert_allclose(lower, median)
    ours = once("aligned_mtl", rows, scale="median", reduction="mean").direction
    np.testing.assert_allclose(ours[:, :2], 2.5**0.5 * median, rtol=1e-5)


def test_their_excessmtl_moves_the_weights_at_once():
    rows = np.array([[(3, 4), (0, 1)]])
    expected = theirs(aggregation.ExcessMTLWeighting(), rows)
    assert abs(expected[0, 0] - 0.5) > 0.4
    np.testing.assert_allclose(once("excessmtl", rows).state.weights, 1)


def test_their_stch_is_another_method():
    peer = scalarization.STCH(mu=1.0)
    peers = slopes(peer, np.array([2.0, 8.0]))
    np.testing.assert_allclose(peers, (0.0237, 0.4763), atol=1e-4)
