"""Small convolutional trunk for 28x28 and 32x32 images."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from mtl_jax.models.conv import check_form, conv_pool
from mtl_jax.models.mlp import Layer
from mtl_jax.models.trunk import Trunk
from mtl_jax.options import check_sizes, one_of
from mtl_jax.types import Array, InputError

PADDINGS = ("same", "valid")


class ConvPool(nn.Module):
    """Convolution, 2x2 max-pool and ReLU on ``[C, H, W, B]``."""

    channels: int
    kernel_size: int
    form: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``[C, H, W, B]`` to ``[channels, H', W', B]``."""
        k = self.kernel_size
        shape = (k, k, x.shape[0], self.channels)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return conv_pool(x, kernel, bias, self.form)


class CNN(Trunk):
    """Convolutions with pooling, then one dense layer: features ``[B, hidden]``."""

    channels: Sequence[int]
    kernel_size: int
    padding: str
    hidden: int
    form: str
    is_apart: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Features ``[B, hidden]`` of images ``[B, H, W, C]``."""
        del train
        x = x.transpose(3, 1, 2, 0)
        for channels in self.channels:
            x = _padded(x, self.kernel_size, self.padding)
            x = ConvPool(channels, self.kernel_size, self.form)(x)
        x = x.reshape(-1, x.shape[-1]).T
        return jax.nn.relu(
            nn.Dense(self.hidden, kernel_init=nn.initializers.he_normal())(x)
        )

    def stages(self) -> tuple[Callable[[str], nn.Module], ...]:
        """Return makers of its convolutions, with their pools, and its last layer."""
        kind = (self.kernel_size, self.padding, self.form)
        return (
            *(
                lambda name, channels=channels: ConvLayer(channels, *kind, name=name)
                for channels in self.channels
            ),
            lambda name: FlatLayer(self.hidden, name=name),
        )


class ConvLayer(nn.Module):
    """A convolution of a `CNN` with its pool, batch first."""

    channels: int
    kernel_size: int
    padding: str
    form: str

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map ``[B, H, W, C]`` to ``[B, H', W', channels]``."""
        del train
        x = _padded(x.transpose(3, 1, 2, 0), self.kernel_size, self.padding)
        x = ConvPool(self.channels, self.kernel_size, self.form)(x)
        return x.transpose(3, 1, 2, 0)


class FlatLayer(nn.Module):
    """The dense layer of a `CNN`, which has the channels first."""

    hidden: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map ``[B, H, W, C]`` to ``[B, hidden]``."""
        return Layer(self.hidden)(x.transpose(0, 3, 1, 2), train)


def cnn(
    channels: Sequence[int] = (16, 32),
    kernel_size: int = 3,
    padding: str = "same",
    hidden: int = 128,
    conv: str = "auto",
) -> Trunk:
    """Make the trunk.

    Args:
      channels: output channels, one a convolution.
      kernel_size: odd.
      padding: ``same`` or ``valid``.
      hidden: width of the dense layer.
      conv: form of the convolution: ``auto`` or one of `conv.FORMS`.

    Raises:
      InputError: a size is not positive, an even kernel, an unknown form; images
        that the convolutions cannot halve (said when the trunk is initialised).
    """
    check_sizes("cnn channels", channels)
    if min(hidden, kernel_size) < 1 or kernel_size % 2 == 0:
        raise InputError(
            f"cnn with kernel_size {kernel_size} and hidden {hidden}: sizes must be "
            f"positive, kernel_size odd."
        )
    one_of("cnn padding", padding, PADDINGS)
    return CNN(tuple(channels), kernel_size, padding, hidden, check_form(conv))


def _padded(x: Array, kernel_size: int, padding: str) -> Array:
    """Pad ``[C, H, W, B]`` with zeros, or do not; its sides are checked."""
    if padding == "same":
        border = (kernel_size // 2,) * 2
        x = jnp.pad(x, ((0, 0), border, border, (0, 0)))
    _check_size(x.shape, kernel_size)
    return x


def _check_size(shape: tuple[int, ...], kernel_size: int) -> None:
    sides = [side - kernel_size + 1 for side in shape[1:3]]
    if any(side < 2 or side % 2 for side in sides):
        raise InputError(
            f"a {kernel_size}x{kernel_size} convolution of {shape[1]}x{shape[2]} "
            f"inputs gives {sides[0]}x{sides[1]}, which a 2x2 pool cannot halve; "
            f"choose fewer channels, or a cnn of another kernel_size."
        )
