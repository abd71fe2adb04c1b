"""Augmentation of a training batch: every image by a key of its own."""

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.data import Dataset
from mtl_jax.data.augment import Pixels, Transform, no_pixels
from mtl_jax.objectives.mixed import MixedTargets
from mtl_jax.types import Array, Batch


def augmented(
    dataset: Dataset, transform: Transform, key: Array, task_ids: Array, batch: Batch
) -> Batch:
    """Transform the images of a batch, and the pixels of targets along with them.

    Args:
      dataset: of all tasks.
      transform: of one image.
      key: of the step.
      task_ids: ``[T]``.
      batch: ``x [T, B, H, W, C]``, or ``[B, H, W, C]`` where tasks share it; targets
        ``[T, B, ...]``.
    """
    x, y = batch
    nothing = no_pixels(*x.shape[-3:-1])
    nothing = nothing._replace(value=nothing.value[:, None].repeat(x.shape[-4], 1))
    if not dataset.one_input:
        keys = jax.vmap(lambda task: jax.random.fold_in(key, task))(task_ids)
        of_task = jax.vmap(lambda key, x: _transformed(transform, key, x, nothing)[0])
        return Batch(of_task(keys, x), y)
    if dataset.y.ndim == 2:  # labels of whole images
        return Batch(_transformed(transform, key, x, nothing)[0], y)
    is_depth = np.array([name == "depth" for name in dataset.objectives])
    depth = jnp.asarray(is_depth)[task_ids]
    value = y.value if isinstance(y, MixedTargets) else y  # [T, B, H, W]
    pixels = Pixels(value, jnp.where(depth, 0.0, -1.0), depth)
    x, (value, *_) = _transformed(transform, key, x, pixels)
    return Batch(x, y._replace(value=value) if isinstance(y, MixedTargets) else value)


def _transformed(
    transform: Transform, key: Array, x: Array, pixels: Pixels
) -> tuple[Array, Pixels]:
    """Images ``[B, H, W, C]`` and pixels ``[T, B, H, W]``, each by a key of its own."""
    axes = Pixels(1, None, None)  # type: ignore[arg-type]
    mapped = jax.vmap(transform, (0, 0, axes), (0, axes))
    return mapped(jax.random.split(key, len(x)), x, pixels)
