import functools
import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import models, tree
from mtl_jax.models import conv, strip, winograd
from mtl_jax.models.conv import conv_pool
from mtl_jax.types import InputError

OUT, BATCH = 3, 2
SHAPES = [(1, 3), (8, 3), (1, 5), (8, 5), (8, 7), (8, 9)]
"""Channels (few or many) and kernel size; strips of 4, 2 and none."""


def arguments(channels, k, side=4, seed=0):
    """Draw kernel, bias, and an input that the kernel maps to ``side x side``."""
    normal = np.random.default_rng(seed).normal
    size = side + k - 1
    arrays = {
        "kernel": normal(size=(k, k, channels, OUT)) / k,
        "bias": normal(size=OUT),
        "x": normal(size=(channels, size, size, BATCH)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def loss(args, form):
    """Average cubes, whose second derivatives are not zero; return outputs too."""
    outputs = conv_pool(args["x"], args["kernel"], args["bias"], form)
    return jnp.mean(outputs**3), outputs


@functools.cache
def value_and_grad(channels, k, form):
    program = jax.jit(lambda args: jax.value_and_grad(loss, has_aux=True)(args, form))
    (_, outputs), grads = program(arguments(channels, k))
    return outputs, grads


def close(a, b, tolerance=1e-5):
    chex.assert_trees_all_close(a, b, rtol=tolerance, atol=1e-5)


def by_loops(args):
    """Apply convolution, bias, pool and ReLU as their names say, in numpy."""
    x, kernel, bias = (np.asarray(args[n], np.float64) for n in ("x", "kernel", "bias"))
    k, side = kernel.shape[0], x.shape[1] - kernel.shape[0] + 1
    y = np.zeros((OUT, side, side, BATCH))
    for i in range(side):
        for j in range(side):
            window = x[:, i : i + k, j : j + k]  # [C, k, k, B]
            y[:, i, j] = np.einsum("cijb,ijco->ob", window, kernel) + bias[:, None]
    pooled = y.reshape(OUT, side // 2, 2, side // 2, 2, BATCH).max(axis=(2, 4))
    return np.maximum(pooled, 0)


@pytest.mark.parametrize("form", conv.FORMS)
@pytest.mark.parametrize(("channels", "k"), SHAPES)
def test_forms_agree_in_value_and_gradients(channels, k, form):
    outputs, grads = value_and_grad(channels, k, form)
    expected = by_loops(arguments(channels, k))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    close(grads, value_and_grad(channels, k, "lax")[1])


@pytest.fixture(scope="module", params=[1, 8], ids=["few", "many"])
def curvature(request):
    """Return a point, a direction, and the dense Hessian's product, by lax."""
    args = arguments(request.param, 3, side=2)
    direction = arguments(request.param, 3, side=2, seed=1)

    def product(args, direction):
        flat, unravel = ravel_pytree(args)

        def gradient(v):
            return ravel_pytree(jax.grad(lambda a: loss(a, "lax")[0])(unravel(v)))[0]

        hessian = jax.jacrev(gradient)(flat)
        vector, _ = ravel_pytree(direction)
        return unravel(jnp.matmul(hessian, vector, precision="highest"))

    return args, direction, jax.jit(product)(args, direction)


@pytest.mark.parametrize("form", conv.FORMS)
def test_forward_over_reverse_is_the_dense_hessian(curvature, form):
    args, direction, product = curvature

    @jax.jit
    def hvp(args, direction):
        return jax.jvp(jax.grad(lambda a: loss(a, form)[0]), (args,), (direction,))[1]

    close(hvp(args, direction), product, 1e-4)


@pytest.mark.parametrize("form", ["gemm", "gemm_forward"])
def test_reverse_over_reverse_is_the_dense_hessian(curvature, form):
    args, direction, product = curvature

    @jax.jit
    def hvp(args, direction):
        gradient = jax.grad(lambda a: loss(a, form)[0])
        return jax.vjp(gradient, args)[1](direction)[0]

    close(hvp(args, direction), product, 1e-4)


@pytest.mark.parametrize("channels", [1, 8])
def test_forward_mode_is_the_gradient(channels):
    args, direction = (arguments(channels, 3, side=2, seed=seed) for seed in range(2))
    _, slope = jax.jvp(lambda a: loss(a, "gemm_forward")[0], (args,), (direction,))
    grads = jax.grad(lambda a: loss(a, "lax")[0])(args)
    np.testing.assert_allclose(slope, tree.dot(grads, direction), rtol=1e-4)


def test_hand_written_gradient_blocks_forward_mode():
    args = arguments(8, 3, side=2)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda a: loss(a, "gemm")[0], (args,), (args,))


def convolutions(form, channels):
    """Count the convolutions in the program of gradients, one after another."""
    runs = jax.tree.map(lambda leaf: np.stack([leaf] * 2), arguments(channels, 3))
    program = jax.jit(
        lambda runs: jax.lax.map(jax.grad(lambda a: loss(a, form)[0]), runs)
    )
    text = program.lower(runs).compile().as_text() or ""
    assert re.search(r"\bwhile\(", text)
    return len(re.findall(r"\bconvolution\(|__onednn\$conv", text))


CONVOLUTIONS = [  # image, channels, kernel size, stride, dilation
    ((8, 12), 8, 3, 1, 1),  # Winograd, tiles of 4
    ((6, 8), 8, 3, 1, 1),  # tiles of 2
    ((5, 7), 8, 3, 1, 1),
    ((8, 6), 3, 3, 1, 1),
    ((8, 6), 8, 3, 2, 1),
    ((8, 6), 8, 1, 2, 1),
    ((8, 6), 3, 7, 2, 1),
    ((4, 5), 2, 5, 1, 1),
    ((8, 4), 8, 3, 1, 2),  # parts of 4 x 2
    ((6, 9), 8, 3, 1, 3),  # parts of 2 x 3
    ((5, 7), 8, 3, 1, 2),
    ((4, 9), 2, 3, 1, 5),  # the outer rows of the kernel see zeros only
    ((4, 3), 2, 3, 1, 4),  # and all but its middle
    ((1, 1), 2, 3, 1, 1),
]


@functools.cache
def padded_convolution(case, form):
    """Return outputs and gradients of a convolution with a border of zeros."""
    (height, width), channels, k, stride, dilation = case
    normal = np.random.default_rng(0).normal
    x = normal(size=(channels, height, width, BATCH)).astype(np.float32)
    kernel = normal(size=(k, k, channels, OUT)).astype(np.float32)

    def loss(x, kernel):
        outputs = conv.conv(x, kernel, stride, form, dilation)
        return jnp.mean(outputs**3) / channels, outputs

    program = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, outputs), grads = program(x, kernel)
    return outputs, grads


@pytest.mark.parametrize("form", ["gemm", "gemm_forward"])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_forms_of_the_padded_convolution_agree(case, form):
    actual, expected = (padded_convolution(case, f) for f in (form, "lax"))
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6 * scale)


