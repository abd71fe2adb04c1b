"""The greedy merge against a loop in NumPy, and where its answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import InputError, merging
from mtl_jax.devices.axis_map import sequential
from mtl_jax.merging.greedy import ALPHAS

DEPTH = 5


def drawn(seed, branches=4):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {"a": draw(branches, DEPTH), "b": draw(branches, 2, 3)}, draw(DEPTH)


def loss_to(optimum):
    """Loss that has ``optimum`` and two other local minima, and looks at all leaves."""

    def loss(params):
        apart = (params["a"] - optimum) ** 2
        return (apart + 0.5 * jnp.sin(7 * params["a"])).sum() + (params["b"] ** 2).sum()

    return loss


def by_hand(branches, loss):
    """Search as the paper's appendix words it, one candidate at a time."""

    def of(weights):
        total = sum(weights.values())
        return {
            name: sum(w / total * leaf[b] for b, w in weights.items())
            for name, leaf in branches.items()
        }

    count = len(branches["a"])
    losses = [float(loss(of({b: 1.0}))) for b in range(count)]
    best, *others = sorted(range(count), key=losses.__getitem__)
    weights, lowest = {best: 1.0}, losses[best]
    for branch in others:
        mean, chosen = sum(weights.values()) / len(weights), 0.0
        for alpha in ALPHAS[1:]:
            value = float(loss(of({**weights, branch: alpha * mean})))
            if value < lowest:
                lowest, chosen = value, alpha * mean
        weights[branch] = chosen
    total = sum(weights.values())
    return np.array([weights[b] / total for b in range(count)]), of(weights), lowest


@pytest.mark.parametrize("axis_map", [jax.vmap, sequential])
def test_search_is_that_of_a_loop(axis_map):
    cases = [drawn(seed) for seed in range(8)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases)

    def search(branches, optimum):
        loss = loss_to(optimum)
        return merging.greedy_merge(branches, loss, axis_map=axis_map)

    merged = jax.jit(jax.vmap(search))(*stacked)
    for case, (branches, optimum) in enumerate(cases):
        coefficients, params, lowest = by_hand(branches, loss_to(optimum))
        np.testing.assert_allclose(merged.coefficients[case], coefficients, atol=1e-6)
        for name, leaf in params.items():
            np.testing.assert_allclose(merged.params[name][case], leaf, atol=1e-5)
        assert lowest <= merged.losses[case].min() + 1e-5
    entered = (np.asarray(merged.coefficients) > 0).sum(axis=1)
    assert len(set(entered.tolist())) > 1  # some branches stay out, some come in


def test_branches_that_are_one_stay():
    branch, optimum = drawn(0, branches=1)
    branches = jax.tree.map(lambda leaf: np.repeat(leaf, 3, axis=0), branch)
    merged = merging.greedy_merge(branches, loss_to(optimum))
    assert merged.coefficients.tolist() == [1, 0, 0]  # ties: the first, and alone
    for name, leaf in merged.params.items():
        assert (leaf == branch[name][0]).all()


def test_an_auxiliary_task_that_helps_comes_in_and_one_that_harms_stays_out():
    """A step of the target falls short; one in company goes beyond, one astray."""
    target = lambda x: ((x - 1) ** 2).sum()  # noqa: E731
    others = jnp.array([[2.0, 2.0], [-3.0, 1.0]])  # optima of auxiliary tasks
    start, rate = jnp.zeros(2), 0.2

    def branch(weights):
        loss = lambda x: (  # noqa: E731
            target(x) + (weights * ((x[None] - others) ** 2).sum(axis=1)).sum()
        )
        return start - rate * jax.grad(loss)(start)

    branches = jax.vmap(branch)(jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    # .4 with the target alone, 1.2 in good company, of which the latter is better:
    # of the weights that are tried beside its 1, .4 leads to .971, nearest to 1.
    coefficients = merging.greedy_merge(branches, target).coefficients
    np.testing.assert_allclose(coefficients, [0.4 / 1.4, 1 / 1.4, 0], atol=1e-6)


def test_a_branch_that_is_not_finite_stays_out():
    branches, optimum = drawn(1, branches=2)
    broken = jax.tree.map(lambda leaf: leaf.copy(), branches)
    broken["a"][0] = np.inf
    merged = merging.greedy_merge(broken, loss_to(optimum))
    assert merged.coefficients.tolist() == [0, 1]
    assert (merged.params["a"] == branches["a"][1]).all()


@pytest.mark.parametrize("alphas", [(), (0.2, 1.0), (0.0, 1.5)])
def test_alphas_out_of_range(alphas):
    with pytest.raises(InputError, match="alphas are .*; .*name 0 first"):
        merging.greedy_merge(*drawn(0)[:1], loss=lambda _: jnp.zeros(()), alphas=alphas)
