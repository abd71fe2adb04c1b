"""Residual trunk of basic blocks with batch norm, from 64x64 toys to ResNet-18.

``resnet()`` is a small one; ``resnet(widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2))``
is ResNet-18 with a 3x3 stem, as usual for CIFAR. Source: He et al., 2016.
"""

from collections.abc import Sequence

import jax
from flax import linen as nn

from mtl_jax.models.conv import check_form, conv
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import Array, InputError

MOMENTUM, EPSILON = 0.9, 1e-5


class ConvNorm(nn.Module):
    """Convolution without bias and batch norm on ``[C, H, W, B]``."""

    channels: int
    kernel_size: int
    stride: int
    form: str

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map ``[C, H, W, B]`` to ``[channels, H / stride, W / stride, B]``."""
        k = self.kernel_size
        shape = (k, k, x.shape[0], self.channels)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        x = conv(x, kernel, self.stride, self.form)
        return nn.BatchNorm(
            not train, axis=0, momentum=MOMENTUM, epsilon=EPSILON, name="norm"
        )(x)


class Block(nn.Module):
    """Basic block: two 3x3 convolutions, added to the input or its projection."""

    channels: int
    stride: int
    form: str

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map ``[C, H, W, B]`` to ``[channels, H / stride, W / stride, B]``."""
        y = ConvNorm(self.channels, 3, self.stride, self.form)(x, train)
        y = ConvNorm(self.channels, 3, 1, self.form)(jax.nn.relu(y), train)
        if x.shape != y.shape:
            x = ConvNorm(self.channels, 1, self.stride, self.form)(x, train)
        return jax.nn.relu(x + y)


class ResNet(Trunk):
    """Stem, stages of blocks, mean over positions: features ``[B, widths[-1]]``."""

    widths: Sequence[int]
    blocks: Sequence[int]
    stem_stride: int
    form: str

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Features ``[B, widths[-1]]`` of images ``[B, H, W, C]``."""
        _check_size(x.shape, self.stem_stride * 2 ** (len(self.widths) - 1))
        x = x.transpose(3, 1, 2, 0)
        x = ConvNorm(self.widths[0], 3, self.stem_stride, self.form)(x, train)
        x = jax.nn.relu(x)
        for stage, (width, blocks) in enumerate(
            zip(self.widths, self.blocks, strict=True)
        ):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = Block(width, stride, self.form)(x, train)
        return x.mean(axis=(1, 2)).T


def resnet(
    widths: Sequence[int] = (16, 32, 64, 128),
    blocks: Sequence[int] = (1, 1, 1, 1),
    stem_stride: int = 1,
    conv: str = "auto",
) -> Trunk:
    """Make the trunk.

    Args:
      widths: channels of the stages; from the second on they halve the image.
      blocks: basic blocks of every stage.
      stem_stride: of the first convolution, 1 or 2.
      conv: form of the convolution: ``auto`` or one of `conv.FORMS`.

    Raises:
      InputError: sizes that are not positive or not paired, another stride, an unknown
        form; images that the strides do not divide (said at initialisation).
    """
    if not widths or min(*widths, *blocks, 1) < 1 or len(blocks) != len(widths):
        raise InputError(
            f"resnet with widths {tuple(widths)} and blocks {tuple(blocks)}: give as "
            f"many of both, all positive."
        )
    if stem_stride not in (1, 2):
        raise InputError(f"resnet stem_stride {stem_stride} is not 1 or 2.")
    return ResNet(tuple(widths), tuple(blocks), stem_stride, check_form(conv))


def _check_size(shape: tuple[int, ...], factor: int) -> None:
    if len(shape) != 4 or shape[1] % factor or shape[2] % factor:
        raise InputError(
            f"resnet inputs {shape} must be [B, H, W, C] with sides divisible by "
            f"{factor}, the product of its strides; pad or choose fewer stages."
        )
