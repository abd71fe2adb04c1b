import functools
import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mtl_jax import models
from mtl_jax.types import InputError

OPTIONS = {"widths": (4, 6), "blocks": (1, 1)}
FORMS = ("lax", "gemm", "gemm_forward")


class Peer(nn.Module):
    """The same network of flax's own layers, in NHWC."""

    stem_stride: int

    @nn.compact
    def __call__(self, x, train):
        def conv_norm(x, channels, k, stride):
            border = (k // 2, k // 2)
            x = nn.Conv(channels, (k, k), stride, [border] * 2, use_bias=False)(x)
            return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5)(x)

        x = nn.relu(conv_norm(x, 4, 3, self.stem_stride))
        for channels, stride in ((4, 1), (6, 2)):
            y = nn.relu(conv_norm(x, channels, 3, stride))
            y = conv_norm(y, channels, 3, 1)
            if x.shape != y.shape:
                x = conv_norm(x, channels, 1, stride)
            x = nn.relu(x + y)
        return x.mean(axis=(1, 2))


def as_ours(peer, variables):
    """Make our variables of the peer's: its layers are numbered in order of making."""
    count = len(peer["params"]) // 2
    layers = sorted(places(variables["params"]), key=order)
    assert len(layers) == count
    ours = jax.tree.map(lambda leaf: leaf, variables)
    for number, path in enumerate(layers):
        for kind in ("params", "batch_stats"):
            node = ours[kind]
            for name in path:
                node = node[name]
            node["norm"] = peer[kind][f"BatchNorm_{number}"]
            if kind == "params":
                node["kernel"] = peer[kind][f"Conv_{number}"]["kernel"]
    return ours


def places(tree, path=()):
    """List the paths of all ConvNorm modules."""
    for name, child in tree.items():
        if name.startswith("ConvNorm"):
            yield (*path, name)
        elif name.startswith("Block"):
            yield from places(child, (*path, name))


def order(path):
    """Sort the stem before blocks, then by number."""
    return [(len(path) > 1, int(name.split("_")[1])) for name in path]


@functools.partial(jax.jit, static_argnums=0)
def evaluated(module, variables, x):
    return module.apply(variables, x, train=False)


