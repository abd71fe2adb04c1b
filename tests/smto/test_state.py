"""Methods with a state over several updates: by hand, or by recursion in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import smto
from tests.smto.cases import SIZE, jit, make, run

T, UPDATES = 3, 8
RNG = np.random.default_rng(0)
GRADS = RNG.normal(size=(UPDATES, 1, T, SIZE)) * np.array([0.5, 1, 2])[:, None]
LOSSES = np.exp(RNG.normal(size=(UPDATES, 1, T)))
ORTHOGONAL = np.array([(1, 0), (0, 2)])


def repeated(rows, count):
    return np.broadcast_to(rows, (count, 1, *np.shape(rows)))


@pytest.mark.parametrize(("name", "sign"), [("uw", 1), ("imtl_l", -1)])
def test_learned_scales_come_to_the_logarithm_of_the_loss(name, sign):
    losses = repeated((2, 8), 400)
    state = run(name, repeated(ORTHOGONAL, 400), losses, learning_rate=0.05).state
    np.testing.assert_allclose(state.method.s[-1, 0], sign * np.log((2, 8)), atol=0.01)
    optimum = np.divide(0.5 if name == "uw" else 1, (2, 8))
    np.testing.assert_allclose(state.weights[-1, 0], optimum, rtol=0.01)


def test_uncertainties_first_move_up_where_the_loss_is_above_1():
    # dL/ds = (1 - l) / 2: Adam's first step is one learning rate
    state = run("uw", repeated(ORTHOGONAL, 1), [[(2, 0.5)]]).state.method
    np.testing.assert_allclose(state.s[0, 0], (0.025, -0.025), rtol=1e-4)


def test_dwa_compares_epochs():
    losses = np.array([(1, 3), (3, 5), (1, 1), (1, 3), (9, 9), (9, 9), (2, 8)])
    rows = repeated(ORTHOGONAL, 7)
    weights = run("dwa", rows, losses[:, None], steps_per_epoch=2).state.weights[:, 0]
    np.testing.assert_allclose(weights[:4], 1)

    def share(rates):
        return 2 * np.exp(np.divide(rates, 2)) / np.exp(np.divide(rates, 2)).sum()

    # Means of the epochs: (2, 4), (1, 2), (9, 9)
    np.testing.assert_allclose(weights[4:6], [share((0.5, 0.5))] * 2, rtol=1e-5)
    np.testing.assert_allclose(weights[6], share((9, 4.5)), rtol=1e-5)


def test_stch_takes_the_nadir_of_one_epoch():
    losses = np.array([(5, 5), (5, 7), (1, 3), (3, 5), (2, 8), (2, 4)])
    options = {"steps_per_epoch": 2, "warmup_epochs": 1}
    outcome = run("stch", repeated(ORTHOGONAL, 6), losses[:, None], **options)
    weights = outcome.state.weights[:, 0]
    np.testing.assert_allclose(weights[:4], 1 / losses[:4], rtol=1e-5)
    np.testing.assert_allclose(weights[4], (1 / 3, 1 / 6), rtol=1e-5)  # of (2, 4)
    np.testing.assert_allclose(weights[5], (1 / 2, 1 / 4), rtol=1e-5)


def test_igb_takes_the_base_of_one_epoch():
    losses = np.array([(9, 9), (9, 9), (1, 5), (3, 3), (2, 8)])
    outcome = run("igb", repeated(ORTHOGONAL, 5), losses[:, None], steps_per_epoch=2)
    weights = outcome.state.weights[:, 0]
    np.testing.assert_allclose(weights[:4], 1 / losses[:4], rtol=1e-5)
    np.testing.assert_allclose(weights[4], (0.53788 / 2, 1.46212 / 8), rtol=1e-4)


def test_famo_moves_away_from_the_task_that_gained():
    method = make("famo")
    weights, state = method.update(jnp.array([1.0, 4.0]), method.init(2), None)
    np.testing.assert_allclose(weights, (1.6, 0.4), rtol=1e-5)
    # The gradient is (ln 2 / 4, -ln 2 / 4): Adam's first step is one learning rate.
    state = method.after_update(jnp.array([0.5, 4.0]), state)
    np.testing.assert_allclose(state.logits, (-0.025, 0.025), rtol=1e-4)
    np.testing.assert_allclose(state.opt[1][0].mu, (0.017329, -0.017329), rtol=1e-4)
    weights, _ = method.update(jnp.array([1.0, 1.0]), state, None)
    share = 1 / (1 + np.exp(0.05))
    np.testing.assert_allclose(weights, (2 * share, 2 - 2 * share), rtol=1e-5)


def test_famo_decays_its_logits():
    method = make("famo", weight_decay=10.0)
    state = method.init(2)._replace(logits=jnp.array([0.3, -0.3]))
    _, state = method.update(jnp.ones(2), state, None)
    state = method.after_update(jnp.ones(2), state)  # nothing gained
    np.testing.assert_allclose(state.logits, (0.275, -0.275), rtol=1e-4)


def test_gradnorm_lengthens_the_shorter_gradient():
    rows = repeated([(1, 0), (0, 3)], 2)
    outcome = run("gradnorm", rows, reduction="mean")
    np.testing.assert_allclose(outcome.state.weights[0, 0], (0.5, 0.5))
    # Lengths (1, 3), targets (2, 2), slopes (-1, 3): (1.025, .925), to a sum of 2
    expected = (1.05128 / 2, 0.94872 / 2)
    np.testing.assert_allclose(outcome.state.weights[1, 0], expected, rtol=1e-5)
    summed = run("gradnorm", rows).state.weights[1, 0]
    np.testing.assert_allclose(summed, (1.05128, 0.94872), rtol=1e-5)


def test_gradnorm_favours_the_slower_task():
    rows = repeated([(0.6, 0), (0, 1.4)], 3)
    losses = np.array([(2, 2), (1, 2), (1, 2)])
    weights = run("gradnorm", rows, losses[:, None]).state.weights[:, 0]
    first = np.array([1.015, 0.965]) / 0.99  # targets (1, 1), slopes (-.6, 1.4)
    np.testing.assert_allclose(weights[1], first, rtol=1e-5)
    # The first loss has halved: r = (2/3, 4/3) and r^1.5 = (.54, 1.54), of .99. Between
    # them and r the lengths (.615, 1.365) have slopes (.6, -1.4).
    second = (first + np.array([-0.015, 0.035])) / 1.01
    np.testing.assert_allclose(weights[2], second, rtol=1e-5)


def test_gradnorm_remembers_first_losses_of_the_tasks_that_were_there():
    losses = np.array([(0.5, np.nan), (0.25, 1.0)])
    outcome = run("gradnorm", repeated(np.eye(2), 2), losses[:, None], nonfinite="drop")
    np.testing.assert_allclose(outcome.state.method.first[:, 0, 0], 0.5)


def test_dbmtl_is_its_recursion():
    beta, sigma = 0.9, 0.5
    outcome = run("dbmtl", GRADS, LOSSES, beta=beta, beta_sigma=sigma)
    smooth = np.zeros((T, SIZE))
    for k in range(UPDATES):
        keep = beta / (k + 1) ** sigma
        smooth = keep * smooth + (1 - keep) * GRADS[k, 0] / LOSSES[k, 0][:, None]
        lengths = np.linalg.norm(smooth, axis=1)
        expected = (lengths.max() / lengths) @ smooth
        np.testing.assert_allclose(outcome.direction[k, 0], expected, rtol=2e-4)


def test_moco_is_its_recursion():
    options = {"beta": 0.5, "beta_sigma": 0.5, "gamma": 0.1, "gamma_sigma": 0.3}
    outcome = run("moco", GRADS, rho=0.2, **options)
    tracked, weights = np.zeros((T, SIZE)), np.full(T, 1 / T)
    for k in range(UPDATES):
        step, pace = 0.5 / (k + 1) ** 0.5, 0.1 / (k + 1) ** 0.3
        tracked = tracked - step * (tracked - GRADS[k, 0])
        slope = tracked @ tracked.T @ weights + 0.2 * weights
        weights = on_simplex(weights - pace * slope)
        expected = T * weights @ tracked
        np.testing.assert_allclose(outcome.state.weights[k, 0], T * weights, atol=1e-4)
        np.testing.assert_allclose(outcome.direction[k, 0], expected, atol=1e-4)


def on_simplex(v):
    """Find the nearest point of the simplex, by bisection of the shift."""
    low, high = v.min() - 1, v.max()
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if np.maximum(v - middle, 0).sum() < 1 else (middle, high)
        )
    return np.maximum(v - low, 0)


def test_modo_takes_the_cross_gramian_of_two_batches():
    first, second, rows = GRADS[:3, 0]
    optimizer: Any = smto.lift(make("modo", gamma=0.1, rho=0.3), T)
    state = optimizer.init(jnp.zeros(SIZE))
    update = jit(optimizer.update)
    weights = np.full(T, 1 / T)
    for _ in range(3):
        samples = jnp.float32(first), jnp.float32(second)
        direction, state = update(jnp.float32(rows), state, samples=samples)
        slope = first @ second.T @ weights + 0.3 * weights
        weights = on_simplex(weights - 0.1 * slope)
        np.testing.assert_allclose(state.weights, T * weights, atol=1e-5)
        np.testing.assert_allclose(direction, T * weights @ rows, atol=1e-4)


def test_auto_lambda_follows_what_helps_the_primary_task():
    first, second, rows = GRADS[:3, 0]
    optimizer: Any = smto.lift(make("auto_lambda", learning_rate=0.05, primary=1), T)
    state = optimizer.init(jnp.zeros(SIZE))
    update = jit(optimizer.update)
    weights, m, v = np.full(T, 0.1), np.zeros(T), np.zeros(T)
    samples = jnp.float32(first), jnp.float32(second)
    helps = first @ second[1]
    slope = -helps / np.abs(helps).max()
    for count in range(1, 4):
        direction, state = update(jnp.float32(rows), state, samples=samples)
        np.testing.assert_allclose(state.weights, weights, atol=1e-6)
        np.testing.assert_allclose(direction, weights @ rows, atol=1e-5)
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        step = m / (1 - 0.9**count) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
        weights = np.maximum(weights - 0.05 * step, 0)
    assert len(set(np.sign(helps))) == 2 and not np.allclose(weights, 0.1)


def test_sdmgrad_takes_the_cross_gramian_and_goes_on_from_its_weights():
    # Independent batches of nearly the same gradients, and one elsewhere to be combined
    noise = RNG.normal(size=(2, T, SIZE)) / 10
    first, second, rows = GRADS[0, 0] + noise[0], GRADS[0, 0] + noise[1], GRADS[1, 0]
    options = {"iterations": 5, "learning_rate": 0.5, "momentum": 0.5, "penalty": 0.6}
    optimizer: Any = smto.lift(make("sdmgrad", **options), T)
    state = optimizer.init(jnp.zeros(SIZE))
    update = jit(optimizer.update)
    cross = first @ second.T
    cross = cross / np.abs(cross).sum(axis=1).max()
    w = np.full(T, 1 / T)
    for _ in range(3):
        samples = jnp.float32(first), jnp.float32(second)
        direction, state = update(jnp.float32(rows), state, samples=samples)
        velocity = np.zeros(T)
        for _ in range(5):
            velocity = 0.5 * velocity + cross @ w + 0.6 * cross.mean(axis=1)
            w = on_simplex(w - 0.5 * velocity)
        expected = T * (w + 0.6 / T) / 1.6
        np.testing.assert_allclose(state.weights, expected, atol=1e-4)
        np.testing.assert_allclose(direction, expected @ rows, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "parts"), [("modo", 2), ("auto_lambda", 2), ("sdmgrad", 3)]
)
def test_number_of_batches(name, parts):
    assert make(name).parts == parts


def test_excessmtl_of_constant_gradients_stays_equal():
    weights = run("excessmtl", repeated([(3, 4), (1, 0)], 6)).state.weights
    np.testing.assert_allclose(weights, 1, rtol=1e-5)


def test_excessmtl_favours_the_task_whose_gradient_grew():
    rows = np.array([[(3, 4), (0, 1)], [(3, 4), (0, 2)]])[:, None]
    weights = run("excessmtl", rows).state.weights[:, 0]
    np.testing.assert_allclose(weights[0], 1)
    # Excess risks relative to the first: 1 / sqrt 2 and 4 / sqrt 5
    np.testing.assert_allclose(weights[1], (0.50635, 1.49365), rtol=1e-4)


def test_excessmtl_waits_for_a_first_gradient():
    rows = np.array([[(3, 4), (0, 0)], [(3, 4), (0, 2)], [(3, 4), (0, 2)]])[:, None]
    outcome = run("excessmtl", rows)
    assert np.isfinite(outcome.state.weights).all()
    assert outcome.state.method.base[1, 0, 1] == 2  # of its own first gradient


def test_gradvac_learns_the_cosines_it_meets():
    rows = [(1, 0), (1, 1)]
    cosine = 1 / 2**0.5
    state = run("gradvac", repeated(rows, 3), beta=0.5).state.method[:, 0]
    expected = [[[0, t], [t, 0]] for t in cosine * np.array([0.5, 0.75, 0.875])]
    np.testing.assert_allclose(state, expected, rtol=1e-5, atol=1e-7)


def test_gradvac_lifts_to_the_learned_cosine():
    # Two updates at cosine .8 leave the target .6; then gradients are orthogonal.
    alike, apart = [(1, 0), (0.8, 0.6)], [(1, 0), (0, 2)]
    rows = np.array([alike, alike, apart])[:, None]
    outcome = run("gradvac", rows, beta=0.5)
    np.testing.assert_allclose(outcome.state.method[1, 0, 0, 1], 0.6, rtol=1e-5)
    # p_1 = (1, 3/4) and p_2 = (3/2, 2), at cosine 3/5
    np.testing.assert_allclose(outcome.direction[2, 0, :2], (2.5, 2.75), rtol=1e-4)


@pytest.mark.parametrize(("groups", "members"), [("matrix", 3), ("layer", 2)])
def test_gradvac_of_groups_is_gradvac_of_each(groups, members, key):
    # Two tasks: no order to draw. Leaves of one layer are looked at together.
    grads = {
        "a": {"bias": GRADS[0, 0, :2, :2], "kernel": GRADS[1, 0, :2, :3]},
        "b": {"kernel": GRADS[2, 0, :2, :4]},
    }
    grads = jax.tree.map(jnp.float32, grads)
    optimizer: Any = smto.lift(make("gradvac", groups=groups, beta=0.5), 2)
    state = optimizer.init(jax.tree.map(lambda leaf: leaf[0], grads))
    update = jit(optimizer.update)
    for _ in range(2):
        direction, state = update(grads, state, key=key)
    assert state.method.shape == (members, 2, 2)

    def alone(part):
        rows = np.concatenate(jax.tree.leaves(part), axis=1)
        return run("gradvac", repeated(rows, 2), beta=0.5).direction[1, 0]

    parts = jax.tree.leaves(grads) if groups == "matrix" else list(grads.values())
    leaves = jax.tree.leaves(direction)
    if groups == "layer":
        leaves = [np.concatenate(leaves[:2]), leaves[2]]
    for part, row in zip(parts, leaves, strict=True):
        np.testing.assert_allclose(row, alone(part)[: len(row)], rtol=1e-4, atol=1e-5)


def test_nash_keeps_its_weights_between_bargains():
    kept = run("nash_mtl", GRADS, update_every=3, max_norm=0.0).state.weights[:, 0]
    np.testing.assert_array_equal(kept[0], kept[1])
    np.testing.assert_array_equal(kept[0], kept[2])
    renewed = run("nash_mtl", GRADS, max_norm=0.0).state.weights[:, 0]
    np.testing.assert_allclose(kept[[0, 3, 6]], renewed[[0, 3, 6]], rtol=1e-4)
    assert (np.abs(kept[3] - kept[0]) > 1e-3).any()


def test_cr_mogm_smooths_weights():
    rows = np.array([[(1, 0), (0, 2)], [(2, 0), (0, 1)], [(1, 0), (0, 2)]])[:, None]
    inner = make("mgda", reduction="mean")
    weights = run("cr_mogm", rows, inner=inner, alpha=0.75).state.weights[:, 0, 0]
    # mgda's are .8, .2, .8
    np.testing.assert_allclose(weights, (0.8, 0.65, 0.6875), rtol=1e-5)


def test_cr_mogm_leaves_constant_weights_alone():
    weights = run("cr_mogm", repeated(ORTHOGONAL, 5), inner=make("mgda")).state.weights
    np.testing.assert_allclose(weights[:, 0], [(1.6, 0.4)] * 5, rtol=1e-5)


def test_imtl_learns_scales_and_balances():
    outcome = run("imtl", GRADS[:, :, :2], LOSSES[:, :, :2])
    scales = run("imtl_l", GRADS[:, :, :2], LOSSES[:, :, :2]).state.weights
    balanced = run("imtl_g", GRADS[:, :, :2] * scales[..., None]).state.weights
    np.testing.assert_allclose(outcome.state.weights, scales * balanced, rtol=1e-3)


def adam(grads, **options):
    optimizer: Any = optax.scale_by_adam(**options)
    state, updates = optimizer.init(grads[0]), []
    for grad in grads:
        update, state = optimizer.update(grad, state)
        updates.append(update)
    return np.array(updates)


def test_momentum_config_of_one_task_is_adam():
    grads = np.asarray(GRADS[:, :, :1], np.float32)
    options = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}
    outcome = run("momentum_config", grads, tasks_per_step=1, **options)
    directions = outcome.direction[:, 0]
    np.testing.assert_allclose(directions, adam(grads[:, 0, 0], **options), rtol=1e-3)


def config_of(rows):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    x = np.linalg.pinv(units) @ np.ones(len(rows))
    return max((rows @ x).sum(), 0) * x / (x @ x)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_momentum_config_is_its_recursion(width):
    b1, b2, eps = 0.9, 0.999, 1e-8
    options = {"tasks_per_step": width, "eps": eps}
    directions = run("momentum_config", GRADS, **options).direction[:, 0]
    first, seen = np.zeros((T, SIZE)), np.zeros(T)
    combined, second, updates = np.zeros(SIZE), np.zeros(SIZE), 0
    for k in range(UPDATES):
        turn = (k * width + np.arange(width)) % T
        first[turn] = b1 * first[turn] + (1 - b1) * GRADS[k, 0, turn]
        seen[turn] += 1
        if not seen.all():
            np.testing.assert_array_equal(directions[k], 0)
            continue
        updates += 1
        mean = config_of(first / (1 - b1**seen)[:, None])
        before, combined = combined, mean * (1 - b1**updates)
        second = b2 * second + (1 - b2) * ((combined - b1 * before) / (1 - b1)) ** 2
        expected = mean / (np.sqrt(second / (1 - b2**updates)) + eps)
        np.testing.assert_allclose(directions[k], expected, rtol=1e-2, atol=1e-3)


def test_random_methods_draw_anew_with_every_key():
    for name in ("rlw", "graddrop"):
        directions = run(name, np.broadcast_to(GRADS[0], GRADS.shape)).direction[:, 0]
        assert len(np.unique(directions, axis=0)) == UPDATES
