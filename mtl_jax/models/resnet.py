"""Residual trunk of basic blocks, from 64x64 toys to ResNet-18.

``resnet()`` is a small one; with ``widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2)`` it
is ResNet-18 with a 3x3 stem, as usual for CIFAR, and with ``stem="imagenet"`` the one
that ImageNet's weights fit. For CelebA at 64x64, Sener & Koltun (2018) and Kurin et al.
(2022) take the 3x3 stem and ``pool=4``: the 8x8 maps become 2x2, 2,048 features.
"""

from collections.abc import Sequence

from flax import linen as nn

from mtl_jax.models.residual import Residual, check_basic
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import Array, InputError


class ResNet(Residual):
    """Stem, stages of basic blocks, means over positions: features ``[B, D]``."""

    pool: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Features ``[B, D]`` of images ``[B, H, W, C]``."""
        x = self.maps(x, train)
        channels, height, width, batch = x.shape
        if not self.pool:
            return x.mean(axis=(1, 2)).T
        if height % self.pool or width % self.pool:
            raise InputError(
                f"resnet pool {self.pool} does not divide maps of {height}x{width}; "
                f"choose 0 for the mean of all positions, or images of another size."
            )
        rows, columns = height // self.pool, width // self.pool
        x = x.reshape(channels, rows, self.pool, columns, self.pool, batch)
        return x.mean(axis=(2, 4)).reshape(-1, batch).T


def resnet(
    widths: Sequence[int] = (16, 32, 64, 128),
    blocks: Sequence[int] = (1, 1, 1, 1),
    stem: str = "cifar",
    stem_stride: int = 1,
    pool: int = 0,
    norm: str = "batch",
    remat: bool = False,
    conv: str = "auto",
) -> Trunk:
    """Make the trunk.

    Args:
      widths: channels of the stages; from the second on they halve the image.
      blocks: basic blocks of every stage.
      stem: ``cifar``, a 3x3 convolution, or ``imagenet``, a 7x7 convolution and a
        3x3 max-pool, both of stride 2.
      stem_stride: of the 3x3 convolution, 1 or 2.
      pool: side of the windows of positions whose means are features; 0: all of them.
      norm: ``batch``, or ``group``, which keeps no statistics.
      remat: compute a block again in the backward pass, for less memory.
      conv: form of the convolution: ``auto`` or one of `conv.FORMS`.

    Raises:
      InputError: sizes that are not positive or not paired, another stem or stride, an
        unknown norm or form; images that strides or pool do not divide (said at
        initialisation).
    """
    form = check_basic("resnet", widths, blocks, stem, stem_stride, norm, conv)
    if pool < 0:
        raise InputError(f"resnet pool {pool} must be at least 0.")
    return ResNet(
        widths=tuple(widths),
        blocks=tuple(blocks),
        stem=stem,
        stem_stride=stem_stride,
        norm=norm,
        remat=remat,
        form=form,
        pool=pool,
    )
