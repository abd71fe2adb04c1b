"""Convolution, alone and with max-pooling, in the form that suits the backend.

``lax`` calls ``lax.conv_general_dilated``, right for GPU and TPU. On a CPU that
operation is 4 to 17 times slower inside a loop, so ``gemm`` writes the convolution
as one matrix product over patches with the batch as the last axis. The gradient of
``gemm`` is written by hand for speed, which blocks forward-mode differentiation;
``gemm_forward`` is the same without it. All forms agree to rounding.

Activations are ``[C, H, W, B]`` in every form: batch last.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from mtl_jax.devices import batch_sharding
from mtl_jax.models import strip, winograd
from mtl_jax.options import one_of
from mtl_jax.types import Array

FORMS = ("lax", "gemm", "gemm_forward")
LAYOUT = ("CHWN", "HWIO", "CHWN")
FEW_CHANNELS = 4


def form_for(platform: str) -> str:
    """Return the fastest form on a platform."""
    return "gemm" if platform == "cpu" else "lax"


def check_form(form: str) -> str:
    """Return the form meant by a name; ``auto`` is that for JAX's default backend.

    Raises:
      InputError: unknown name.
    """
    if form == "auto":
        return form_for(jax.default_backend())
    return one_of("conv", form, ("auto", *FORMS))


def conv(x: Array, kernel: Array, stride: int, form: str, dilation: int = 1) -> Array:
    """Convolve with ``dilation * (k // 2)`` zeros at every border.

    Args:
      x: ``[C, H, W, B]`` with ``H`` and ``W`` multiples of ``stride``.
      kernel: ``[k, k, C, O]``, ``k`` odd.
      stride: of both directions.
      form: one of `FORMS`.
      dilation: inputs from one entry of the kernel to the next; 1 where the stride is
        not.

    Returns:
      ``[O, H / stride, W / stride, B]``.
    """
    f = partial(_conv, stride=stride, form=form, dilation=dilation)
    return batch_sharding.shard_over_batch(f)(x, _seen(kernel, x.shape[1:3], dilation))


def _seen(kernel: Array, size: tuple[int, ...], dilation: int) -> Array:
    """The kernel without the outer entries that meet the border's zeros only.

    Of a rate of 36 on features of 16 x 32 all but the middle.
    """
    for axis, side in enumerate(size):
        middle = kernel.shape[axis] // 2
        reach = min(middle, (side - 1) // dilation)
        kernel = lax.slice_in_dim(kernel, middle - reach, middle + reach + 1, axis=axis)
    return kernel


def _conv(x: Array, kernel: Array, stride: int, form: str, dilation: int) -> Array:
    *k, channels, out = kernel.shape
    borders = [(reach, reach) for reach in (dilation * (side // 2) for side in k)]
    if form == "lax":
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            borders,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=LAYOUT,
        )
    _, height, width, batch = x.shape
    if k == [1, 1]:
        patches: Array = x[:, ::stride, ::stride].reshape(channels, -1)
    elif (
        form == "gemm" and dilation > 1 and not (height % dilation or width % dilation)
    ):
        return _conv_of_parts(x, kernel, dilation)
    elif form == "gemm" and (m := _tile(x, kernel, stride, dilation)):
        return winograd.conv(x, kernel, m)
    else:
        unfold = _unfold if form == "gemm_forward" else _unfold_by_hand
        x = jnp.pad(x, ((0, 0), *borders, (0, 0)))
        patches = unfold(x, tuple(k), stride, dilation)  # type: ignore[assignment]
    y = kernel.reshape(-1, out).T @ patches
    return y.reshape(out, height // stride, width // stride, batch)


def _tile(x: Array, kernel: Array, stride: int, dilation: int) -> int | None:
    """Side of the tile with which Winograd's form serves, or None."""
    channels, height, width, _ = x.shape
    plain = kernel.shape[:2] == (3, 3) and stride == dilation == 1
    return winograd.tile(height, width) if plain and channels >= FEW_CHANNELS else None


def _conv_of_parts(x: Array, kernel: Array, dilation: int) -> Array:
    """Convolve the images of every ``dilation``-th row and column, as usual.

    They go along the batch, so that Winograd's form serves here too.
    """
    channels, height, width, batch = x.shape
    d, rows, columns = dilation, height // dilation, width // dilation
    x = x.reshape(channels, rows, d, columns, d, batch).transpose(0, 1, 3, 2, 4, 5)
    y = _conv(x.reshape(channels, rows, columns, -1), kernel, 1, "gemm", 1)
    y = y.reshape(-1, rows, columns, d, d, batch).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(-1, height, width, batch)


def conv_pool(x: Array, kernel: Array, bias: Array, form: str) -> Array:
    """Convolve without a border, pool by 2x2: ``relu(max_pool(conv(x) + bias))``.

    Args:
      x: ``[C, H, W, B]`` with ``H - k + 1`` and ``W - k + 1`` even.
      kernel: ``[k, k, C, O]``.
      bias: ``[O]``.
      form: one of `FORMS`.

    Returns:
      ``[O, (H - k + 1) / 2, (W - k + 1) / 2, B]``.
    """
    return batch_sharding.shard_over_batch(partial(_conv_pool, form=form))(
        x, kernel, bias
    )


def _conv_pool(x: Array, kernel: Array, bias: Array, form: str) -> Array:
    if form == "lax":
        return _conv_pool_lax(x, kernel, bias)
    if x.shape[0] < FEW_CHANNELS:
        return _conv_pool_windows(x, kernel, bias, form)
    channels, height, width, batch = x.shape
    k, out = kernel.shape[0], kernel.shape[-1]
    m = strip.length(width - k + 1, k)
    if form == "gemm" and k > 1 and m:
        y = strip.conv(x, kernel, m)
    else:
        unfold = _unfold if form == "gemm_forward" else _unfold_by_hand
        patches: Array = unfold(x, (k, k))  # type: ignore[assignment]
        y = kernel.reshape(k * k * channels, out).T @ patches
        y = y.reshape(out, height - k + 1, width - k + 1, batch)
    # The bias goes in before the pool: XLA's backward pass is 1.4x faster so.
    return jax.nn.relu(max_pool(y + bias[:, None, None, None]))


def _conv_pool_lax(x: Array, kernel: Array, bias: Array) -> Array:
    """The same as accelerators like it: channels last, and a window that is reduced.

    Of two layers the transposes between them cancel.
    """
    x = x.transpose(3, 1, 2, 0)
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    # The bias of a window is that of its largest: behind the pool it is a quarter.
    y = nn.max_pool(y, (2, 2), (2, 2)) + bias[None, None, None]
    return jax.nn.relu(y).transpose(3, 1, 2, 0)


def max_pool(y: Array) -> Array:
    """2x2 max-pool; on a CPU ``reduce_window`` costs 50 times more backwards."""
    channels, height, width, batch = y.shape
    y = y.reshape(channels, height // 2, 2, width // 2, 2, batch)
    return _max_of_four(*(y[:, :, a, :, b] for a in range(2) for b in range(2)))


def max_pool_3(x: Array) -> Array:
    """Take the maxima of 3x3 windows of ``[C, H, W, B]``, stride 2, sides even.

    The border is a row and a column before the first. Rows ``2 i - 1`` to ``2 i + 1``
    are every odd one, shifted, every even and every odd one; where two are the same
    their gradient is split.
    """
    for axis in (1, 2):
        shape = (*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
        even, odd = jnp.moveaxis(x.reshape(shape), axis + 1, 0)
        border = [(0, 0)] * x.ndim
        border[axis] = (1, 0)
        before = jnp.pad(odd, border, constant_values=-jnp.inf)
        before = lax.slice_in_dim(before, 0, odd.shape[axis], axis=axis)
        x = jnp.maximum(jnp.maximum(even, odd), before)
    return x


def _unfold(x: Array, k: tuple[int, int], stride: int = 1, dilation: int = 1) -> Array:
    """Patches ``[k k C, H' W' B]`` of ``[C, H, W, B]``: columns first, then rows.

    Two stages of ``k`` copies each; ``k k`` slices at once compile to slow code.
    """
    channels, height, width, batch = x.shape
    of_rows, of_columns = (range(0, dilation * side, dilation) for side in k)
    s = stride
    rows, columns = _count(height, of_rows, s), _count(width, of_columns, s)
    x = x.reshape(channels, height // s, s, width // s, s, batch)
    x = jnp.stack([x[:, :, :, j // s : j // s + columns, j % s] for j in of_columns])
    x = jnp.stack([x[:, :, i // s : i // s + rows, i % s] for i in of_rows])
    return x.reshape(k[0] * k[1] * channels, rows * columns * batch)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _unfold_by_hand(
    x: Array, k: tuple[int, int], stride: int = 1, dilation: int = 1
) -> Array:
    return _unfold(x, k, stride, dilation)


def _unfold_fwd(
    x: Array, k: tuple[int, int], stride: int, dilation: int
) -> tuple[Array, tuple[int, ...]]:
    return _unfold(x, k, stride, dilation), x.shape


def _unfold_bwd(
    k: tuple[int, int], stride: int, dilation: int, shape: tuple[int, ...], g: Array
) -> tuple[Array]:
    """Add the patches back in place; autodiff would pad and add whole arrays."""
    channels, height, width, batch = shape
    of_rows, of_columns = (range(0, dilation * side, dilation) for side in k)
    s = stride
    rows, columns = _count(height, of_rows, s), _count(width, of_columns, s)
    g = g.reshape(*k, channels, rows, columns, batch)
    by_column = jnp.zeros((k[1], channels, height // s, s, columns, batch), g.dtype)
    for n, i in enumerate(of_rows):
        by_column = by_column.at[:, :, i // s : i // s + rows, i % s].add(g[n])
    x = jnp.zeros((channels, height, width // s, s, batch), g.dtype)
    by_column = by_column.reshape(k[1], channels, height, columns, batch)
    for n, j in enumerate(of_columns):
        x = x.at[:, :, j // s : j // s + columns, j % s].add(by_column[n])
    return (x.reshape(shape),)


def _count(side: int, places: range, stride: int) -> int:
    """Count the places in a side for a kernel with entries at these places."""
    return (side - places[-1] - 1) // stride + 1


_unfold_by_hand.defvjp(_unfold_fwd, _unfold_bwd)


def _conv_pool_windows(x: Array, kernel: Array, bias: Array, form: str) -> Array:
    """The same for few channels: one product whose rows hold the pool's window.

    The four outputs of a pool see one ``(k + 1)^2`` window, so windows of stride 2
    against four shifted kernels give them all: 1.4 times the flops (k = 5) for a
    patch matrix 2.8 times smaller, and memory is what limits a first layer.
    """
    channels, height, width, batch = x.shape
    k, out = kernel.shape[0], kernel.shape[-1]
    rows, columns = (height - k + 1) // 2, (width - k + 1) // 2
    # Four parts, so that what makes the input (taking a batch, transposing it) is done
    # once: XLA would do it again in every slice of the input, but not in every slice
    # of a stack this long.
    x = jnp.stack([x[:, a::2, b::2] for a in range(2) for b in range(2)])
    x = x.reshape(2, 2, channels, height // 2, width // 2, batch)
    x = jnp.stack([x[:, j % 2, :, :, j // 2 : j // 2 + columns] for j in range(k + 1)])
    x = jnp.stack([x[:, i % 2, :, i // 2 : i // 2 + rows] for i in range(k + 1)])
    shifted = jnp.stack(
        [
            jnp.pad(kernel, ((a, 1 - a), (b, 1 - b), (0, 0), (0, 0)))
            for a in range(2)
            for b in range(2)
        ]
    )
    rows_of_window = shifted.transpose(0, 4, 1, 2, 3).reshape(4 * out, -1)
    y = rows_of_window @ x.reshape(-1, rows * columns * batch)
    y = y.reshape(4, out, rows, columns, batch) + bias[None, :, None, None, None]
    unstack = _unstack if form == "gemm_forward" else _unstack_by_hand
    return jax.nn.relu(_max_of_four(*unstack(y)))


def _max_of_four(a: Array, b: Array, c: Array, d: Array) -> Array:
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _unstack(y: Array) -> tuple[Array, ...]:
    return tuple(y[i] for i in range(len(y)))


_unstack_by_hand = jax.custom_vjp(_unstack)
# Autodiff would pad and add: then all four gradients are found again for each.
_unstack_by_hand.defvjp(lambda y: (_unstack(y), None), lambda _, g: (jnp.stack(g),))
