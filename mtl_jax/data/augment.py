"""Random changes of training images, on the device.

A `Transform` changes one image, and its pixels' targets with it. Every example of a
step has its own draw, a function of the run's key, the step and the task, so that a
task sees the same images alone and in company. Targets ``[K, H, W]`` are of the ``K``
tasks of the image, ``[0, H, W]`` where targets are no pixels.

>>> image = jnp.arange(12.0).reshape(2, 6, 1)
>>> changed, _ = crop(jax.random.key(0), image, no_pixels(2, 6))
>>> changed.shape
(2, 6, 1)
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax.options import some_of
from mtl_jax.types import Array

BORDER = 1 / 8
"""Share of a side that `crop` adds at most: 4 pixels of 32 (He et al., 2016)."""
LARGEST = 1.5
"""Largest factor of `scale`."""


class Pixels(NamedTuple):
    """Targets of every pixel of an image."""

    value: Array
    """``[K, H, W]``."""
    invalid: Array
    """Value of a pixel without a target, of every task ``[K]``."""
    grows: Array
    """True where values grow as the image does, as inverse depths do: bool ``[K]``."""


def no_pixels(height: int, width: int) -> Pixels:
    """Return the targets of an image whose targets are no pixels."""
    return Pixels(jnp.zeros((0, height, width)), jnp.zeros(0), jnp.zeros(0, bool))


Transform = Callable[[Array, Array, Pixels], tuple[Array, Pixels]]
"""``(key, x [H, W, C], pixels) -> (x, pixels)``."""


def flip(key: Array, x: Array, pixels: Pixels) -> tuple[Array, Pixels]:
    """Mirror left and right, half of the time."""
    turn = jax.random.bernoulli(key)

    def turned(leaf: Array, axis: int) -> Array:
        return jnp.where(turn, jnp.flip(leaf, axis), leaf)

    return turned(x, 1), pixels._replace(value=turned(pixels.value, 2))


def crop(key: Array, x: Array, pixels: Pixels) -> tuple[Array, Pixels]:
    """Cut a window of the same size out of the image within a border of zeros."""
    height, width, _ = x.shape
    border = [(round(BORDER * side),) * 2 for side in (height, width)]
    most = jnp.array([2 * both[0] + 1 for both in border])
    place = jax.random.randint(key, (2,), 0, most)

    def window(leaf: Array) -> Array:  # [H, W, ...]
        padded = jnp.pad(leaf, [*border, (0, 0)])
        return lax.dynamic_slice(padded, (*place, 0), (height, width, leaf.shape[2]))

    inside = window(jnp.ones((height, width, 1), bool)).transpose(2, 0, 1)
    value = window(pixels.value.transpose(1, 2, 0)).transpose(2, 0, 1)
    value = jnp.where(inside, value, pixels.invalid[:, None, None])
    return window(x), pixels._replace(value=value)


def scale(key: Array, x: Array, pixels: Pixels) -> tuple[Array, Pixels]:
    """Enlarge a smaller window to the size of the image, up to 1.5 times.

    Images linearly, targets by the nearest pixel; inverse depths grow by the factor.
    """
    of_factor, of_place = jax.random.split(key)
    factor = jax.random.uniform(of_factor, (), minval=1.0, maxval=LARGEST)
    side = jnp.array(x.shape[:2], jnp.float32)
    corner = jax.random.uniform(of_place, (2,)) * (side - side / factor)
    enlarged = jax.image.scale_and_translate(
        x.astype(jnp.float32),
        x.shape,
        (0, 1),
        jnp.full(2, factor),
        -corner * factor,
        "linear",
        antialias=False,
    )
    if jnp.issubdtype(x.dtype, jnp.integer):
        enlarged = enlarged.round()
    rows, columns = (
        ((jnp.arange(n) + 0.5) / factor + corner[i]).astype(jnp.int32).clip(0, n - 1)
        for i, n in enumerate(x.shape[:2])
    )
    value = pixels.value[:, rows][:, :, columns]
    value = jnp.where(pixels.grows[:, None, None], value * factor, value)
    return enlarged.astype(x.dtype), pixels._replace(value=value)


TRANSFORMS: dict[str, Transform] = {"flip": flip, "crop": crop, "scale": scale}
"""Transforms by their names."""


def make(names: str | Iterable[str]) -> Transform | None:
    """Compose transforms in the order of their names; None of none.

    Raises:
      InputError: an unknown name, or one twice.
    """
    chosen = some_of("augmentations", names, TRANSFORMS)
    if not chosen:
        return None

    def transform(key: Array, x: Array, pixels: Pixels) -> tuple[Array, Pixels]:
        keys = jax.random.split(key, len(chosen))
        for name, drawn in zip(chosen, keys, strict=True):
            x, pixels = TRANSFORMS[name](drawn, x, pixels)
        return x, pixels

    return transform
