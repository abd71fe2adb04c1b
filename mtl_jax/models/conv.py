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
from jax import lax

from mtl_jax import share
from mtl_jax.models import strip, winograd
from mtl_jax.types import Array, InputError

FORMS = ("lax", "gemm", "gemm_forward")
LAYOUT = ("CHWN", "HWIO", "CHWN")
FEW_CHANNELS = 4


def default_form() -> str:
    """Fastest form on the default backend."""
    return "gemm" if jax.default_backend() == "cpu" else "lax"


def check_form(form: str) -> str:
    """Return the form meant by a name, ``auto`` included.

    Raises:
      InputError: unknown name.
    """
    if form == "auto":
        return default_form()
    if form not in FORMS:
        raise InputError(f"conv {form!r} is not one of: auto, {', '.join(FORMS)}.")
    return form


def conv(x: Array, kernel: Array, stride: int, form: str) -> Array:
    """Convolve with ``k // 2`` zeros at every border.

    Args:
      x: ``[C, H, W, B]`` with ``H`` and ``W`` multiples of ``stride``.
      kernel: ``[k, k, C, O]``, ``k`` odd.
      stride: of both directions.
      form: one of `FORMS`.

    Returns:
      ``[O, H / stride, W / stride, B]``.
    """
    return share.by_example(partial(_conv, stride=stride, form=form))(x, kernel)


def _conv(x: Array, kernel: Array, stride: int, form: str) -> Array:
    k, channels, out = kernel.shape[1:]
    border = (k // 2, k // 2)
    if form == "lax":
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), (border, border), dimension_numbers=LAYOUT
        )
    _, height, width, batch = x.shape
    m = winograd.tile(height, width)
    if form == "gemm" and k == 3 and stride == 1 and m and channels >= FEW_CHANNELS:
        return winograd.conv(x, kernel, m)
    if k == 1:
        patches: Array = x[:, ::stride, ::stride].reshape(channels, -1)
    else:
        unfold = _unfold if form == "gemm_forward" else _unfold_by_hand
        x = jnp.pad(x, ((0, 0), border, border, (0, 0)))
        patches = unfold(x, k, stride)  # type: ignore[assignment]
    y = kernel.reshape(-1, out).T @ patches
    return y.reshape(out, height // stride, width // stride, batch)


def conv_pool(x: Array, kernel: Array, bias: Array, form: str) -> Array:
    """``relu(max_pool(conv(x) + bias))``: valid convolution, 2x2 pool of stride 2.

    Args:
      x: ``[C, H, W, B]`` with ``H - k + 1`` and ``W - k + 1`` even.
      kernel: ``[k, k, C, O]``.
      bias: ``[O]``.
      form: one of `FORMS`.

    Returns:
      ``[O, (H - k + 1) / 2, (W - k + 1) / 2, B]``.
    """
    return share.by_example(partial(_conv_pool, form=form))(x, kernel, bias)


def _conv_pool(x: Array, kernel: Array, bias: Array, form: str) -> Array:
    if form == "lax":
        y = lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=LAYOUT
        )
        return jax.nn.relu(_max_pool(y + bias[:, None, None, None]))
    if x.shape[0] < FEW_CHANNELS:
        return _conv_pool_windows(x, kernel, bias, form)
    channels, height, width, batch = x.shape
    k, out = kernel.shape[0], kernel.shape[-1]
    m = strip.length(width - k + 1, k)
    if form == "gemm" and k > 1 and m:
        y = strip.conv(x, kernel, m)
    else:
        unfold = _unfold if form == "gemm_forward" else _unfold_by_hand
        patches: Array = unfold(x, k)  # type: ignore[assignment]
        y = kernel.reshape(k * k * channels, out).T @ patches
        y = y.reshape(out, height - k + 1, width - k + 1, batch)
    # The bias goes in before the pool: XLA's backward pass is 1.4x faster so.
    return jax.nn.relu(_max_pool(y + bias[:, None, None, None]))


def _max_pool(y: Array) -> Array:
    """2x2 max-pool; ``reduce_window`` costs 50 times more in the backward pass."""
    channels, height, width, batch = y.shape
    y = y.reshape(channels, height // 2, 2, width // 2, 2, batch)
    return _max_of_four(*(y[:, :, a, :, b] for a in range(2) for b in range(2)))


def _unfold(x: Array, k: int, stride: int = 1) -> Array:
    """Patches ``[k k C, H' W' B]`` of ``[C, H, W, B]``: columns first, then rows.

    Two stages of ``k`` copies each; ``k k`` slices at once compile to slow code.
    """
    channels, height, width, batch = x.shape
    rows, columns = (height - k) // stride + 1, (width - k) // stride + 1
    s = stride
    x = x.reshape(channels, height // s, s, width // s, s, batch)
    x = jnp.stack([x[:, :, :, j // s : j // s + columns, j % s] for j in range(k)])
    x = jnp.stack([x[:, :, i // s : i // s + rows, i % s] for i in range(k)])
    return x.reshape(k * k * channels, rows * columns * batch)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _unfold_by_hand(x: Array, k: int, stride: int = 1) -> Array:
    return _unfold(x, k, stride)


def _unfold_fwd(x: Array, k: int, stride: int) -> tuple[Array, tuple[int, ...]]:
    return _unfold(x, k, stride), x.shape


def _unfold_bwd(k: int, stride: int, shape: tuple[int, ...], g: Array) -> tuple[Array]:
    """Add the patches back in place; autodiff would pad and add whole arrays."""
    channels, height, width, batch = shape
    rows, columns = (height - k) // stride + 1, (width - k) // stride + 1
    s = stride
    g = g.reshape(k, k, channels, rows, columns, batch)
    by_column = jnp.zeros((k, channels, height // s, s, columns, batch), g.dtype)
    for i in range(k):
        by_column = by_column.at[:, :, i // s : i // s + rows, i % s].add(g[i])
    x = jnp.zeros((channels, height, width // s, s, batch), g.dtype)
    by_column = by_column.reshape(k, channels, height, columns, batch)
    for j in range(k):
        x = x.at[:, :, j // s : j // s + columns, j % s].add(by_column[j])
    return (x.reshape(shape),)


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