def problem(stem_stride, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.normal(keys[0], (3, 8 * stem_stride, 8 * stem_stride, 3))
    peer = Peer(stem_stride)
    return peer, jax.jit(lambda: peer.init(keys[1], x, train=False))(), x


def run(module, variables, x):
    """Return features in evaluation, and in training with statistics and gradients."""

    def loss(params):
        features, updated = module.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.mean(features**3), (features, updated["batch_stats"])

    (_, aux), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return module.apply(variables, x, train=False), *aux, grads


@functools.cache
def expected(stem_stride):
    """Return our variables, and what flax's layers make of the same."""
    peer, theirs, x = problem(stem_stride)
    trunk = models.make("resnet", **OPTIONS, stem_stride=stem_stride)
    init = jax.jit(lambda: trunk.init(jax.random.key(0), x, train=False))
    ours = as_ours(theirs, init())
    evaluated, features, stats, grads = jax.jit(lambda v: run(peer, v, x))(theirs)
    wanted = as_ours({"params": grads, "batch_stats": stats}, ours)
    return ours, x, (evaluated, features, wanted["batch_stats"], wanted["params"])


@pytest.mark.parametrize(
    ("form", "stem_stride"),
    [("lax", 1), ("gemm", 1), ("gemm", 2), ("gemm_forward", 2)],
)
def test_it_is_the_network_of_flax_layers(form, stem_stride):
    ours, x, wanted = expected(stem_stride)
    trunk = models.make("resnet", **OPTIONS, stem_stride=stem_stride, conv=form)
    actual = jax.jit(lambda v: run(trunk, v, x))(ours)
    assert jax.tree.structure(actual) == jax.tree.structure(wanted)
    for a, b in zip(*map(jax.tree.leaves, (actual, wanted)), strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=3e-5 * scale)


@pytest.mark.parametrize(
    ("stem", "count"),
    [
        # 11,173,962 of the usual one for CIFAR, less its head of 10 classes.
        ("cifar", 11_168_832),
        # 11,689,512 of torchvision's, less its head of 1000.
        ("imagenet", 11_176_512),
    ],
)
def test_resnet_18_has_its_parameters(stem, count):
    trunk = models.make(
        "resnet", widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2), stem=stem
    )
    x = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda: trunk.init(jax.random.key(0), x, train=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count


def test_windows_of_features_as_for_celeba():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    whole, windows = (models.make("resnet", **OPTIONS, pool=pool) for pool in (0, 2))
    variables = jax.jit(lambda: whole.init(jax.random.key(0), x, train=False))()
    features: Any = evaluated(windows, variables, x)
    assert features.shape == (2, 6 * 2 * 2)
    mean = features.reshape(2, 6, 4).mean(axis=2)
    wanted: Any = evaluated(whole, variables, x)
    np.testing.assert_allclose(mean, wanted, rtol=1e-5, atol=1e-6)


def test_group_norm_keeps_no_statistics():
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 3))
    trunk = models.make("resnet", **OPTIONS, norm="group")
    init = jax.jit(lambda: trunk.init(jax.random.key(0), x, train=False))
    variables: Any = init()
    assert set(variables) == {"params"}
    features: Any = jax.jit(lambda v: trunk.apply(v, x, train=True))(variables)
    alone: Any = evaluated(trunk, variables, x[:1])
    np.testing.assert_allclose(features[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet", OPTIONS), ("deeplab", {"widths": (2, 2, 2, 2), "channels": 4})],
)
def test_blocks_computed_again_are_the_same(name, options):
    x = jax.random.normal(jax.random.key(0), (3, 16, 16, 3))
    plain, again = (
        models.make(name, **options, remat=remat) for remat in (False, True)
    )
    start = [
        jax.jit(lambda t=t: t.init(jax.random.key(0), x, train=False))()
        for t in (plain, again)
    ]
    chex.assert_trees_all_equal(*start)
    recomputed, wanted = (
        jax.jit(lambda v, t=t: run(t, v, x))(start[0]) for t in (again, plain)
    )
    for a, b in zip(*map(jax.tree.leaves, (recomputed, wanted)), strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=3e-5 * scale)
    assert "remat" in str(jax.make_jaxpr(lambda v: run(again, v, x))(start[0]))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a matter of CPUs")
@pytest.mark.parametrize("form", FORMS)
def test_no_convolution_in_loops_on_a_cpu(form):
    trunk: Any = models.make("resnet", **OPTIONS, conv=form)
    x = jnp.ones((2, 2, 8, 8, 3))
    variables = trunk.init(jax.random.key(0), x[0], train=False)

    def loss(params, x):
        features = trunk.apply({**variables, "params": params}, x, train=False)
        return jnp.mean(features**2)

    program = jax.jit(
        lambda params, x: jax.lax.map(lambda x: jax.grad(loss)(params, x), x)
    )
    text = program.lower(variables["params"], x).compile().as_text() or ""
    assert re.search(r"\bwhile\(", text)
    count = len(re.findall(r"\bconvolution\(|__onednn\$conv", text))
    assert (count > 0) == (form == "lax")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": ()}, "widths are ()"),
        ({"widths": (4, 0)}, "widths are (4, 0); 0"),
        ({"widths": (4, 4)}, "blocks (1, 1, 1, 1)"),
        ({"blocks": (1, 1, 0, 1)}, "blocks are (1, 1, 0, 1); 0"),
        ({"stem_stride": 3}, "stem_stride 3"),
        ({"conv": "fft"}, "'fft'"),
        ({"stem": "vgg"}, "'vgg' is not one of: cifar, imagenet"),
        ({"stem": "imagenet", "stem_stride": 2}, "leave it 1"),
        ({"norm": "layer"}, "'layer' is not one of: batch, group"),
        ({"pool": -1}, "pool -1"),
    ],
    ids=str,
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=re.escape(words)):
        models.make("resnet", **options)


def test_windows_that_do_not_fit():
    trunk = models.make("resnet", **OPTIONS, pool=3)
    with pytest.raises(InputError, match="pool 3 does not divide maps of 4x4"):
        jax.eval_shape(
            lambda: trunk.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
        )


@pytest.mark.parametrize("shape", [(1, 12, 8, 3), (1, 8, 8), (8,)], ids=str)
def test_inputs_that_strides_do_not_divide(shape):
    trunk = models.make("resnet")
    with pytest.raises(InputError, match="divisible by 8"):
        trunk.init(jax.random.key(0), jnp.zeros(shape), train=False)
