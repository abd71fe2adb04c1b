"""The toy problem: its losses and front, one method by hand, and the entry point."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import flagsaver

from experiments import toy
from mtl_jax import smto
from mtl_jax.analysis import hypervolume
from mtl_jax.smto.lift import Liftable
from mtl_jax.smto.preference import lattice
from mtl_jax.types import InputError

losses = jax.jit(toy.losses)


def by_hand(theta, scale=1.0):
    """Compute losses as Nash-MTL's appendix writes them, with the sign of its code."""
    a, b = theta
    c1, c2 = max(np.tanh(0.5 * b), 0), max(np.tanh(-0.5 * b), 0)
    f1 = np.log(max(abs(0.5 * (-a - 7) - np.tanh(-b)), 5e-6)) + 6
    f2 = np.log(max(abs(0.5 * (-a + 3) + np.tanh(-b) + 2), 5e-6)) + 6
    g1 = ((-a + 7) ** 2 + 0.1 * (-b - 8) ** 2) / 10 - 20
    g2 = ((-a - 7) ** 2 + 0.1 * (-b - 8) ** 2) / 10 - 20
    return np.array([scale * (c1 * f1 + c2 * g1), c1 * f2 + c2 * g2])


def grads_by_hand(theta, scale):
    """Estimate gradients ``[T, 2]`` by central differences."""
    steps = 1e-6 * np.eye(2)
    rows = [by_hand(theta + s, scale) - by_hand(theta - s, scale) for s in steps]
    return np.stack(rows, axis=1) / 2e-6


def mgda_by_hand(grads):
    """Find the shortest convex combination of two gradients."""
    apart = grads[0] - grads[1]
    share = np.clip(-grads[1] @ apart / (apart @ apart), 0, 1)
    return grads[1] + share * apart


def adam_by_hand(theta, scale, steps, rate=1e-3):
    first, second, path = np.zeros(2), np.zeros(2), [theta]
    for n in range(1, steps + 1):
        d = mgda_by_hand(grads_by_hand(theta, scale))
        first, second = 0.9 * first + 0.1 * d, 0.999 * second + 0.001 * d**2
        root = np.sqrt(second / (1 - 0.999**n)) + 1e-8
        theta = theta - rate * first / (1 - 0.9**n) / root
        path.append(theta)
    return np.array(path)


@pytest.fixture(scope="module")
def front():
    return toy.front(0.1)


@pytest.mark.parametrize("theta", [*toy.STARTS, (-7.0, -8.4), (5.0, 9.0), (3.3, -2.1)])
def test_losses(theta):
    expected = by_hand(np.asarray(theta, np.float64), 0.1)
    np.testing.assert_allclose(losses(np.float32(theta), 0.1), expected, 1e-5)


def test_all_methods_are_told_positive_losses(key):
    points = jax.random.uniform(key, (100_000, 2), minval=-11, maxval=11)
    lowest = np.asarray(losses(points, 0.1)).min(axis=0)
    assert (lowest > toy.LOWEST * np.array([0.1, 1])).all()


def test_a_start_on_the_ridge_is_pushed_off():
    """Give both sides their slope there, as PyTorch's clamp has it."""
    grads = jax.jit(jax.jacobian(toy.losses))(jnp.zeros(2))
    slope = 0.5 * (np.log(3.5) + 6) - 0.5 * (5.54 - 20)
    np.testing.assert_allclose(grads, [[0, slope], [0, slope]], 1e-5)


def test_nothing_is_better_than_the_front(front, key):
    _, values = front
    points = np.asarray(jax.random.uniform(key, (50_000, 2), minval=-11, maxval=11))
    close = points * [7.5 / 11, 0.3 / 11] - [0, 8.4]
    others = np.asarray(losses(np.concatenate([points, close]), 0.1))
    slack = 1e-3 * np.ptp(values, axis=0)
    for value in values[::10]:
        assert not (others < value - slack).all(axis=1).any()
    assert len(toy.undominated(values)) == len(values)


def test_the_front_reaches_from_one_optimum_to_the_other(front):
    points, values = front
    assert (np.diff(values[:, 0]) > 0).all() and (np.diff(values[:, 1]) < 0).all()
    np.testing.assert_allclose(points[[0, -1], 0], [7, -7], atol=0.01)
    assert np.abs(np.diff(points[:, 0])).max() < 0.2
    optimum = np.array([[-6.3 / 1.1, -8.408]])  # of the sum: 0.1 * 7 against -7
    assert toy.arrived(optimum, 0.1, values).all()
    assert not toy.arrived(optimum + [[0, 2]], 0.1, values).any()


