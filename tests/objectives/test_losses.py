import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mtl_jax.objectives.losses import BERNOULLI, DEPTH, GAUSSIAN, SEGMENTATION, SOFTMAX
from mtl_jax.objectives.losses import OBJECTIVES as BY_NAME
from mtl_jax.types import InputError

B, C, DRAWS = 64, 5, 20_000


def outputs_and_targets(objective):
    rng = np.random.default_rng(0)
    shape = (B, C) if objective is SOFTMAX else (B,)
    outputs = 3 * rng.normal(size=shape).astype(np.float32)
    if objective is GAUSSIAN:
        return outputs, rng.normal(size=B).astype(np.float32)
    return outputs, rng.integers(C if objective is SOFTMAX else 2, size=B, dtype="i4")


def log_likelihood(objective, outputs, targets):
    """Compute it in float64, by the library of distributions."""
    outputs = outputs.astype(np.float64)
    if objective is SOFTMAX:
        p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        return np.log(p[np.arange(len(p)), targets])
    if objective is BERNOULLI:
        return stats.bernoulli.logpmf(targets, 1 / (1 + np.exp(-outputs)))
    return stats.norm.logpdf(targets, outputs) + np.log(2 * np.pi) / 2


OBJECTIVES = pytest.mark.parametrize(
    "objective", [SOFTMAX, BERNOULLI, GAUSSIAN], ids=["softmax", "bernoulli", "gauss"]
)


@OBJECTIVES
def test_loss_is_the_negative_log_likelihood(objective):
    outputs, targets = outputs_and_targets(objective)
    losses = objective.example_loss(outputs, targets)
    chex.assert_shape(losses, (B,))
    chex.assert_type(losses, jnp.float32)
    expected = -log_likelihood(objective, outputs, targets)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("objective", "logits"),
    [(SOFTMAX, [[1e4, -1e4]] * 2), (BERNOULLI, [-2e4] * 2)],
    ids=["softmax", "bernoulli"],
)
def test_losses_of_large_logits_are_exact(objective, logits):
    losses = objective.example_loss(jnp.array(logits), jnp.array([0, 1]))
    np.testing.assert_array_equal(losses, [0, 2e4])


@pytest.mark.parametrize(
    ("objective", "values"),
    [(SOFTMAX, range(C)), (BERNOULLI, range(2))],
    ids=["softmax", "bernoulli"],
)
def test_score_function_has_zero_mean(objective, values):
    outputs, _ = outputs_and_targets(objective)
    mean = np.zeros(outputs.shape)
    for value in values:
        targets = jnp.full(B, value)
        loss, pullback = jax.vjp(
            lambda o, y=targets: objective.example_loss(o, y), jnp.asarray(outputs)
        )
        weights = jnp.exp(-loss)  # the likelihood of this target
        mean += pullback(weights)[0]
    np.testing.assert_allclose(mean, 0, atol=1e-6)


@pytest.mark.parametrize("objective", [SOFTMAX, BERNOULLI], ids=["softmax", "binary"])
def test_sampled_targets_have_the_frequencies_of_the_likelihood(objective, key):
    outputs = outputs_and_targets(objective)[0][:4]
    draws = jax.vmap(objective.sample_targets, (0, None))(
        jax.random.split(key, DRAWS), outputs
    )
    chex.assert_shape(draws, (DRAWS, 4))
    chex.assert_type(draws, int)
    for value in range(C if objective is SOFTMAX else 2):
        p = np.exp(log_likelihood(objective, outputs, np.full(4, value)))
        error = np.sqrt(p * (1 - p) / DRAWS)
        frequency = np.asarray(draws == value).mean(axis=0)
        np.testing.assert_array_less(np.abs(frequency - p), 4 * error + 1e-9)


def test_sampled_gaussian_targets_have_unit_variance(key):
    means = jnp.array([-2.0, 0.0, 5.0])
    draws = jax.vmap(GAUSSIAN.sample_targets, (0, None))(
        jax.random.split(key, DRAWS), means
    )
    sampled = np.asarray(draws, np.float64)
    error = 1 / np.sqrt(DRAWS)
    np.testing.assert_array_less(np.abs(sampled.mean(axis=0) - means), 4 * error)
    np.testing.assert_array_less(
        np.abs(sampled.var(axis=0) - 1), 4 * np.sqrt(2) * error
    )


