"""Architectures against LibMTL's classes on copied weights: outputs and gradients.

Needs torch and LibMTL (``pip install --no-deps LibMTL``, 1.1.5); skipped without. It
imports a name that torchvision no longer has, for pre-trained weights that nothing here
asks for: a stand-in takes its place.
"""

import sys
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models.head import PENALTIES
from mtl_jax.training.setting import from_dataset
from tests.models.architectures import (
    CLASSES,
    CNN,
    MLP,
    SIDE,
    B,
    T,
    copy_of,
    dataset,
    setting,
    start,
    task,
)

torch = pytest.importorskip("torch")
TASKS = [f"task_{t}" for t in range(T)]


@pytest.fixture(scope="module")
def libmtl():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("", ".models", ".models.utils"):
            stand_in: Any = ModuleType(f"torchvision{name}")
            stand_in.load_state_dict_from_url = None
            patch.setitem(sys.modules, f"torchvision{name}", stand_in)
        yield pytest.importorskip("LibMTL.architecture")


def put(parameter, array):
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(array)))


def put_dense(layer, params):
    put(layer.weight, np.asarray(params["kernel"]).T)
    put(layer.bias, params["bias"])


def put_conv(layer, params):
    put(layer.weight, np.asarray(params["kernel"]).transpose(3, 2, 0, 1))
    if layer.bias is not None:
        put(layer.bias, params.get("bias", np.zeros(layer.bias.shape, np.float32)))


def put_norm(layer, params):
    put(layer.weight, params["scale"])
    put(layer.bias, params["bias"])


def torch_mlp():
    nn = torch.nn
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(SIDE**2, 6), nn.ReLU(), nn.Linear(6, 7), nn.ReLU())
    )


def torch_cnn():
    nn = torch.nn
    size = 3 * (SIDE // 2) ** 2
    conv = nn.Conv2d(1, 3, 3, padding=1)
    return nn.Sequential(
        *(conv, nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(size, 7), nn.ReLU())
    )


def put_encoder(encoder, params):
    layers = [layer for layer in encoder if list(layer.parameters())]
    for layer, name in zip(layers, params, strict=True):
        (put_conv if name.startswith("Conv") else put_dense)(layer, params[name])


ENCODERS = {"mlp": (MLP, torch_mlp), "cnn": (CNN, torch_cnn)}


def decoders():
    return torch.nn.ModuleDict({t: torch.nn.Linear(7, CLASSES) for t in TASKS})


def compare(made, params, state, peer, x, theirs, ours=lambda g: g, train=False):
    """Compare outputs and all shared gradients of every task, in float64.

    Args:
      made: the setting.
      params: its parameters.
      state: its state.
      peer: LibMTL's module.
      x: inputs.
      theirs: from LibMTL's gradients, by its parameters' names, to leaves as ours.
      ours: what is made of our gradients of the shared parameters.
      train: in training mode.
    """
    peer.double().train(train)
    slopes = np.random.default_rng(2).normal(size=(B, CLASSES))
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float64))

    @jax.jit
    def pulled_back(params, state):
        def loss(params):
            z = applied(made.trunk, params.shared, state.trunk, x)
            out = applied(made.head, params.heads, state.heads, z)
            return (out * slopes).sum(), out

        return jax.grad(loss, has_aux=True)(params)

    def applied(module, params, state, inputs):
        variables = {"params": params, **state}
        kept = [*state, PENALTIES]
        return module.apply(variables, inputs, train, mutable=kept)[0]

    with jax.enable_x64(True):
        params, state, x = jax.tree.map(as_double, (params, state, x))
        for t, name in enumerate(TASKS):
            grads, out = pulled_back(*task(made, params, state, t))
            peer.zero_grad()
            outs = peer(images)[name]
            (outs * torch.from_numpy(slopes)).sum().backward()
            np.testing.assert_allclose(out, outs.detach(), rtol=1e-7, atol=1e-7)
            by_name = {
                key: np.zeros(p.shape) if p.grad is None else p.grad.numpy()
                for key, p in peer.named_parameters()
            }
            expected = jax.tree.leaves(theirs(by_name))
            assert max(np.abs(leaf).max() for leaf in expected) > 0.01
            for a, b in zip(jax.tree.leaves(ours(grads.shared)), expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)


