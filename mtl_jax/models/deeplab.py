"""Dilated ResNet with a DeepLabV3 head for each task: outputs for every pixel.

``deeplab()`` is a small one; with ``widths=(64, 128, 256, 512), blocks=(3, 4, 6, 3),
channels=256`` the trunk is torchvision's ResNet-50, and with ``blocks=(3, 4, 23, 3)``
its ResNet-101, with ``replace_stride_with_dilation=[False, True, True]``. The head is
its ``DeepLabHead``. LibMTL and Kurin et al. (2022) take both for Cityscapes, with two
choices of theirs:

* Outputs are resized as in LibMTL and Kurin et al.: linearly between positions, corners
  on corners (``align_corners=True``; torchvision itself aligns borders).
* They drop half of the projection in training unless told not to; here nothing is
  dropped, so that a step depends on its batch only.

As there, images are numbers in [0, 1], also with ImageNet's weights: its mean and
deviation are not taken out. Source: Chen et al., 2017, arXiv:1706.05587.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mtl_jax.models.conv import conv as convolve
from mtl_jax.models.residual import Bottleneck, ConvNorm, Residual, check
from mtl_jax.models.trunk import Trunk
from mtl_jax.options import check_sizes
from mtl_jax.types import Array, InputError

SCALE = 8
"""Pixels to a position of the features, in each direction."""
STAGES = 4


class DeepLab(Residual):
    """Dilated residual trunk: features ``[B, H / 8, W / 8, 4 widths[-1]]``."""

    channels: int
    rates: Sequence[int]

    block = Bottleneck
    convolutions = 3

    def strides(self) -> list[tuple[int, int, int]]:
        """Return strides and dilations of the stages.

        The first block after a stride left out has the dilation before it.
        """
        return [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)]

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Features ``[B, H / 8, W / 8, D]`` of images ``[B, H, W, C]``."""
        return self.maps(x, train).transpose(3, 1, 2, 0)

    def head(self, width: int) -> nn.Module:
        """Make a task's head: features to outputs ``[B, H, W, width]``."""
        options = (self.channels, self.rates, self.form, self.norm)
        return PixelHead(width, *options, parent=None)


class PixelHead(nn.Module):
    """DeepLabV3's head: pyramid of dilated convolutions, two more, resized."""

    width: int
    channels: int
    rates: Sequence[int]
    form: str
    norm: str

    @nn.compact
    def __call__(self, features: Array, train: bool = False) -> Array:
        """Map ``[B, H, W, D]`` to ``[B, 8 H, 8 W, width]``."""
        x = features.transpose(3, 1, 2, 0)

        def layer(x: Array, kernel_size: int, dilation: int = 1) -> Array:
            made = ConvNorm(
                self.channels, kernel_size, 1, self.form, self.norm, dilation
            )
            return jax.nn.relu(made(x, train))

        pyramid = [layer(x, 1), *(layer(x, 3, rate) for rate in self.rates)]
        mean = layer(x.mean(axis=(1, 2), keepdims=True), 1)
        pyramid.append(jnp.broadcast_to(mean, pyramid[0].shape))
        x = layer(jnp.concatenate(pyramid), 1)
        x = layer(x, 3)
        shape = (1, 1, self.channels, self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        x = convolve(x, kernel, 1, self.form) + bias[:, None, None, None]
        return _resize(x).transpose(3, 1, 2, 0)


def _resize(x: Array) -> Array:
    """``[C, H, W, B]`` to ``[C, 8 H, 8 W, B]``, linearly, corners on corners."""
    rows, columns = (jnp.asarray(_between(side), x.dtype) for side in x.shape[1:3])
    # In full precision also on a GPU: there is little to it.
    return jnp.einsum("ih,jw,chwb->cijb", rows, columns, x, precision="highest")


def _between(side: int) -> np.ndarray:
    """Weights ``[8 side, side]`` of positions in pixels of one direction."""
    places = np.linspace(0, side - 1, SCALE * side)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(side)), 0)


def deeplab(
    widths: Sequence[int] = (8, 16, 32, 64),
    blocks: Sequence[int] = (1, 1, 1, 1),
    channels: int = 32,
    rates: Sequence[int] = (12, 24, 36),
    norm: str = "batch",
    remat: bool = False,
    conv: str = "auto",
) -> Trunk:
    """Make the trunk, which makes the heads.

    Args:
      widths: channels inside the bottlenecks of the four stages.
      blocks: bottlenecks of every stage.
      channels: of every layer of a head.
      rates: dilations of the 3x3 convolutions of a head.
      norm: ``batch``, or ``group``, which keeps no statistics; of trunk and heads.
      remat: compute a block of the trunk again in the backward pass, for less memory.
      conv: form of the convolution: ``auto`` or one of `conv.FORMS`.

    Raises:
      InputError: not four stages, sizes that are not positive, an unknown norm or form;
        images whose sides 8 does not divide (said at initialisation).
    """
    form = check("deeplab", widths, blocks, norm, conv)
    if len(widths) != STAGES:
        raise InputError(f"deeplab widths {tuple(widths)} must be of {STAGES} stages.")
    check_sizes("deeplab rates", rates)
    if channels < 1:
        raise InputError(f"deeplab channels {channels} must be positive.")
    return DeepLab(
        widths=tuple(widths),
        blocks=tuple(blocks),
        stem="imagenet",
        stem_stride=1,
        norm=norm,
        remat=remat,
        form=form,
        channels=channels,
        rates=tuple(rates),
    )
