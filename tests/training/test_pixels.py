"""One image, a label and a depth for every pixel: a head with statistics for each."""

from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy

from mtl_jax import models
from mtl_jax.data import Dataset
from mtl_jax.devices.axis_map import sequential
from mtl_jax.models.residual import MOMENTUM
from mtl_jax.training.setting import from_dataset
from mtl_jax.training.step import data_pool, init_state, take, train_step
from mtl_jax.types import Batch, InputError, ModelState, Params
from tests.tiny import RATE, SEED, method, train_loss

N, SIDE, CLASSES = 4, 16, 3
TASKS: Any = np.arange(2)
ROWS: Any = np.arange(N)
OPTIONS = {"widths": (2, 2, 2, 2), "channels": 4, "rates": (1, 2, 3)}


def dataset():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, CLASSES, size=(N, SIDE, SIDE))
    depths = rng.uniform(0.1, 1, size=(N, SIDE, SIDE))
    return Dataset(
        tasks=("segmentation", "depth"),
        x=rng.integers(256, size=(N, SIDE, SIDE, 3)).astype(np.uint8),
        y=np.stack([labels, depths], axis=1).astype(np.float32),
        rows={"train": (np.arange(N, dtype=np.int32),) * 2},
        objectives=("segmentation", "depth"),
        widths=(CLASSES, 1),
        provenance={},
        one_input=True,
    )


def setting(weights="", **options) -> Any:
    trunk = models.make("deeplab", **OPTIONS, **options)
    return from_dataset("pixels", dataset(), trunk, weights=weights)


def initial(one, *seeds):
    """A state for every seed."""
    chosen = method(lifted=False)
    init = jax.jit(lambda seed: init_state(one, chosen, seed, TASKS, one.start))
    return [init(seed) for seed in seeds]


def stepped(one, task_map=jax.vmap):
    """State before and after a step, the batch, and the losses."""
    chosen = method(lifted=False, task_map=task_map)
    (before,) = initial(one, SEED)
    batch = take(one, data_pool(one), ROWS, TASKS)
    step = jax.jit(lambda s, b: train_step(one, chosen, s, b, RATE))
    return before, *step(before, batch), batch


def of_task(tree, t):
    return jax.tree.map(lambda leaf: leaf[t], tree)


@pytest.fixture(scope="module")
def one_step():
    one = setting()
    return one, *stepped(one)


