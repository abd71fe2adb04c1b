from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import metrics
from mtl_jax.devices.axis_map import sequential
from mtl_jax.objectives.losses import (
    BERNOULLI,
    DEPTH,
    OBJECTIVES,
    SEGMENTATION,
    SOFTMAX,
)
from mtl_jax.objectives.mixed import MixedTargets, of_head, of_kinds
from mtl_jax.training.setting import from_dataset
from mtl_jax.training.step import init_state
from mtl_jax.types import InputError
from tests.tiny import CLASSES, MLP, SEED, TASKS, T, batch, dataset, method, stepped

B, W, SIDE = 6, 4, 3
KINDS = [of_head(SOFTMAX, 3), of_head(BERNOULLI, 1), of_head(SOFTMAX, 2)]
ALONE = [(SOFTMAX, slice(3)), (BERNOULLI, 0), (SOFTMAX, slice(2))]
OUTPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(B, W)), jnp.float32)
LABELS = jnp.array([0, 1, 1, 0, 1, 0], jnp.float32)
NONE: Any = None
MAPS = pytest.mark.parametrize("task_map", [jax.vmap, sequential], ids=["vmap", "seq"])


def targets(kind, value=LABELS):
    return MixedTargets(jnp.full(len(value), kind, jnp.int32), value)


@MAPS
def test_a_target_of_one_kind_that_is_none_of_another_harms_no_gradient(task_map):
    """Map kinds together: all are computed of all targets, and 0 times NaN is NaN."""
    names, widths = ("softmax", "bernoulli", "gaussian"), (W, 1, 1)
    kinds = [of_head(OBJECTIVES[n], w) for n, w in zip(names, widths, strict=True)]
    values = jnp.stack([3 * LABELS, LABELS, LABELS - 2.5])
    both = MixedTargets(jnp.repeat(jnp.arange(3)[:, None], B, axis=1), values)
    outputs = jnp.stack([OUTPUTS] * 3)
    losses = task_map(of_kinds(kinds).example_loss, (0, 0))
    slopes = jax.grad(lambda o: losses(o, both).sum())(outputs)
    for kind, objective in enumerate(kinds):
        loss = lambda o, k=kind, judge=objective: judge.example_loss(o, values[k]).sum()  # noqa: E731
        np.testing.assert_allclose(slopes[kind], jax.grad(loss)(OUTPUTS), rtol=1e-6)


@pytest.mark.parametrize("kind", range(3))
def test_a_kind_is_judged_as_if_it_were_alone(kind):
    objective, outputs_of_kind = ALONE[kind]
    joint = of_kinds(KINDS)
    narrow, labels = OUTPUTS[:, outputs_of_kind], LABELS.astype(jnp.int32)
    np.testing.assert_array_equal(
        joint.example_loss(OUTPUTS, targets(kind)),
        objective.example_loss(narrow, labels),
    )
    np.testing.assert_array_equal(
        joint.scores["accuracy"].statistics(OUTPUTS, targets(kind)),
        objective.scores["accuracy"].statistics(narrow, labels),
    )
    key = jax.random.key(3)
    drawn = joint.sample_targets(key, OUTPUTS, targets(kind))
    assert drawn.value.dtype == LABELS.dtype
    np.testing.assert_array_equal(drawn.kind, kind)
    np.testing.assert_array_equal(drawn.value, objective.sample_targets(key, narrow))
    assert joint.observations is not None
    np.testing.assert_array_equal(joint.observations(OUTPUTS, targets(kind)), 1)


def test_a_head_knows_targets_of_its_own_width():
    known = of_head(SOFTMAX, 3).targets
    assert known is not None
    assert known.knows(OUTPUTS, jnp.array([2, 3])).tolist() == [True, False]  # of W


@MAPS
def test_scores_of_kinds_of_unlike_width_are_those_of_the_kinds_alone(task_map):
    """Mix 2 classes, 3 classes and a number, with sums and with all examples."""
    names = ("softmax_matthews", "softmax_matthews", "gaussian_correlation")
    widths, rng = (2, 3, 1), np.random.default_rng(4)
    outputs = jnp.asarray(rng.normal(size=(3, B, W)), jnp.float32)
    values = jnp.asarray(rng.integers(2, size=(3, B)), jnp.float32)
    kinds = [of_head(OBJECTIVES[n], w) for n, w in zip(names, widths, strict=True)]
    both = MixedTargets(jnp.repeat(jnp.arange(3)[:, None], B, axis=1), values)
    scores = of_kinds(kinds).scores
    assert set(scores) == {"matthews", "accuracy", "pearson", "spearman", "mse"}

    def value(score, statistics):
        if not score.of_examples:
            statistics = jax.tree.map(lambda leaf: leaf.sum(axis=0), statistics)
        return score.value(jax.device_get(statistics), B)

    for name, score in scores.items():
        per_kind = task_map(score.statistics, (0, 0))(outputs, both)
        for kind, objective in enumerate(kinds):
            here = jax.tree.map(lambda leaf, k=kind: leaf[k], per_kind)
            if name not in objective.scores:
                assert all((leaf == 0).all() for leaf in jax.tree.leaves(here))
                continue
            alone = objective.scores[name]
            wanted = value(alone, alone.statistics(outputs[kind], values[kind]))
            np.testing.assert_allclose(value(score, here), wanted, rtol=1e-6)


