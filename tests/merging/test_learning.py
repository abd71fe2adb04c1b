"""Learned coefficients against loops and first steps written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import ONE_INPUT, Batch, InputError, Params, merging
from mtl_jax.merging import Variables, learn
from mtl_jax.objectives.losses import BERNOULLI, DEPTH, GAUSSIAN, SEGMENTATION, SOFTMAX
from tests.merging import net

ALL = [SOFTMAX] * net.TASKS


def entropy_slope(logits):
    """Return the gradient of the mean entropy with respect to logits."""
    chances = net.softmax(logits)
    logs = np.log(chances)
    entropy = -(chances * logs).sum(axis=1, keepdims=True)
    return -chances * (logs + entropy) / len(logits), entropy.mean()


@pytest.mark.parametrize("layer_wise", [True, False], ids=["layer-wise", "task-wise"])
def test_adamerging_is_a_loop_in_numpy(layer_wise):
    corners, steps, rate = net.corners(), 60, 0.05
    x = net.inputs(steps, net.TASKS, 8)
    learned = jax.jit(
        lambda c, x: merging.adamerging(
            c, net.predict, ALL, x, layer_wise=layer_wise, learning_rate=rate
        )
    )(corners, x)
    exact, x = net.float64(corners), np.asarray(x, np.float64)
    names = list(exact.start)
    raw = {name: np.full(net.TASKS, 0.3) for name in names}
    adams = {name: net.Adam(rate) for name in names}
    for step in range(steps):
        used = {name: np.clip(raw[name], 0, 1) for name in names}
        trunk, total = net.point(exact, used), 0
        slopes = np.zeros((len(names), net.TASKS))
        for task in range(net.TASKS):
            z, logits = net.forward(trunk, exact.heads[task], x[step, task])
            towards, loss = entropy_slope(logits)
            inward, _ = net.backward(
                trunk, exact.heads[task], x[step, task], z, towards
            )
            slope = net.slopes(exact, inward)
            slopes += np.array([slope[name] for name in names])
            total += loss
        np.testing.assert_allclose(learned.losses[step], total, rtol=2e-5)
        if not layer_wise:
            slopes = np.tile(slopes.sum(axis=0), (len(names), 1))
        for name, slope in zip(names, slopes, strict=True):
            free = (raw[name] >= 0) & (raw[name] <= 1)
            raw[name] = raw[name] + adams[name].step(slope * free)
            path = learned.path[name] if layer_wise else learned.path
            expected = np.clip(raw[name], 0, 1)
            np.testing.assert_allclose(path[step], expected, atol=2e-5)
    values = np.concatenate(list(raw.values()))
    assert (values < 0).any() or (values > 1).any()  # or the clamp was not looked at


def test_adamerging_plus_takes_consistent_vectors_and_leaves_heads():
    corners = net.corners()
    plus = corners._replace(vectors=merging.consistent(corners.vectors))
    x = net.inputs(3, net.TASKS, 8)
    learned = merging.adamerging(plus, net.predict, ALL, x)
    assert learned.params.heads is corners.heads
    expected = merging.compose(plus.start, plus.vectors, learned.coefficients)
    np.testing.assert_array_equal(learned.params.shared["w"], expected["w"])
    trimmed = (plus.vectors["w"] == 0).all(axis=0)
    assert trimmed.any()
    moved = np.asarray(learned.params.shared["w"] - corners.start["w"])
    assert (moved[trimmed] == 0).all()


def test_entropy_has_a_gradient_where_probabilities_are_zero():
    logits = jnp.array([[0.0, 500.0, -500.0], [0.0, 1.0, 0.0]])
    gradient = jax.grad(lambda z: merging.entropy(SOFTMAX, z))(logits)
    towards, value = entropy_slope(np.asarray(logits[1:], np.float64))
    np.testing.assert_allclose(gradient, [[0] * 3, towards[0] / 2], atol=1e-6)
    entropy = merging.entropy(SOFTMAX, logits)
    np.testing.assert_allclose(entropy, value / 2, rtol=1e-5)
    both = jnp.stack([jnp.zeros(5), jnp.linspace(-2, 2, 5)], axis=1)
    np.testing.assert_allclose(
        merging.entropy(BERNOULLI, both[:, 1]),
        merging.entropy(SOFTMAX, both),
        rtol=1e-5,
    )


def test_what_has_no_entropy_or_class_is_refused():
    corners, x = net.corners(), net.inputs(2, net.TASKS, 8)
    for objective in (GAUSSIAN, DEPTH, SEGMENTATION):
        objectives = [SOFTMAX, objective, SOFTMAX]
        with pytest.raises(InputError, match=r"task 1 .*no entropy"):
            merging.adamerging(corners, net.predict, objectives, x)
        with pytest.raises(InputError, match=r"task 1 .*no class"):
            batches = jnp.zeros(2, int), x[:, 0]
            merging.tint(corners, net.predict, objectives, batches, teacher_of(corners))


def test_objectives_of_several_kinds():
    kinds = merging.of_heads(["softmax", "bernoulli", "softmax"], [3, 1, 3])
    corners, x = net.corners(), net.inputs(net.TASKS, 8)
    params = Params(corners.start, corners.heads)
    total = merging.of_all(merging.unsupervised(net.predict, kinds), 3)(params, x)
    outputs = [
        net.predict(Params(corners.start, corners.heads[t]), t, x[t]) for t in range(3)
    ]
    expected = (
        merging.entropy(SOFTMAX, outputs[0])
        + merging.entropy(BERNOULLI, outputs[1][:, 0])
        + merging.entropy(SOFTMAX, outputs[2])
    )
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def regression(params, task, x):
    del task
    return (x @ params.shared["w"]).sum(axis=-1) * params.heads.sum()


@pytest.mark.parametrize("norm", [None, 1, 2])
def test_first_steps_of_atlas(norm):
    # Gradients of unlike length: the first is clipped, later ones are not.
    corners, steps = net.corners(), 4
    corners = corners._replace(heads=corners.heads / 4)
    x = net.inputs(steps, net.TASKS, 8) * jnp.array([9.0, 0.1, 0.1, 3.0]).reshape(
        -1, 1, 1, 1
    )
    y = net.inputs(steps, net.TASKS, 8, seed=3)[..., 0]
    objectives = [GAUSSIAN] * net.TASKS
    learned = merging.atlas(
        corners, regression, objectives, Batch(x, y), learning_rate=0.02, norm=norm
    )
    exact, x, y = net.float64((corners, x, y))
    raw = {name: np.zeros(net.TASKS) for name in exact.start}
    adams = {name: net.Adam(0.02) for name in raw}
    clipped = []
    for step in range(steps):
        trunk = net.point(exact, raw)
        gradient = {name: np.zeros_like(leaf) for name, leaf in trunk.items()}
        for task in range(net.TASKS):
            inputs, scale = x[step, task], exact.heads[task].sum()
            errors = (inputs @ trunk["w"]).sum(axis=1) * scale - y[step, task]
            column = inputs.T @ errors * scale / len(errors)
            gradient["w"] += np.tile(column[:, None], (1, net.HIDDEN))
        slopes = net.slopes(exact, gradient)
        for name, c in raw.items():  # of the mean over two tensors of half the norm
            size = np.linalg.norm(c)
            if norm == 1:
                slopes[name] = slopes[name] + np.sign(c) / 4
            elif norm == 2 and size:
                slopes[name] = slopes[name] + c / size / 4
        length = np.sqrt(sum((slope**2).sum() for slope in slopes.values()))
        clipped.append(length > 1)
        for name, slope in slopes.items():
            moved = adams[name].step(slope / max(length, 1))
            raw[name] = raw[name] + moved - 0.02 * 0.1 * raw[name]
            np.testing.assert_allclose(
                learned.path[name][step], raw[name], rtol=1e-4, atol=1e-6
            )
    assert clipped[0] and not all(clipped)


def test_penalty_at_zero_has_no_gradient():
    for norm in (1, 2):
        gradient = jax.grad(merging.mean_norm(norm))({"w": jnp.zeros(3)})
        assert gradient["w"].tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="norm 3 is not one of"):
        merging.atlas(net.corners(), regression, ALL, Batch(0, 0), norm=3)


def test_one_input_is_that_input_for_all():
    corners, x = net.corners(), net.inputs(2, 8)
    y = jnp.arange(2 * net.TASKS * 8).reshape(2, net.TASKS, 8) % net.CLASSES
    shared = merging.atlas(corners, net.predict, ALL, Batch(x, y), axes=ONE_INPUT)
    repeated = jnp.broadcast_to(x[:, None], (2, net.TASKS, *x.shape[1:]))
    apart = merging.atlas(corners, net.predict, ALL, Batch(repeated, y))
    np.testing.assert_allclose(shared.losses, apart.losses, rtol=1e-6)
    np.testing.assert_allclose(shared.path["w"], apart.path["w"], atol=1e-6)


def teacher_of(corners):
    return lambda task, x: net.alone(corners, task, x)


@pytest.mark.parametrize("confident", [False, True], ids=["tint", "tint++"])
def test_first_steps_of_tint(confident):
    corners, rate, tasks = net.corners(), 0.01, [2, 0, 2]
    x = net.inputs(len(tasks), 32)
    learned = merging.tint(
        corners,
        net.predict,
        ALL,
        (jnp.array(tasks), x),
        teacher_of(corners),
        confident=confident,
    )
    exact, x = net.float64((corners, x))
    raw = {name: np.full(net.TASKS, 0.3) for name in exact.start}
    heads = exact.heads.copy()
    adams = {name: net.Adam(rate) for name in raw}
    of_heads = [net.Adam(rate) for _ in range(net.TASKS)]
    left_out = 0
    for step, task in enumerate(tasks):
        trunk = net.point(exact, raw)
        alone = {name: exact.start[name] + exact.vectors[name][task] for name in raw}
        theirs = net.softmax(net.forward(alone, exact.heads[task], x[step])[1])
        z, logits = net.forward(trunk, heads[task], x[step])
        ours, labels = net.softmax(logits), theirs.argmax(axis=1)
        kept = np.ones(len(labels), bool)
        if confident:
            kept = ours.argmax(axis=1) == labels
            kept |= theirs.max(axis=1) >= ours.max(axis=1)
        left_out += (~kept).sum()
        picked = ours[np.arange(len(labels)), labels][kept]
        np.testing.assert_allclose(
            learned.losses[step], -np.log(picked).mean(), rtol=1e-5
        )
        towards = (ours - np.eye(net.CLASSES)[labels]) * kept[:, None] / kept.sum()
        inward, of_head = net.backward(trunk, heads[task], x[step], z, towards)
        heads[task] += of_heads[task].step(of_head)
        for name, slope in net.slopes(exact, inward).items():
            raw[name] = raw[name] + adams[name].step(slope)
            np.testing.assert_allclose(learned.path[name][step], raw[name], atol=1e-5)
    np.testing.assert_allclose(learned.params.heads, heads, atol=1e-5)
    np.testing.assert_array_equal(learned.params.heads[1], corners.heads[1])
    assert (left_out > 0) == confident


def test_nothing_kept_is_no_loss():
    outputs, taught = jnp.array([[9.0, 0.0]]), jnp.array([[0.0, 0.1]])

    def loss(outputs):
        return merging.pseudo_label_loss(SOFTMAX, outputs, taught, confident=True)

    value, gradient = jax.value_and_grad(loss)(outputs)
    assert value == 0 and gradient.tolist() == [[0, 0]]


@pytest.mark.parametrize("clamp", [merging.unit_interval, lambda c: c])
def test_seeds_side_by_side_are_seeds_one_after_another(clamp):
    seeds = [net.corners(seed) for seed in range(3)]
    x = net.inputs(3, 20, net.TASKS, 8)

    def learned(corners, x):
        loss = merging.of_all(merging.unsupervised(net.predict, ALL), net.TASKS)
        return learn(
            corners,
            loss,
            merging.per_layer(corners.vectors, 0.3),
            x,
            optimizer=optax.adam(0.1),
            clamp=clamp,
            train_heads=True,
        )

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seeds)
    together = jax.jit(jax.vmap(learned))(stacked, x)
    alone = jax.jit(learned)
    for s, corners in enumerate(seeds):
        jax.tree.map(
            lambda a, b, s=s: np.testing.assert_allclose(a[s], b, rtol=1e-4, atol=1e-5),
            together,
            alone(corners, x[s]),
        )


def test_what_is_moved_is_not_clamped_and_a_bound_lets_go():
    corners = merging.Corners(jnp.zeros(1), jnp.ones((1, 1)))

    def loss(params, goal):
        return ((params.shared - goal) ** 2).sum()

    goals = jnp.array([5.0, 0.25])
    learned = learn(
        corners, loss, jnp.zeros(1), goals, optimizer=optax.sgd(0.09),
        clamp=merging.unit_interval,
    )  # fmt: skip
    # From the bound 0 to 0.9, then by 2 (0.9 - 0.25) 0.09.
    np.testing.assert_allclose(learned.path[:, 0], [0.9, 0.783], rtol=1e-6)
    beyond = learn(
        corners, loss, jnp.full(1, 1.2), goals, optimizer=optax.sgd(0.09),
        clamp=merging.unit_interval,
    )  # fmt: skip
    assert beyond.path.tolist() == [[1], [1]]
    assert beyond.losses.tolist() == [16, 0.5625]


def test_masks_are_of_variables():
    corners, x = net.corners(), net.inputs(2, net.TASKS, 8)
    optimizer = optax.partition(
        {"move": optax.sgd(0.1), "stay": optax.set_to_zero()},
        Variables("stay", "move"),
    )
    learned = learn(
        corners,
        merging.of_all(merging.unsupervised(net.predict, ALL), net.TASKS),
        merging.per_task(corners.vectors, 0.3),
        x,
        optimizer=optimizer,
        train_heads=True,
    )
    np.testing.assert_array_equal(learned.coefficients, jnp.full(3, 0.3))
    assert (learned.params.heads != corners.heads).any()


def test_rows_have_optimizers_of_their_own():
    rng = np.random.default_rng(0)
    grads = jnp.asarray(rng.normal(size=(6, 2, 3)), jnp.float32)
    visited = np.array([[1, 0], [1, 1], [0, 1], [1, 0], [0, 0], [0, 1]], bool)
    rows, optimizer = jnp.ones((2, 3)), merging.by_row(optax.adam(0.1))
    state = optimizer.init(rows)
    for gradient, there in zip(grads, visited, strict=True):
        updates, state = optimizer.update(
            jnp.where(there[:, None], gradient, 0), state, rows
        )
        rows: jax.Array = optax.apply_updates(rows, updates)  # type: ignore[assignment]
    for t in range(2):
        row, adam = np.ones(3), net.Adam(0.1)
        for gradient in np.asarray(grads, np.float64)[visited[:, t], t]:
            row = row + adam.step(gradient)
        np.testing.assert_allclose(rows[t], row, rtol=1e-5)


def test_batches_of_unlike_steps():
    corners, x = net.corners(), net.inputs(2, net.TASKS, 8)
    for batches in (Batch(x, x[:1, ..., 0]), Batch(x, jnp.zeros(())), Batch((), ())):
        with pytest.raises(InputError, match="one entry for each of S steps"):
            merging.atlas(corners, net.predict, ALL, batches)