def test_statistics_of_heads_move_task_by_task(one_step):
    one, before, after, losses, batch = one_step
    loss = jax.jit(lambda *args: train_loss(one, *args))
    for t in TASKS:
        params = Params(before.params.shared, of_task(before.params.heads, t))
        state = ModelState(
            before.model_state.trunk, of_task(before.model_state.heads, t)
        )
        own = Batch(batch.x, of_task(batch.y, t))
        value, wanted = loss(params, state, own)
        np.testing.assert_allclose(losses[t], value, rtol=1e-5)
        found = of_task(after.model_state.heads, t)
        for a, b, old in zip(
            *map(jax.tree.leaves, (found, wanted.heads, state.heads)), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
            assert (a != old).any()
    # Heads start unlike each other, so what their layers see differs.
    means = after.model_state.heads["batch_stats"]["ConvNorm_0"]["norm"]["mean"]
    assert (means[0] != means[1]).any()
    first = after.model_state.trunk["batch_stats"]["ConvNorm_0"]["norm"]["mean"]
    assert first.shape == (2,)  # one set for one input


def test_statistics_of_a_layer_are_those_of_its_inputs(one_step):
    """The head's first layer, a 1x1 convolution, by hand."""
    one, before, after, _, batch = one_step
    represent = jax.jit(one.represent)
    z, _ = represent(before.params.shared, before.model_state.trunk, batch.x)
    for t in TASKS:
        kernel = before.params.heads["ConvNorm_0"]["kernel"][t, 0, 0]
        y = np.asarray(z) @ np.asarray(kernel)
        stats = of_task(after.model_state.heads, t)["batch_stats"]["ConvNorm_0"]["norm"]
        mean, var = y.mean(axis=(0, 1, 2)), y.var(axis=(0, 1, 2))
        np.testing.assert_allclose(stats["mean"], (1 - MOMENTUM) * mean, 1e-3, 1e-6)
        wanted = MOMENTUM + (1 - MOMENTUM) * var
        np.testing.assert_allclose(stats["var"], wanted, 1e-4)


def test_evaluation_uses_statistics_of_the_own_head(one_step):
    one, _, after, _, batch = one_step
    predict = jax.jit(one.predict)
    heads = [of_task(after.model_state.heads, t) for t in TASKS]
    for t in TASKS:
        params = Params(after.params.shared, of_task(after.params.heads, t))
        states = [ModelState(after.model_state.trunk, heads[s]) for s in (t, 1 - t)]
        own, others = (predict(params, state, batch.x) for state in states)
        assert own.shape == (N, SIDE, SIDE, CLASSES)
        assert not np.allclose(own, others, rtol=1e-3)
        # Nothing of the batch enters.
        alone = predict(params, states[0], batch.x[:1])
        np.testing.assert_allclose(own[:1], alone, rtol=1e-4, atol=1e-5)


def test_tasks_one_after_another_are_the_same(one_step):
    one, _, after, losses, _ = one_step
    _, found, found_losses, _ = stepped(one, sequential)
    np.testing.assert_allclose(found_losses, losses, rtol=1e-5)
    for part in ("trunk", "heads"):
        pair = (getattr(s.model_state, part) for s in (found, after))
        for a, b in zip(*map(jax.tree.leaves, pair), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_group_norm_keeps_no_statistics():
    _, after, losses, _ = stepped(setting(norm="group"))
    assert not jax.tree.leaves(after.model_state)
    assert np.isfinite(losses).all()


def pretrained(path):
    """A file of torchvision's names, filled with random numbers."""
    rng = np.random.default_rng(1)
    state = {}

    def layer(conv, norm, shape):
        state[f"{conv}.weight"] = rng.normal(size=shape)
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{part}"] = rng.uniform(0.5, 1, size=shape[0])

    layer("conv1", "bn1", (2, 3, 7, 7))
    for n in range(1, 5):
        channels, block = 2 if n == 1 else 8, f"layer{n}.0"
        layer(f"{block}.conv1", f"{block}.bn1", (2, channels, 1, 1))
        layer(f"{block}.conv2", f"{block}.bn2", (2, 2, 3, 3))
        layer(f"{block}.conv3", f"{block}.bn3", (8, 2, 1, 1))
        if n < 3:  # the others keep size and channels
            short = f"{block}.downsample"
            layer(f"{short}.0", f"{short}.1", (8, channels, 1, 1))
    state = {name: array.astype(np.float32) for name, array in state.items()}
    safetensors.numpy.save_file(state, path)
    return state


def test_every_run_starts_from_the_weights_of_a_file(tmp_path, one_step):
    path = tmp_path / "weights.safetensors"
    state = pretrained(path)
    one, (plain, wanted, *_, batch) = setting(str(path)), one_step
    assert plain.start is None
    inits = initial(one, SEED, SEED + 1)
    for found in inits:
        first = found.params.shared["ConvNorm_0"]
        kernel = state["conv1.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(first["kernel"], kernel)
        stats = found.model_state.trunk["batch_stats"]["ConvNorm_0"]["norm"]
        np.testing.assert_array_equal(stats["var"], state["bn1.running_var"])
    # Heads are those of the seed as ever.
    assert jax.tree.structure(inits[0]) == jax.tree.structure(wanted)
    jax.tree.map(
        np.testing.assert_array_equal, inits[0].params.heads, wanted.params.heads
    )
    heads = [found.params.heads["kernel"] for found in inits]
    assert (heads[0] != heads[1]).all()
    params = Params(inits[0].params.shared, of_task(inits[0].params.heads, 0))
    model_state = ModelState(
        inits[0].model_state.trunk, of_task(inits[0].model_state.heads, 0)
    )
    loss, _ = jax.jit(lambda *args: train_loss(one, *args))(
        params, model_state, Batch(batch.x, of_task(batch.y, 0))
    )
    assert np.isfinite(loss)


def test_pixels_are_not_rotated():
    trunk = models.make("deeplab", **OPTIONS)
    with pytest.raises(InputError, match=r"rotograd .* \(1, 2, 2, 8\); leave it out"):
        from_dataset("pixels", dataset(), trunk, rotated=True)
