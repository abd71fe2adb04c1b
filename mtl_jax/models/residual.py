"""Residual networks without their end: stem and stages of blocks, batch last inside.

Source: He et al., 2016, arXiv:1512.03385; the strides of bottlenecks are in their 3x3
convolution, as in torchvision ("v1.5"). Batch norm keeps 0.9 of its running statistics
at a step (PyTorch's momentum of 0.1). Its running variance is the mean of squared
deviations, where PyTorch takes ``n / (n - 1)`` of it, for ``n`` values a channel: these
statistics differ after training by that, and nothing else does.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn

from mtl_jax.models import torchvision
from mtl_jax.models.conv import check_form, conv, max_pool_3
from mtl_jax.models.layout import WeightLayout
from mtl_jax.models.trunk import Trunk
from mtl_jax.options import check_sizes, one_of
from mtl_jax.types import Array, InputError

MOMENTUM, EPSILON = 0.9, 1e-5
NORMS = ("batch", "group")
STEMS = ("cifar", "imagenet")
GROUPS = 32


class GroupNorm(nn.Module):
    """Group norm of 32 groups on ``[C, H, W, B]``; fewer, so that each has 2 channels.

    A channel on its own would be lost where an image is one position. Source: Wu & He,
    2018, arXiv:1803.08494.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``[C, H, W, B]`` to the same shape; no statistics are kept."""
        channels = len(x)
        groups = math.gcd(GROUPS, channels)
        groups = groups // 2 if channels == groups > 1 else groups
        parts = x.reshape(groups, -1, *x.shape[1:])
        parts = parts - parts.mean(axis=(1, 2, 3), keepdims=True)
        variance = (parts**2).mean(axis=(1, 2, 3), keepdims=True)
        parts = parts * jax.lax.rsqrt(variance + EPSILON)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        column = (channels, 1, 1, 1)
        return parts.reshape(x.shape) * scale.reshape(column) + bias.reshape(column)


class ConvNorm(nn.Module):
    """Convolution without bias and a norm on ``[C, H, W, B]``."""

    channels: int
    kernel_size: int
    stride: int
    form: str
    norm: str = "batch"
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map ``[C, H, W, B]`` to ``[channels, H / stride, W / stride, B]``."""
        k = self.kernel_size
        shape = (k, k, x.shape[0], self.channels)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        x = conv(x, kernel, self.stride, self.form, self.dilation)
        if self.norm == "group":
            return GroupNorm(name="norm")(x)
        # Of means over an image, which differ little, the mean of squares less the
        # squared mean is not variance enough: gradients would be 3e-4 off.
        fast = x.shape[1:3] != (1, 1)
        return nn.BatchNorm(
            not train,
            axis=0,
            momentum=MOMENTUM,
            epsilon=EPSILON,
            use_fast_variance=fast,
            name="norm",
        )(x)


class Block(nn.Module):
    """Basic block: two 3x3 convolutions, added to the input or its projection."""

    channels: int
    stride: int
    form: str
    norm: str = "batch"
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map ``[C, H, W, B]`` to ``[channels, H / stride, W / stride, B]``."""
        kind = (self.form, self.norm)
        y = ConvNorm(self.channels, 3, self.stride, *kind, self.dilation)(x, train)
        y = ConvNorm(self.channels, 3, 1, *kind, self.dilation)(jax.nn.relu(y), train)
        if x.shape != y.shape:
            x = ConvNorm(self.channels, 1, self.stride, *kind)(x, train)
        return jax.nn.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, added to the input or its projection."""

    channels: int
    stride: int
    form: str
    norm: str = "batch"
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map ``[C, H, W, B]`` to ``[4 channels, H / stride, W / stride, B]``."""
        kind = (self.form, self.norm)
        out = EXPANSION * self.channels
        y = jax.nn.relu(ConvNorm(self.channels, 1, 1, *kind)(x, train))
        y = ConvNorm(self.channels, 3, self.stride, *kind, self.dilation)(y, train)
        y = ConvNorm(out, 1, 1, *kind)(jax.nn.relu(y), train)
        if x.shape != y.shape:
            x = ConvNorm(out, 1, self.stride, *kind)(x, train)
        return jax.nn.relu(x + y)


EXPANSION = 4
"""Channels of a bottleneck's output to those inside."""


