"""LeNet against the same network of flax's own layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import fashion_mtl, mnists
from mtl_jax import models
from mtl_jax.types import InputError


class Peer(nn.Module):
    """The same network in NHWC."""

    channels: tuple[int, int]
    hidden: int

    @nn.compact
    def __call__(self, x):
        for channels in self.channels:
            x = nn.Conv(channels, (5, 5), padding="VALID")(x)
            x = nn.relu(nn.max_pool(x, (2, 2), (2, 2)))
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        return nn.relu(nn.Dense(self.hidden)(x))


@pytest.mark.parametrize(
    "sizes",
    [{}, {"channels": (20, 50), "hidden": 500}],
    ids=["of Sener & Koltun", "of Caffe"],
)
def test_lenet(sizes, key):
    x = jax.random.uniform(key, (3, 28, 28, 1))
    trunk = models.make("lenet", **sizes)
    features, variables = jax.jit(lambda: trunk.init_with_output(key, x, train=False))()
    options = {"channels": (10, 20), "hidden": 50, **sizes}
    layers = {
        {"ConvPool": "Conv"}.get(name[:-2], name[:-2]) + name[-2:]: layer
        for name, layer in variables["params"].items()
    }
    expected: Any = Peer(**options).apply({"params": layers}, x)
    assert features.shape == (3, options["hidden"])
    assert (features > 0).any() and variables.keys() == {"params"}
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("setting", [fashion_mtl, mnists])
def test_settings_of_the_mnist_family_are_on_it(setting):
    assert setting.get_config().model.name == "lenet"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": (10, 0)}, r"lenet channels are \(10, 0\); 0 is unfit"),
        ({"hidden": 0}, "lenet hidden is 0; .* at least 1"),
        ({"kernel_size": 3}, "'kernel_size'.*channels, hidden, conv"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        models.make("lenet", **options)


def test_images_that_are_too_small(key):
    with pytest.raises(InputError, match="5x5 .* of 2x2 .*fewer channels, or a cnn"):
        models.make("lenet").init(key, jnp.ones((1, 8, 8, 1)), train=False)