def as_double(leaf):
    is_number = np.issubdtype(leaf.dtype, np.floating)
    return np.asarray(leaf, np.float64 if is_number else leaf.dtype)


def dense_grads(grads, name):
    return {"kernel": grads[f"{name}.weight"].T, "bias": grads[f"{name}.bias"]}


def conv_grads(grads, name):
    kernel = grads[f"{name}.weight"].transpose(2, 3, 1, 0)
    bias = f"{name}.bias"
    return {"kernel": kernel, "bias": grads[bias]} if bias in grads else kernel


def expert_grads(kind, count):
    """Gradients of shared experts, from LibMTL's to ours."""
    places = {
        "mlp": {"Dense_0": 1, "Dense_1": 3},
        "cnn": {"ConvPool_0": 0, "Dense_0": 4},
    }

    def of_expert(grads, k):
        return {
            name: (conv_grads if name.startswith("Conv") else dense_grads)(
                grads, f"experts_shared.{k}.{place}"
            )
            for name, place in places[kind].items()
        }

    def stacked(grads):
        experts = [of_expert(grads, k) for k in range(count)]
        return {"encoder": jax.tree.map(lambda *leaves: np.stack(leaves), *experts)}

    return stacked


def images(side=SIDE, count=B):
    return np.random.default_rng(3).normal(size=(count, side, side, 1)).astype("f4")


def mixture(libmtl, name, kind, **kwargs) -> Any:
    """A setting and LibMTL's module with its weights."""
    encoder, theirs = ENCODERS[kind]
    made, (params, state) = setting(name, encoder), start(name, encoder)
    peer = getattr(
        libmtl, {"mmoe": "MMoE", "cgc": "CGC", "dselect_k": "DSelect_k"}[name]
    )(
        TASKS,
        theirs,
        decoders(),
        False,
        False,
        "cpu",
        img_size=[1, SIDE, SIDE],
        **kwargs,
    )
    for k, expert in enumerate(peer.experts_shared):
        put_encoder(expert, copy_of(params.shared["encoder"], k))
    for t, key in enumerate(TASKS):
        head = copy_of(params.heads, t)
        put_dense(peer.decoders[key], head["head"])
        if name != "dselect_k":
            put_dense(peer.gate_specific[key][0], head["gate"]["Dense_0"])
    return (made, params, state), peer


@pytest.mark.parametrize("kind", ENCODERS)
def test_mmoe(libmtl, kind):
    (made, params, state), peer = mixture(libmtl, "mmoe", kind, num_experts=[3])
    compare(made, params, state, peer, images(), expert_grads(kind, 3))


@pytest.mark.parametrize("kind", ENCODERS)
def test_cgc(libmtl, kind):
    (made, params, state), peer = mixture(libmtl, "cgc", kind, num_experts=[2, 2, 2, 2])
    for t, key in enumerate(TASKS):
        for k, expert in enumerate(peer.experts_specific[key]):
            head = copy_of(params.heads, t)
            put_encoder(expert, copy_of(head["encoder"], k))
    compare(made, params, state, peer, images(), expert_grads(kind, 2))


@pytest.mark.parametrize("kind", ENCODERS)
def test_dselect_k(libmtl, kind):
    options = {"num_experts": [3], "num_nonzeros": 2, "kgamma": 1.0}
    (made, params, state), peer = mixture(libmtl, "dselect_k", kind, **options)
    # With NumPy 2 its text "0" is true, and all codes are 1: those that it means.
    codes = torch.tensor([[0, 0], [0, 1], [1, 0]], dtype=torch.bool)
    peer._binary_codes = codes.unsqueeze(0)
    for t, key in enumerate(TASKS):
        gate = copy_of(params.heads, t)["gate"]
        put_dense(peer._z_logits[key], gate["bits"])
        put_dense(peer._w_logits[key], gate["selectors"])
    compare(made, params, state, peer, images(), expert_grads(kind, 3))