class Residual(Trunk):
    """A trunk of stem and stages; what comes after them is up to the subclass."""

    widths: Sequence[int]
    blocks: Sequence[int]
    stem: str
    stem_stride: int
    norm: str
    remat: bool
    form: str

    block = Block
    """Class of the blocks."""
    convolutions = 2
    """In a block, without its projection."""

    def strides(self) -> list[tuple[int, int, int]]:
        """Return the stages' strides, and dilations of first block and others."""
        return [(2 if stage else 1, 1, 1) for stage in range(len(self.widths))]

    def layout(self) -> WeightLayout | None:
        """Return torchvision's."""
        return torchvision.layout(self.blocks, self.convolutions)

    def maps(self, x: Array, train: bool) -> Array:
        """Compute feature maps ``[C, H', W', B]`` of images ``[B, H, W, C]``.

        As `stage_maps`: those of the last block.
        """
        return self.stage_maps(x, train)[-1][-1]

    def stage_maps(self, x: Array, train: bool) -> list[list[Array]]:
        """Compute feature maps ``[C, H', W', B]`` of every block, stage by stage.

        To be called in a compact method, whose submodules the blocks become.

        Raises:
          InputError: images that the strides do not divide.
        """
        stages = self.strides()
        factor = 4 if self.stem == "imagenet" else self.stem_stride
        _check_size(x.shape, factor * math.prod(stride for stride, *_ in stages))
        kind = (self.form, self.norm)
        x = x.transpose(3, 1, 2, 0)
        if self.stem == "imagenet":
            x = ConvNorm(self.widths[0], 7, 2, *kind)(x, train)
            x = max_pool_3(jax.nn.relu(x))
        else:
            x = ConvNorm(self.widths[0], 3, self.stem_stride, *kind)(x, train)
            x = jax.nn.relu(x)
        block: Any = self.block
        if self.remat:
            block = nn.remat(block, static_argnums=(2,))
        number, maps = 0, []
        for width, count, (stride, first, others) in zip(
            self.widths, self.blocks, stages, strict=True
        ):
            maps.append([])
            for place in range(count):
                options = (1, *kind, others) if place else (stride, *kind, first)
                # Named, for remat would change the name, and so the initial values.
                x = block(width, *options, name=f"Block_{number}")(x, train)
                maps[-1].append(x)
                number += 1
        return maps


def check(
    name: str, widths: Sequence[int], blocks: Sequence[int], norm: str, conv: str
) -> str:
    """Check the options that residual trunks share; return the form of convolution.

    Raises:
      InputError: sizes that are not positive or not paired, an unknown norm or form.
    """
    check_sizes(f"{name} widths", widths)
    check_sizes(f"{name} blocks", blocks)
    if len(blocks) != len(widths):
        raise InputError(
            f"{name} with widths {tuple(widths)} and blocks {tuple(blocks)}: give as "
            f"many of both."
        )
    one_of(f"{name} norm", norm, NORMS)
    return check_form(conv)


def check_basic(
    name: str,
    widths: Sequence[int],
    blocks: Sequence[int],
    stem: str,
    stem_stride: int,
    norm: str,
    conv: str,
) -> str:
    """Check the options of trunks of basic blocks; return the form of convolution.

    Raises:
      InputError: as `check`; another stem or stride.
    """
    form = check(name, widths, blocks, norm, conv)
    one_of(f"{name} stem", stem, STEMS)
    one_of(f"{name} stem_stride", stem_stride, (1, 2))
    if stem == "imagenet" and stem_stride != 1:
        raise InputError(
            f"{name} stem_stride {stem_stride} is for the stem 'cifar'; leave it 1 for "
            f"'imagenet', which has its own."
        )
    return form


def _check_size(shape: tuple[int, ...], factor: int) -> None:
    if len(shape) != 4 or shape[1] % factor or shape[2] % factor:
        raise InputError(
            f"images {shape} must be [B, H, W, C] with sides divisible by {factor}, "
            f"the product of the trunk's strides; pad or choose fewer stages."
        )
