"""Tasks that share their output layer and have no heads of their own."""

from typing import Any

import jax
import numpy as np
import pytest

from mtl_jax import smto
from mtl_jax.devices.axis_map import sequential
from mtl_jax.smto import strategies
from mtl_jax.storage import checkpoint
from mtl_jax.training.setting import from_dataset
from mtl_jax.training.step import init_state
from mtl_jax.types import ModelState, Params
from tests.tiny import (
    CLASSES,
    MLP,
    RATE,
    SEED,
    TASKS,
    batch,
    by,
    close,
    dataset,
    stepped,
)

SHARED = dataset(one_input=False)._replace(shared_output=True)
ONE: Any = from_dataset("tiny", SHARED, MLP)


def start(chosen):
    return init_state(ONE, chosen, SEED, TASKS)


def test_all_parameters_are_in_the_trunk():
    state = start(by(strategies.by_losses, smto.make("sum")))
    assert not jax.tree.leaves(state.params.heads)
    assert state.params.shared["output"]["kernel"].shape == (6, CLASSES)
    alone: Any = np.array([2])
    single = init_state(ONE, by(strategies.by_losses, smto.make("sum")), SEED, alone)
    close(single.params.shared, state.params.shared, rtol=0, atol=0)


@pytest.mark.parametrize("task_map", [jax.vmap, sequential], ids=["vmap", "seq"])
@pytest.mark.parametrize("make", [strategies.by_losses, strategies.by_jacobian])
def test_a_step_is_that_of_the_plain_sum(make, task_map):
    chosen = by(make, smto.make("sum"), task_map=task_map)
    state, own = start(chosen), batch(ONE)

    def total(shared):
        def loss(x, y):
            z, _ = ONE.represent(shared, {}, x)
            return ONE.head_loss({}, {}, z, y)[0]

        return sum(loss(own.x[t], own.y[t]) for t in range(len(own.x)))

    moved, _ = stepped(ONE, chosen, state, own)
    grads = jax.jit(jax.grad(total))(state.params.shared)
    expected = jax.tree.map(lambda p, g: p - RATE * g, state.params.shared, grads)
    close(moved.params.shared, expected)


@pytest.mark.parametrize("make", [strategies.by_gramian, strategies.by_representation])
def test_gramians_of_it_are_finite(make):
    chosen = by(make, smto.make("pcgrad"))
    state, losses = stepped(ONE, chosen, start(chosen), batch(ONE))
    assert np.isfinite(losses).all() and state.smto.norm > 0


def test_checkpoints_bear_heads_without_parameters(tmp_path):
    state = jax.device_get(start(by(strategies.by_losses, smto.make("sum"))))
    with checkpoint.open_manager(tmp_path, 1, []) as saved:
        checkpoint.save(saved, 3, [state])
        checkpoint.finish(saved)
        found = checkpoint.restore(saved, [state], lambda _: None)
    assert found is not None and found[0] == 3
    close(found[1][0], state, rtol=0, atol=0)


def test_evaluation_is_that_of_the_whole():
    state = start(by(strategies.by_losses, smto.make("sum")))
    own = batch(ONE)
    params = Params(state.params.shared, {})
    outputs = ONE.predict(params, ModelState({}, {}), own.x[0])
    z, _ = ONE.represent(state.params.shared, {}, own.x[0])
    np.testing.assert_allclose(outputs, z, rtol=1e-6)
    assert outputs.shape == (8, CLASSES)