@pytest.mark.parametrize("case", CONVOLUTIONS[-6:], ids=str)
def test_dilated_convolution_is_that_of_a_kernel_with_zeros(case):
    (height, width), channels, k, stride, dilation = case
    normal = np.random.default_rng(0).normal
    x = jnp.asarray(normal(size=(channels, height, width, BATCH)), jnp.float32)
    kernel = jnp.asarray(normal(size=(k, k, channels, OUT)), jnp.float32)
    side = dilation * (k - 1) + 1
    wide = jnp.zeros((side, side, channels, OUT))
    wide = wide.at[::dilation, ::dilation].set(kernel)
    outputs = conv.conv(x, kernel, stride, "lax", dilation)
    wanted = conv.conv(x, wide, stride, "gemm_forward")
    np.testing.assert_allclose(outputs, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (1, 2, 2, 1)], ids=str)
def test_max_pool_is_that_of_windows(shape):
    x = jax.random.normal(jax.random.key(0), shape)

    def by_windows(x):
        border = [(0, 0), (1, 1), (1, 1), (0, 0)]
        return jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), border
        )

    for pool in (conv.max_pool_3, by_windows):
        y, back = jax.vjp(pool, x)
        g = jax.random.normal(jax.random.key(1), y.shape)
        wanted = (by_windows(x), jax.vjp(by_windows, x)[1](g))
        close((y, back(g)), wanted)