def expected_score(objective, name, outputs, targets):
    if name == "mse":
        return np.mean((outputs - targets) ** 2)
    predicted = outputs.argmax(axis=1) if objective is SOFTMAX else outputs > 0
    return np.mean(predicted == targets)


@OBJECTIVES
def test_score_from_sums_in_pieces_is_that_of_the_whole(objective):
    outputs, targets = outputs_and_targets(objective)
    for name, score in objective.scores.items():
        sums = jax.tree.map(
            jnp.zeros_like, score.statistics(outputs[0:0], targets[0:0])
        )
        sums = jax.tree.map(lambda leaf: leaf.sum(axis=0), sums)
        for start, stop in ((0, 1), (1, 20), (20, B)):
            piece = score.statistics(outputs[start:stop], targets[start:stop])
            sums = jax.tree.map(lambda s, p: s + p.sum(axis=0), sums, piece)
        value = score.value(sums, jnp.float32(B))
        expected = expected_score(objective, name, outputs, targets)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert score.higher_is_better == (name == "accuracy")


H, W = 6, 5
IMAGES = pytest.mark.parametrize(
    "objective", [SEGMENTATION, DEPTH], ids=["segmentation", "depth"]
)


def images(objective, seed=0):
    """Draw outputs and targets of four images; the last has no valid pixel."""
    rng = np.random.default_rng(seed)
    if objective is SEGMENTATION:
        outputs = 2 * rng.normal(size=(4, H, W, C)).astype(np.float32)
        targets = rng.integers(C - 1, size=(4, H, W))  # the last class is in no label
        hidden = rng.choice([-1, 255], size=(4, H, W))
        outputs[..., C - 1] -= 20  # nor in a prediction
    else:
        outputs = 5 * rng.normal(size=(4, H, W)).astype(np.float32)
        targets = rng.uniform(0.5, 9, size=(4, H, W)).astype(np.float32)
        hidden = rng.choice([0, np.nan, np.inf], size=(4, H, W))
    valid = rng.random(size=(4, H, W)) < 0.6
    valid[3] = False
    return outputs, np.where(valid, targets, hidden).astype(targets.dtype), valid


def pixel_losses(objective, outputs, targets):
    """Compute negative log-likelihoods of valid pixels, in float64."""
    outputs = outputs.astype(np.float64)
    if objective is DEPTH:
        return -stats.laplace.logpdf(targets, outputs) - np.log(2)
    log_p = outputs - np.log(np.exp(outputs).sum(axis=-1, keepdims=True))
    return -log_p[np.arange(len(targets)), targets]


@IMAGES
def test_loss_of_an_image_is_the_mean_of_its_valid_pixels(objective):
    outputs, targets, valid = images(objective)
    losses = objective.example_loss(outputs, targets)
    expected = [
        pixel_losses(objective, outputs[i][valid[i]], targets[i][valid[i]]).mean()
        for i in range(3)
    ]
    np.testing.assert_allclose(losses[:3], expected, rtol=1e-5)
    assert losses[3] == 0
    np.testing.assert_array_equal(
        objective.observations(outputs, targets), valid.sum(axis=(1, 2))
    )


@IMAGES
@pytest.mark.parametrize("hidden", [1e30, np.inf, np.nan])
def test_invalid_pixels_have_no_influence(objective, hidden):
    outputs, targets, valid = images(objective)

    def all_of_it(outputs):
        kept = [score.statistics(outputs, targets) for score in scores]
        return objective.example_loss(outputs, targets), kept

    scores = objective.scores.values()
    moved = np.where(valid.reshape(valid.shape + (1,) * (outputs.ndim - 3)), outputs, 0)
    moved = np.where(moved == 0, np.float32(hidden), moved)
    chex.assert_trees_all_equal(all_of_it(outputs), all_of_it(moved))
    for given in (outputs, moved):
        gradient = jax.grad(lambda o: objective.example_loss(o, targets).sum())(given)
        assert (np.asarray(gradient)[~valid] == 0).all()
        assert np.isfinite(gradient).all() and (np.asarray(gradient)[valid] != 0).any()