class Stages(torch.nn.Module):
    """What LibMTL takes for a residual network: a stem, and four layers."""

    def __init__(self, layers, stem=None):
        super().__init__()
        nothing = torch.nn.Identity
        self.conv1, self.bn1, self.relu = stem or (nothing(), nothing(), nothing())
        self.maxpool, self.feature_dim = nothing(), 0
        for number, layer in enumerate(layers, start=1):
            setattr(self, f"layer{number}", layer)


def stitched(kind):
    """An encoder of four stages, ours and theirs, and how gradients correspond."""
    nn = torch.nn
    if kind == "mlp":
        widths = (6, 5, 4, 7)
        sizes = (SIDE**2, *widths)

        def layers():
            return [
                nn.Sequential(nn.Flatten(), nn.Linear(a, b), nn.ReLU())
                for a, b in zip(sizes, sizes[1:], strict=False)
            ]

        return models.make("mlp", widths=widths), layers, (1,) * 4

    def layers():
        sizes = ((1, 2), (2, 3), (3, 4))
        convs = [
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.MaxPool2d(2), nn.ReLU())
            for a, b in sizes
        ]
        return [*convs, nn.Sequential(nn.Flatten(), nn.Linear(4, 7), nn.ReLU())]

    return models.make("cnn", channels=(2, 3, 4), hidden=7), layers, (0, 0, 0, 1)


@pytest.mark.parametrize("kind", ENCODERS)
def test_cross_stitch(libmtl, kind):
    encoder, layers, places = stitched(kind)
    side = SIDE if kind == "mlp" else 8
    trunk = models.make("cross_stitch", encoder=encoder)
    made: Any = from_dataset("stitched", dataset(side=side), trunk)
    params, state = jax.jit(made.init)(jax.random.key(0), np.arange(T))
    peer = libmtl.Cross_stitch(
        TASKS, lambda: Stages(layers()), decoders(), False, False, "cpu"
    )
    net, shared = peer.encoder, dict(params.shared)
    # LibMTL 1.1.5 has one row of units for all columns; a later one a row for each.
    rows = T if net.cross_unit.ndim == 3 else 1
    units = np.random.default_rng(4).normal(size=(4, rows, T)).astype(np.float32)
    put(net.cross_unit, units.reshape(net.cross_unit.shape))
    for n in (1, 2, 3):
        shared[f"stitch_{n}"] = np.broadcast_to(units[n - 1], (T, T))
    params = params._replace(shared=shared)
    for t, key in enumerate(TASKS):
        for number, place in enumerate(places):
            bias, kernel = jax.tree.leaves(copy_of(shared[f"stage_{number}"], t))
            layer = net.resnet_layer[str(number)][t][place]
            copied = {"bias": bias, "kernel": kernel}
            (put_dense if place else put_conv)(layer, copied)
        put_dense(peer.decoders[key], copy_of(params.heads["head"], t))

    def theirs(grads):
        tree = {}
        for number, place in enumerate(places):
            columns = [
                (dense_grads if place else conv_grads)(
                    grads, f"encoder.resnet_layer.{number}.{t}.{place}"
                )
                for t in range(T)
            ]
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *columns)
            tree[f"stage_{number}"] = stacked
        for n in (1, 2, 3):
            tree[f"stitch_{n}"] = grads["encoder.cross_unit"][n - 1].reshape(rows, T)
        return tree

    def ours(grads):  # rows that are one have the sum of their gradients
        return {
            name: part.reshape(rows, -1, T).sum(axis=1) if "stitch" in name else part
            for name, part in grads.items()
        }

    compare(made, params, state, peer, images(side), theirs, ours)


WIDTHS = (64, 128, 256, 512)