@pytest.mark.parametrize("m", winograd.TILES)
def test_winograd_by_hand_is_the_transpose(m):
    x = jax.random.normal(jax.random.key(0), (2, 2 * m, 3 * m, 2))
    split: Any = lambda x: winograd._split(x, m)  # noqa: E731
    join: Any = lambda points: winograd._join(points, m)  # noqa: E731
    points, back = jax.vjp(split, x)
    outputs, join_back = jax.vjp(join, points)
    for value, pullback, at in ((points, back, x), (outputs, join_back, points)):
        seed = jax.random.normal(jax.random.key(1), value.shape)
        np.testing.assert_allclose(
            jnp.vdot(value, seed), jnp.vdot(at, pullback(seed)[0]), rtol=1e-4
        )


@pytest.mark.parametrize(("m", "k"), [(4, 5), (4, 3), (2, 5), (2, 7)])
def test_strips_by_hand_are_the_transpose(m, k):
    x = jax.random.normal(jax.random.key(0), (2, k + 1, 3 * m + k - 1, 2))
    kernel = jax.random.normal(jax.random.key(1), (k, k, 2, 3))
    y, back = jax.vjp(lambda x: strip.conv(x, kernel, m), x)
    seed = jax.random.normal(jax.random.key(2), y.shape)
    np.testing.assert_allclose(jnp.vdot(y, seed), jnp.vdot(x, back(seed)[0]), 1e-4)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a matter of CPUs")
@pytest.mark.parametrize("channels", [1, 8])
def test_no_convolution_in_loops_on_a_cpu(channels):
    assert convolutions("gemm", channels) == 0
    assert convolutions("lax", channels) > 0  # or the count sees nothing


@pytest.mark.parametrize(
    ("side", "channels", "padding"), [(8, 1, "same"), (8, 6, "same"), (10, 6, "valid")]
)
def test_features_are_the_same_in_every_form(side, channels, padding, key):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(2, side, side, channels)).astype(np.float32)
    options = {"channels": (2,), "hidden": 4, "padding": padding}
    trunks = [models.make("cnn", **options, conv=form) for form in conv.FORMS]
    variables = jax.jit(lambda: trunks[0].init(key, x, train=False))()
    features, *others = jax.jit(
        lambda v: [trunk.apply(v, x, train=False) for trunk in trunks]
    )(variables)
    assert features.shape == (2, 4) and (features != 0).any()
    for other in others:
        close(other, features)


@pytest.mark.parametrize("x_shape", [(3, 5), (3, 2, 2, 1)], ids=str)
def test_mlp_flattens(x_shape, key):
    trunk = models.make("mlp", widths=(6, 4))
    x = jax.random.normal(key, x_shape)
    features, variables = trunk.init_with_output(key, x, train=True)
    dense = [variables["params"][f"Dense_{layer}"] for layer in range(2)]
    expected = np.asarray(x).reshape(3, -1)
    for layer in dense:
        expected = np.maximum(expected @ layer["kernel"] + layer["bias"][None], 0)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_auto_is_the_form_for_the_backend():
    on_cpu = jax.default_backend() == "cpu"
    assert conv.check_form("auto") == ("gemm" if on_cpu else "lax")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("alexnet", {}, ["'alexnet'", "cnn, deeplab, lenet, mlp, resnet"]),
        ("cnn", {"widths": (3,)}, ["'widths'", "channels, kernel_size"]),
        ("cnn", {"conv": "fft"}, ["'fft'", "auto, lax, gemm"]),
        ("cnn", {"padding": "full"}, ["'full'", "same, valid"]),
        ("cnn", {"kernel_size": 4}, ["kernel_size 4", "odd"]),
        ("cnn", {"kernel_size": -1}, ["kernel_size -1", "positive"]),
        ("cnn", {"channels": ()}, ["channels are ()"]),
        ("cnn", {"channels": (4, 0)}, ["channels are (4, 0); 0 is unfit"]),
        ("cnn", {"hidden": 0}, ["hidden 0"]),
        ("mlp", {"widths": ()}, ["widths are ()"]),
        ("mlp", {"widths": (10**20,)}, ["100000000000000000000 is unfit"]),
        ("mlp", {"widths": (3, 0)}, ["widths are (3, 0); 0 is unfit", "positive"]),
    ],
)
def test_bad_options(name, options, words):
    with pytest.raises(InputError) as error:
        models.make(name, **options)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("side", [7, 2])
def test_images_that_cannot_be_halved(side, key):
    trunk = models.make("cnn", channels=(2,), padding="valid")
    with pytest.raises(InputError, match=f"{side}x{side} inputs"):
        trunk.init(key, jnp.zeros((1, side, side, 1)), train=False)
