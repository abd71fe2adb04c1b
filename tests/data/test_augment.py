import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mtl_jax import models, smto
from mtl_jax.data import augment
from mtl_jax.data.augment import Pixels
from mtl_jax.models.trunk import Trunk
from mtl_jax.smto import strategies
from mtl_jax.training.setting import from_dataset
from mtl_jax.training.step import data_pool, init_state, take, train_chunk
from mtl_jax.types import InputError
from tests.tiny import SEED, TASKS, by, dataset

H, W, KEYS = 16, 32, 64
IMAGE = jnp.arange(1, H * W + 1, dtype=jnp.float32).reshape(H, W, 1)
TARGETS = jnp.stack([IMAGE[..., 0], IMAGE[..., 0]])
PIXELS = Pixels(TARGETS, jnp.array([-1.0, 0.0]), jnp.array([False, True]))


def many(transform, x=IMAGE):
    """Transform the image and its targets under many keys."""
    keys = jax.random.split(jax.random.key(0), KEYS)
    x, pixels = jax.jit(jax.vmap(lambda key: transform(key, x, PIXELS)))(keys)
    return np.asarray(x[..., 0]), np.asarray(pixels.value)


def test_flip_turns_half_of_the_images_with_their_targets():
    x, value = many(augment.flip)
    turned = np.array([np.array_equal(image, IMAGE[:, ::-1, 0]) for image in x])
    same = np.array([np.array_equal(image, IMAGE[..., 0]) for image in x])
    assert (turned ^ same).all() and 20 <= turned.sum() <= 44
    np.testing.assert_array_equal(value, np.stack([x, x], axis=1))


def test_crop_moves_images_by_an_eighth_at_most():
    x, value = many(augment.crop)
    shifts = set()
    for image, (labels, depths) in zip(x, value, strict=True):
        first = int(image[image > 0][0]) - 1
        row, column = np.argwhere(image > 0)[0]
        shift = first // W - row, first % W - column
        shifts.add(shift)
        expected = np.zeros((H + 4, W + 8))
        expected[2:-2, 4:-4] = IMAGE[..., 0]
        window = expected[2 + shift[0] :, 4 + shift[1] :][:H, :W]
        np.testing.assert_array_equal(image, window)
        np.testing.assert_array_equal(labels, np.where(window > 0, window, -1))
        np.testing.assert_array_equal(depths, window)
    assert {abs(s[0]) for s in shifts} == {0, 1, 2}
    assert {abs(s[1]) for s in shifts} == {0, 1, 2, 3, 4}


def test_scale_enlarges_a_window():
    x, value = many(augment.scale)
    for image, (labels, depths) in zip(x, value, strict=True):
        # Brightness is linear in the place: its slope tells the factor.
        slopes = np.diff(image[H // 2, 4:-4])
        factor = 1 / slopes.mean()
        assert 1 <= factor <= augment.LARGEST
        np.testing.assert_allclose(slopes, 1 / factor, rtol=0.02)
        assert set(labels.ravel()) <= set(TARGETS.ravel().tolist())
        assert np.abs(labels - image)[2:-2, 2:-2].max() <= W / 2 + 1  # half a row
        np.testing.assert_allclose(depths, labels * factor, rtol=0.01)
    whole, _ = many(augment.scale, jnp.full((H, W, 1), 200, jnp.uint8))
    assert whole.dtype == np.uint8 and (whole == 200).all()


def test_names():
    assert augment.make(()) is None
    with pytest.raises(InputError, match="'flop' is not one of: flip, crop, scale;"):
        augment.make(("flop",))
    with pytest.raises(InputError, match="'flip' is named twice; name it once"):
        augment.make(("flip", "flip"))


def images(*, one_input):
    data = dataset(one_input=one_input)
    x = np.random.default_rng(0).integers(256, size=(len(data.x), 8, 8, 1))
    trunk = models.make("mlp", widths=(6,))
    return from_dataset(
        "tiny",
        data._replace(x=x.astype(np.uint8)),
        trunk,
        transform=augment.make(("flip", "crop")),
    )


@pytest.mark.parametrize("one_input", [False, True], ids=["own", "one"])
def test_a_task_sees_the_same_images_alone_and_in_company(one_input):
    setting = images(one_input=one_input)
    key, rows = jax.random.key(1), jnp.arange(8)
    data: Any = jax.tree.map(jnp.asarray, data_pool(setting))
    rows = rows if one_input else jnp.stack([rows, rows + 16, rows + 32])
    batch = take(setting, data, rows, TASKS)
    changed = setting.augment(key, TASKS, batch)
    assert changed.x.shape == batch.x.shape and changed.x.dtype == jnp.uint8
    np.testing.assert_array_equal(changed.y, batch.y)
    assert (changed.x != batch.x).any(axis=tuple(range(changed.x.ndim - 4))).any()
    for t in TASKS:
        ids = TASKS[t : t + 1]
        alone_batch = take(setting, data, rows if one_input else rows[ids], ids)
        alone = setting.augment(key, ids, alone_batch)
        np.testing.assert_array_equal(
            alone.x, changed.x if one_input else changed.x[ids]
        )


def chunk_of(setting):
    chosen = by(strategies.by_jacobian, smto.make("sum"))
    data: Any = jax.tree.map(jnp.asarray, data_pool(setting))
    state = init_state(setting, chosen, SEED, TASKS)
    rows: Any = jnp.arange(8)[None].repeat(3, axis=0)

    def chunk(state, rows, count):
        rate: Any = 0.1
        return train_chunk(setting, chosen, state, rows, count, rate, TASKS, data)[0]

    return jax.jit(chunk), state, rows


def test_a_stop_between_steps_changes_no_draw():
    chunk, state, rows = chunk_of(images(one_input=True))
    through = chunk(state, rows, 3)
    again = chunk(chunk(state, rows, 2), rows[2:], 1)
    jax.tree.map(np.testing.assert_array_equal, through, again)
    plain, *_ = chunk_of(dataclasses.replace(images(one_input=True), transform=None))
    first = jax.tree.leaves(through.params)[0]
    assert not np.allclose(first, jax.tree.leaves(plain(state, rows, 3).params)[0])


class PerPixel(Trunk):
    @nn.compact
    def __call__(self, x, train):
        del train
        return nn.Dense(4)(x)


def test_pixels_move_with_their_image():
    rng = np.random.default_rng(0)
    x = rng.integers(1, 256, size=(8, H, W, 1), dtype=np.uint8)
    y = np.stack([x[..., 0] % 3, x[..., 0]], axis=1).astype(np.float32)
    data = dataset(one_input=True)._replace(
        tasks=("segmentation", "depth"),
        x=x,
        y=y,
        objectives=("segmentation", "depth"),
        widths=(3, 1),
    )
    setting = from_dataset(
        "pixels", data, PerPixel(), transform=augment.make(("flip", "crop"))
    )
    pool: Any = jax.tree.map(jnp.asarray, data_pool(setting))
    for ids in (np.array([0, 1]), np.array([1])):
        task_ids: Any = ids
        batch = take(setting, pool, jnp.arange(8), task_ids)
        x, y = setting.augment(jax.random.key(0), task_ids, batch)
        seen = np.asarray(x[..., 0], np.float32)
        np.testing.assert_array_equal(y.kind, batch.y.kind)
        np.testing.assert_array_equal(y.value[-1], seen)
        if len(ids) == 2:
            np.testing.assert_array_equal(y.value[0], np.where(seen, seen % 3, -1))