@IMAGES
def test_score_at_sampled_pixels_is_that_of_independent_observations(objective, key):
    """Expect no mean, and with ``observations`` the Fisher trace of a mean pixel."""
    outputs, targets, valid = images(objective)
    outputs = outputs / 4  # so that every class is drawn now and then
    count = objective.observations(outputs, targets)

    @jax.jit
    def once(key):
        drawn = objective.sample_targets(key, outputs, targets)
        loss = lambda o: jnp.sqrt(count) @ objective.example_loss(o, drawn)  # noqa: E731
        return jax.grad(loss)(jnp.asarray(outputs)), objective.observations(
            outputs, drawn
        )

    grads, counts = jax.lax.map(once, jax.random.split(key, 4000))
    np.testing.assert_array_equal(counts, np.broadcast_to(count, counts.shape))
    if objective is DEPTH:  # a fair +1 or -1
        scores = np.asarray(grads * jnp.sqrt(count)[None, :, None, None])
        np.testing.assert_allclose(
            np.abs(scores), valid[None] * np.ones_like(scores), rtol=1e-6
        )
        information = valid[..., None].astype(float)
    else:
        p = np.exp(outputs) / np.exp(outputs).sum(axis=-1, keepdims=True)
        information = valid[..., None] * p * (1 - p)
    information = information / np.maximum(count, 1)[:, None, None, None]
    mean = np.asarray(grads.mean(axis=0)).reshape(information.shape)
    np.testing.assert_array_less(np.abs(mean), 5 * np.sqrt(information / 4000) + 1e-6)
    squares = (grads**2).reshape(len(grads), 4, -1).sum(axis=-1)
    error = squares.std(axis=0) / np.sqrt(len(squares))
    expected = information.sum(axis=(1, 2, 3))
    np.testing.assert_array_less(
        np.abs(squares.mean(axis=0) - expected), 4 * error + 1e-5
    )


@IMAGES
def test_without_true_targets_every_pixel_is_drawn(objective, key):
    outputs, _, _ = images(objective)
    drawn = objective.sample_targets(key, outputs)
    assert (objective.observations(outputs, drawn) == H * W).all()


def expected_image_score(name, outputs, targets, valid):
    outputs, targets = outputs[valid], targets[valid]
    if name == "absolute_error":
        return np.abs(outputs - targets).mean()
    if name == "relative_error":
        return (np.abs(outputs - targets) / targets).mean()
    predicted = outputs.argmax(axis=-1)
    if name == "pixel_accuracy":
        return (predicted == targets).mean()
    ious = []
    for c in range(C - 1):  # the last class is nowhere
        both = ((predicted == c) & (targets == c)).sum()
        ious.append(both / ((predicted == c) | (targets == c)).sum())
    return np.mean(ious)


@IMAGES
def test_image_scores_from_sums_in_pieces_are_those_of_all_valid_pixels(objective):
    outputs, targets, valid = images(objective)
    for name, score in objective.scores.items():
        pieces = [
            score.statistics(outputs[a:b], targets[a:b]) for a, b in ((0, 1), (1, 4))
        ]
        # As the host does it: in float64, with a leading axis of tasks.
        sums = jax.tree.map(
            lambda *parts: np.concatenate(parts).astype(np.float64).sum(axis=0)[None],
            *pieces,
        )
        value = score.value(sums, np.array([4.0]))
        expected = expected_image_score(name, outputs, targets, valid)
        np.testing.assert_allclose(value, [expected], rtol=1e-5)
        assert score.higher_is_better == (objective is SEGMENTATION)
        empty = score.statistics(outputs[3:], targets[3:])
        assert score.value(jax.tree.map(lambda s: s.sum(axis=0), empty), 1.0) == 0


