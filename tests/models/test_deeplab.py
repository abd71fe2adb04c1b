import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models.deeplab import _resize
from mtl_jax.types import InputError

OPTIONS = {"widths": (2, 3, 4, 5), "channels": 4, "rates": (1, 2, 3)}


def made(options, side=16, width=3):
    """Make trunk, head, their variables, images and outputs."""
    trunk: Any = models.make("deeplab", **options)
    head: Any = trunk.head(width)
    x = jax.random.normal(jax.random.key(0), (2, side, 2 * side, 3))

    @jax.jit
    def init():
        z, variables = trunk.init_with_output(jax.random.key(1), x, train=False)
        y, of_head = head.init_with_output(jax.random.key(2), z, train=False)
        return variables, of_head, z, y

    return trunk, head, x, *init()


def test_outputs_are_of_the_size_of_the_images():
    *_, z, y = made(OPTIONS)
    assert z.shape == (2, 2, 4, 20) and y.shape == (2, 16, 32, 3)


@pytest.mark.parametrize(
    ("blocks", "torchvision"), [((3, 4, 6, 3), 25_557_032), ((3, 4, 23, 3), 44_549_160)]
)
def test_full_size(blocks, torchvision):
    options = {"widths": (64, 128, 256, 512), "blocks": blocks, "channels": 256}
    trunk: Any = models.make("deeplab", **options)
    x = jnp.zeros((1, 128, 256, 3))
    key = jax.random.key(0)
    z, variables = jax.eval_shape(lambda: trunk.init_with_output(key, x, train=False))
    assert z.shape == (1, 16, 32, 2048)
    count = torchvision - 2049 * 1000  # its head of 1000 classes
    assert sum(n.size for n in jax.tree.leaves(variables["params"])) == count
    head = trunk.head(7)
    y, variables = jax.eval_shape(
        lambda: head.init_with_output(key, jnp.zeros(z.shape), train=False)
    )
    assert y.shape == (1, 128, 256, 7)
    convolutions = 256 * (2048 * (1 + 3 * 9 + 1) + 5 * 256 + 9 * 256)
    count = convolutions + 7 * 2 * 256 + 7 * 256 + 7
    assert sum(n.size for n in jax.tree.leaves(variables["params"])) == count


def test_resize_puts_corners_on_corners():
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1) ** 2
    y = np.asarray(_resize(jnp.asarray(x)))[0, ..., 0]
    assert y.shape == (24, 32)
    corners = x[0, ..., 0][np.ix_([0, -1], [0, -1])]
    np.testing.assert_allclose(y[np.ix_([0, -1], [0, -1])], corners)
    rows = [np.interp(np.linspace(0, 3, 32), range(4), row) for row in x[0, ..., 0]]
    wanted = [
        np.interp(np.linspace(0, 2, 24), range(3), col) for col in np.transpose(rows)
    ]
    np.testing.assert_allclose(y, np.transpose(wanted), rtol=1e-5, atol=1e-5)


def test_one_position_is_spread():
    y = _resize(jnp.full((1, 1, 1, 1), 3.0))
    np.testing.assert_array_equal(y, np.full((1, 8, 8, 1), 3.0))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a matter of CPUs")
@pytest.mark.parametrize("form", ["lax", "gemm", "gemm_forward"])
def test_no_convolution_in_loops_on_a_cpu(form):
    trunk, head, x, variables, of_head, *_ = made({**OPTIONS, "conv": form})
    start = variables["params"], of_head["params"]

    def loss(params, x):
        z = trunk.apply({**variables, "params": params[0]}, x, train=False)
        y = head.apply({**of_head, "params": params[1]}, z, train=False)
        return jnp.mean(y**2)

    program = jax.jit(lambda p, x: jax.lax.map(lambda x: jax.grad(loss)(p, x), x))
    text = program.lower(start, x[:, None]).compile().as_text() or ""
    assert re.search(r"\bwhile\(", text)
    count = len(re.findall(r"\bconvolution\(|__onednn\$conv", text))
    assert (count > 0) == (form == "lax")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": (4, 4), "blocks": (1, 1)}, "widths (4, 4) must be of 4 stages"),
        ({"widths": (4, 0, 4, 4)}, "widths are (4, 0, 4, 4); 0"),
        ({"channels": 0}, "channels 0"),
        ({"rates": (1, 0)}, "rates are (1, 0); 0"),
        ({"norm": "layer"}, "'layer' is not one of: batch, group"),
        ({"conv": "fft"}, "'fft'"),
    ],
    ids=str,
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=re.escape(words)):
        models.make("deeplab", **options)


def test_images_that_strides_do_not_divide():
    with pytest.raises(InputError, match="divisible by 8"):
        made(OPTIONS, side=12)