def test_a_score_means_the_same_in_all_kinds():
    unlike = {"accuracy": OBJECTIVES["gaussian"].scores["mse"]}
    kinds = [OBJECTIVES["softmax"], OBJECTIVES["gaussian"]._replace(scores=unlike)]
    message = "'accuracy' is declared as .*1.*%.* and as .*-1.*another name"
    with pytest.raises(InputError, match=message):
        of_kinds([of_head(kind, W) for kind in kinds])


def test_outputs_of_other_kinds_have_no_influence():
    def loss(outputs, kind):
        return of_kinds(KINDS).example_loss(outputs, targets(kind)).mean()

    for kind, width in enumerate((3, 1, 2)):
        slope = jax.grad(loss)(OUTPUTS, kind)
        assert (slope[:, :width] != 0).all() and (slope[:, width:] == 0).all()


def pixels():
    rng = np.random.default_rng(1)
    outputs = jnp.asarray(rng.normal(size=(2, B, SIDE, SIDE, W)), jnp.float32)
    labels = rng.integers(-1, W, size=(B, SIDE, SIDE))
    depths = np.where(rng.random((B, SIDE, SIDE)) < 0.3, 0, rng.random((B, SIDE, SIDE)))
    return outputs, jnp.asarray(np.stack([labels, depths]), jnp.float32)


@MAPS
def test_pixels_of_two_kinds_side_by_side(task_map):
    outputs, values = pixels()
    joint = of_kinds([of_head(SEGMENTATION, W), of_head(DEPTH, 1)])
    both = MixedTargets(jnp.repeat(jnp.arange(2)[:, None], B, axis=1), values)
    losses = task_map(joint.example_loss, (0, 0))(outputs, both)
    depths = DEPTH.example_loss(outputs[1, ..., 0], values[1])
    labels = SEGMENTATION.example_loss(outputs[0], values[0])
    np.testing.assert_allclose(losses, [labels, depths], rtol=1e-6)
    assert set(joint.scores) == {*SEGMENTATION.scores, *DEPTH.scores}
    for kind, objective in enumerate((SEGMENTATION, DEPTH)):
        for name, score in joint.scores.items():
            sums = task_map(score.statistics, (0, 0))(outputs, both)
            here = jax.tree.map(lambda leaf, k=kind: leaf[k].sum(axis=0), sums)
            if name not in objective.scores:
                assert all((leaf == 0).all() for leaf in jax.tree.leaves(here))
                continue
            alone = outputs[kind, ..., 0] if objective.is_scalar else outputs[kind]
            wanted = objective.scores[name].statistics(alone, values[kind])
            wanted = jax.tree.map(lambda leaf: leaf.sum(axis=0), wanted)
            value = objective.scores[name].value
            np.testing.assert_allclose(
                value(here, NONE), value(wanted, NONE), rtol=1e-6
            )
    seen = task_map(joint.observations, (0, 0))(outputs, both)
    np.testing.assert_array_equal(seen[1], (values[1] != 0).sum(axis=(1, 2)))


def test_fisher_trace_of_a_kind_is_that_of_the_task_alone():
    objective, outputs_of_kind = ALONE[1]
    x = jnp.asarray(np.random.default_rng(2).normal(size=(B, W)), jnp.float32)
    params, key = jnp.eye(W), jax.random.key(0)

    def trace(objective, predict, targets):
        return metrics.fisher_trace(
            predict, objective, params, x, key=key, targets=targets, batch_size=2
        ).value

    joint = trace(of_kinds(KINDS), lambda p, x: x @ p, targets(1))
    wanted = trace(objective, lambda p, x: (x @ p)[:, outputs_of_kind], LABELS)
    np.testing.assert_allclose(joint, wanted, rtol=1e-6)


def mixed():
    """Make the tiny setting with a task of 4, one of 2 classes, and a binary one."""
    data = dataset(one_input=True)
    y = np.stack([data.y[:, 0], data.y[:, 1] % 2, data.y[:, 2] % 2], axis=1)
    objectives = ("softmax", "softmax", "bernoulli")
    data = data._replace(y=y, objectives=objectives, widths=(CLASSES, 2, 1))
    return from_dataset("mixed", data, MLP)


@MAPS
def test_unlike_tasks_train_side_by_side_and_alone(task_map):
    setting, chosen = mixed(), method(lifted=True, task_map=task_map)
    np.testing.assert_array_equal(setting.kinds, range(3))
    state = init_state(setting, chosen, SEED, TASKS)
    examples = batch(setting)
    after, losses = stepped(setting, chosen, state, examples)
    for t in range(T):
        alone = init_state(setting, chosen, SEED, TASKS[t : t + 1])
        part = examples._replace(
            y=jax.tree.map(lambda leaf, t=t: leaf[t : t + 1], examples.y)
        )
        moved, loss = stepped(setting, chosen, alone, part)
        np.testing.assert_allclose(loss[0], losses[t], rtol=1e-6)
        heads = jax.tree.map(lambda leaf, t=t: leaf[t], after.params.heads)
        only = jax.tree.map(lambda leaf: leaf[0], moved.params.heads)
        chex.assert_trees_all_close(only, heads, rtol=1e-5, atol=1e-6)
    # A binary task's head moves by its first output only.
    before = state.params.heads["kernel"][2]
    step = np.asarray(after.params.heads["kernel"][2] - before)
    assert step[:, 0].any() and not step[:, 1:].any()