def put_conv_norm(conv, norm, params):
    put_conv(conv, params)
    put_norm(norm, params["norm"])


def put_block(block, params):
    put_conv_norm(block.conv1, block.bn1, params["ConvNorm_0"])
    put_conv_norm(block.conv2, block.bn2, params["ConvNorm_1"])
    if block.downsample is not None:
        conv, norm = block.downsample
        put_conv_norm(conv, norm, params["ConvNorm_2"])


def block_grads(grads, name):
    places = [("conv1", "bn1"), ("conv2", "bn2"), ("downsample.0", "downsample.1")]
    return {
        f"ConvNorm_{number}": {
            "kernel": conv_grads(grads, f"{name}.{conv}"),
            "norm": {
                "scale": grads[f"{name}.{norm}.weight"],
                "bias": grads[f"{name}.{norm}.bias"],
            },
        }
        for number, (conv, norm) in enumerate(places)
        if f"{name}.{conv}.weight" in grads
    }


def test_mtan(libmtl):
    nn = torch.nn
    resnet = sys.modules["LibMTL.model.resnet"]

    def residual():
        layers, before = [], WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            down = stage and nn.Sequential(
                nn.Conv2d(before, width, 1, 2, bias=False), nn.BatchNorm2d(width)
            )
            first = resnet.BasicBlock(before, width, 2 if stage else 1, down or None)
            layers.append(nn.Sequential(first, resnet.BasicBlock(width, width)))
            before = width
        stem = nn.Conv2d(1, WIDTHS[0], 3, padding=1, bias=False)
        return Stages(layers, (stem, nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()))

    def decoder():
        pool = nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(pool, nn.Flatten(), nn.Linear(WIDTHS[-1], CLASSES))

    trunk = models.make("mtan", widths=WIDTHS)
    made: Any = from_dataset("attending", dataset(side=8, one_input=True), trunk)
    params, state = jax.jit(made.init)(jax.random.key(0), np.arange(T))
    heads = nn.ModuleDict({t: decoder() for t in TASKS})
    peer = libmtl.MTAN(TASKS, residual, heads, False, False, "cpu")
    net = peer.encoder
    put_conv_norm(net.shared_conv[0], net.shared_conv[1], params.shared["ConvNorm_0"])
    for stage in range(4):
        first, last = net.shared_layer[str(stage)]
        put_block(first[0], params.shared[f"Block_{2 * stage}"])
        put_block(last, params.shared[f"Block_{2 * stage + 1}"])
    for t, key in enumerate(TASKS):
        head = copy_of(params.heads, t)
        put_dense(peer.decoders[key][2], head["head"])
        for stage in range(4):
            conv, norm, _, mask, mask_norm, _ = net.encoder_att[str(stage)][t]
            put_conv_norm(conv, norm, head[f"inner_{stage}"])
            put_conv_norm(mask, mask_norm, head[f"mask_{stage}"])
    # LibMTL's tasks share the blocks between the stages of attention, which its shared
    # gradients leave out; here every task has its own.
    for stage in (1, 2, 3):
        name = f"block_{stage}"
        block = copy_of(params.heads[name], 0)
        put_block(net.encoder_block_att[stage - 1], block)
        params.heads[name] = jax.tree.map(lambda leaf: np.stack([leaf] * T), block)

    def theirs(grads):
        stem = {
            "kernel": conv_grads(grads, "encoder.shared_conv.0"),
            "norm": {
                "scale": grads["encoder.shared_conv.1.weight"],
                "bias": grads["encoder.shared_conv.1.bias"],
            },
        }
        blocks = {}
        for stage in range(4):
            layer = f"encoder.shared_layer.{stage}"
            blocks[f"Block_{2 * stage}"] = block_grads(grads, f"{layer}.0.0")
            blocks[f"Block_{2 * stage + 1}"] = block_grads(grads, f"{layer}.1")
        return {"ConvNorm_0": stem, **blocks}

    compare(made, params, state, peer, images(8), theirs, train=True)