def test_undominated():
    values = np.array([[1.0, 1.0], [0.0, 2.0], [1.0, 0.5], [0.0, 3.0], [2.0, 0.5]])
    assert toy.undominated(values).tolist() == [1, 2]


@pytest.fixture(scope="module")
def followed():
    """Follow three methods from all starts but that on the ridge.

    There a central difference is another slope.
    """
    starts = toy.STARTS[[0, 2, 3, 4]]
    follow = toy.program(["mgda", "famo", "si"], 0.1, 200)
    return starts, follow(starts, jax.random.split(jax.random.key(0), len(starts)))


def test_mgda_by_hand(followed):
    starts, trajectories = followed
    expected = [adam_by_hand(start.astype(np.float64), 0.1, 200) for start in starts]
    np.testing.assert_allclose(trajectories["mgda"].points, expected, atol=2e-4)
    assert (trajectories["mgda"].residual < 1e-3).all()


def test_losses_are_looked_back_at(followed):
    """Tell FAMO the losses after the step: without them its logits do not move."""
    apart = np.abs(followed[1]["famo"].points - followed[1]["si"].points)
    assert apart.max() > 0.01


def test_what_is_left_out():
    """Make all families but those that look at a shared representation."""
    for name in smto.SMTOS.keys() - toy.LEFT_OUT.keys():
        assert isinstance(toy.make(name), Liftable | smto.Perturbation), name


def run(**flags):
    given = {"methods": "", "steps": "10", "scale": "0.1", **flags}
    with flagsaver.as_parsed(**given):
        toy.toy()


def test_entry_point(tmp_path, capsys):
    out = tmp_path / "new" / "toy"
    run(out=str(out), methods="sum,si,gls", steps="20")
    names = {path.name for path in out.iterdir()}
    assert names == {"toy.png", "toy.svg", "toy_losses.png", "toy_losses.svg"}
    said = capsys.readouterr().out
    assert all(f" {name} " in said for name in ("sum", "si", "gls"))
    assert "0/5" in said and "20 steps" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"methods": "sum,cagard"}, "SMTO 'cagard' is not one of: sum, "),
        ({"methods": "graddrop_rep"}, "graddrop_rep is left out of the toy problem"),
        ({"steps": "0"}, "--steps=0 "),
        ({"scale": "-1"}, "--scale=-1"),
        ({"scale": "nan"}, "--scale=nan must be above 0, and finite"),
        ({"methods": "sum,sum"}, "--methods 'sum' is named twice"),
        ({"out": ""}, "--out is needed"),
    ],
)
def test_mistakes(tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        run(**{"out": str(tmp_path / "toy"), **flags})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made: Not a directory"):
        run(out=str(tmp_path / "file" / "toy"))


def weighted_sum(ray, values):
    return values @ ray


def weighted_maximum(ray, values):
    return (values * ray).max(axis=1) + 1e-6 * values.sum(axis=1)


@pytest.mark.parametrize(
    ("option", "method", "scalarization"),
    [
        ("weights", smto.SMTOS["fixed"], weighted_sum),
        ("preference", partial(smto.make, "tchebycheff", mu=0.01), weighted_maximum),
    ],
)
def test_eleven_preferences_reach_the_front_where_they_should(
    option, method, scalarization
):
    """Train a lattice in one program; the front of a grid says where each is to end."""
    rays = np.array(lattice(10, 2), np.float32)
    start = jnp.zeros(2)

    @jax.jit
    @jax.vmap
    def ends(ray, key):
        strategy = toy.strategy(method(**{option: ray}))
        return toy.descend(strategy, 1.0, 1, 20_000, start, key).points[-1]

    points = ends(rays, jax.random.split(jax.random.key(0), len(rays)))
    reached = np.asarray(losses(points), np.float64) - toy.LOWEST
    front = toy.front(1.0)[1] - toy.LOWEST
    best = np.stack([front[np.argmin(scalarization(ray, front))] for ray in rays])
    np.testing.assert_allclose(reached, best, rtol=0.02, atol=0.02)
    reference = front.max(axis=0) * 1.1
    ideal = hypervolume(best, reference)
    assert hypervolume(reached, reference) == pytest.approx(ideal, rel=0.01)
    assert ideal > 0.95 * hypervolume(front, reference)