def test_integer_targets_of_eight_bits_are_understood():
    """Take them as files have them: 255 is no class, a disparity of 0 no depth."""
    labels = jnp.array([[0, 1, 255]], jnp.uint8)
    losses = SEGMENTATION.example_loss(jnp.zeros((1, 3, 2)), labels)
    np.testing.assert_allclose(losses, np.log(2), rtol=1e-6)
    depths = DEPTH.example_loss(
        jnp.full((1, 3), 2.0), jnp.array([[0, 1, 5]], jnp.uint8)
    )
    np.testing.assert_allclose(depths, 2.0)


OTHERS = pytest.mark.parametrize(
    ("name", "other"),
    [
        *(("softmax_matthews", other) for other in (-1, C, 1.5, np.nan, np.inf)),
        *(("softmax_f1", other) for other in (-1, C)),
        *(("bernoulli", other) for other in (-1, 2, 0.5, np.nan)),
        *(("gaussian_correlation", other) for other in (np.nan, np.inf)),
    ],
)
"""Numbers that are no target of a likelihood, by the name of its objective."""


@OTHERS
def test_a_target_that_is_none_makes_loss_gradient_and_scores_nan(name, other):
    """Trace it: it cannot be refused, and is not taken for another target either."""
    objective = BY_NAME[name]
    outputs = jnp.zeros((3, C) if name.startswith("softmax") else 3)
    targets = jnp.array([0, other, 1], jnp.float32)

    @jax.jit
    def all_of_it(outputs, targets):
        losses, pullback = jax.vjp(
            lambda o: objective.example_loss(o, targets), outputs
        )
        scores = {
            k: s.statistics(outputs, targets) for k, s in objective.scores.items()
        }
        return losses, pullback(jnp.ones_like(losses))[0], scores

    losses, gradient, scores = jax.device_get(all_of_it(outputs, targets))
    known = jax.device_get(all_of_it(outputs, targets.at[1].set(0)))
    for actual, expected in ((losses, known[0]), (gradient, known[1])):
        assert np.isnan(actual[1]).all()
        np.testing.assert_array_equal(actual[[0, 2]], expected[[0, 2]])
    for key, score in objective.scores.items():
        statistics = scores[key]
        if not score.of_examples:
            statistics = jax.tree.map(lambda leaf: leaf.sum(axis=0), statistics)
        assert not np.isfinite(score.value(statistics, 3)), key


@OTHERS
@pytest.mark.parametrize("where", ["outside of jit", "within"])
def test_a_target_that_is_none_is_refused_where_it_can_be_read(name, other, where):
    objective = BY_NAME[name]
    outputs = jnp.zeros((3, C) if name.startswith("softmax") else 3)
    targets = np.array([0, other, other], np.float32)
    loss = lambda o: objective.example_loss(o, targets)  # noqa: E731
    with pytest.raises(
        InputError, match=rf"holds {float(other)} \(2 of 3 .*targets are"
    ):
        (jax.jit(loss) if where == "within" else loss)(outputs)


def test_a_pixel_without_a_number_for_a_class_is_left_out():
    labels = jnp.array([[0, np.nan, 1.5, np.inf, 1]])
    outputs = jnp.zeros((1, 5, 3)).at[0, 1:4].set(jnp.array([9.0, -9, 0]))
    losses = SEGMENTATION.example_loss(outputs, labels)
    np.testing.assert_allclose(losses, np.log(3), rtol=1e-6)
    assert SEGMENTATION.observations is not None
    assert SEGMENTATION.observations(outputs, labels) == 2


def test_draws_of_a_key_are_those_of_float32_for_outputs_of_every_type(key):
    for objective in (SOFTMAX, BERNOULLI, GAUSSIAN, SEGMENTATION, DEPTH):
        shape = (B, 1) if objective.is_scalar else (B, 1, C)
        outputs = np.random.default_rng(0).integers(-8, 8, size=shape) / 4
        expected = objective.sample_targets(key, jnp.asarray(outputs, jnp.float32))
        for x64, kind in ((False, jnp.bfloat16), (True, jnp.float64)):
            with jax.enable_x64(x64):
                drawn = objective.sample_targets(key, jnp.asarray(outputs, kind))
            np.testing.assert_allclose(drawn, expected, rtol=1e-6)
