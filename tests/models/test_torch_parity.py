"""Residual trunks and the pixel head against the same in plain torch.

Weights go to our side by a file, as users' do; so do torch's gradients and statistics,
to be compared name by name.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mtl_jax import models
from mtl_jax.models import weights

torch: Any = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional

TOLERANCE = 1e-4
SIDE = 32
"""At 16 torch itself is 1e-4 from what it finds in float64, for few positions."""
FORMS = pytest.mark.parametrize("form", ["lax", "gemm"])
TRUNKS = {
    "cifar": ("resnet", {"widths": (4, 6), "blocks": (2, 1)}),
    "strided": ("resnet", {"widths": (4, 6), "blocks": (1, 1), "stem_stride": 2}),
    "imagenet": (
        "resnet",
        {"widths": (4, 6), "blocks": (2, 2), "stem": "imagenet", "pool": 2},
    ),
    "dilated": (
        "deeplab",
        {"widths": (4, 6, 8, 10), "blocks": (1, 2, 2, 2), "channels": 6},
    ),
}


def conv_norm(channels, out, k, stride=1, dilation=1):
    border = dilation * (k // 2)
    conv = nn.Conv2d(channels, out, k, stride, border, dilation, bias=False)
    return conv, nn.BatchNorm2d(out)


class Block(nn.Module):
    """Basic block, or bottleneck, with torchvision's names."""

    def __init__(self, channels, width, stride, dilation, bottleneck):
        super().__init__()
        self.count = 3 if bottleneck else 2
        out = 4 * width if bottleneck else width
        if bottleneck:
            self.conv1, self.bn1 = conv_norm(channels, width, 1)
            self.conv2, self.bn2 = conv_norm(width, width, 3, stride, dilation)
            self.conv3, self.bn3 = conv_norm(width, out, 1)
        else:
            self.conv1, self.bn1 = conv_norm(channels, width, 3, stride)
            self.conv2, self.bn2 = conv_norm(width, width, 3)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(*conv_norm(channels, out, 1, stride))

    def forward(self, x):
        y = x
        for n in range(1, self.count + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            y = F.relu(y) if n < self.count else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """ResNet with the stems of `resnet`, or the dilated one of `deeplab`."""

    def __init__(
        self, widths, blocks, stem="cifar", stem_stride=1, pool=0, channels=None
    ):
        super().__init__()
        self.dilated, self.pool = channels is not None, pool
        self.big = stem == "imagenet" or self.dilated
        k, stride = (7, 2) if self.big else (3, stem_stride)
        self.conv1, self.bn1 = conv_norm(3, widths[0], k, stride)
        self.count, channels, before = len(widths), widths[0], 1
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            dilation = 2 ** (stage - 1) if self.dilated and stage > 1 else 1
            stride = 2 if stage and dilation == 1 else 1
            layer = []
            for place in range(count):
                rate = dilation if place else before
                step = 1 if place else stride
                layer.append(Block(channels, width, step, rate, self.dilated))
                channels = 4 * width if self.dilated else width
            before = dilation
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1) if self.big else x
        for stage in range(self.count):
            x = getattr(self, f"layer{stage + 1}")(x)
        if self.dilated:
            return x.permute(0, 2, 3, 1)
        if self.pool:
            return F.avg_pool2d(x, self.pool).flatten(1)
        return x.mean((2, 3))


class Head(nn.Module):
    """DeepLabV3's head; ``layers`` in the order in which ours makes them."""

    def __init__(self, features, width, channels, rates):
        super().__init__()
        kinds = [(features, 1, 1), *((features, 3, rate) for rate in rates)]
        kinds += [(features, 1, 1), ((len(rates) + 2) * channels, 1, 1)]
        kinds += [(channels, 3, 1)]
        made = [conv_norm(ins, channels, k, 1, rate) for ins, k, rate in kinds]
        self.layers = nn.ModuleList(nn.Sequential(*layer, nn.ReLU()) for layer in made)
        self.last = nn.Conv2d(channels, width, 1)

    def forward(self, x):
        x = x.permute(0, 3, 1, 2)
        *pyramid, pooled, project, after = self.layers
        size = x.shape[2:]
        branches = [layer(x) for layer in pyramid]
        mean = pooled(F.adaptive_avg_pool2d(x, 1))
        branches.append(F.interpolate(mean, size, mode="bilinear", align_corners=False))
        y = self.last(after(project(torch.cat(branches, 1))))
        size = [8 * side for side in size]
        y = F.interpolate(y, size, mode="bilinear", align_corners=True)
        return y.permute(0, 2, 3, 1)


class Findings(NamedTuple):
    """Results of evaluation, then of a pass in training mode with the loss below."""

    evaluated: Any
    outputs: Any
    stats: Any
    grads: Any
    x_grad: Any


def seeds(like, seed=1):
    """Make the weights of outputs in the loss."""
    return np.random.default_rng(seed).normal(size=like).astype(np.float32)


def images(side, batch=4):
    return np.random.default_rng(0).normal(size=(batch, side, side, 3)).astype("f4")


def unlike(module, seed=0):
    """Make weights and statistics as after training, none 0 or 1."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if "running_var" in name or (value.ndim == 1 and name.endswith("weight")):
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1:
                value.normal_(0, 0.2)
            elif value.ndim == 4:
                nn.init.kaiming_normal_(value)
    return module


def arrays(state):
    return {name: t.detach().contiguous().numpy() for name, t in state.items()}


def in_torch(module, x):
    """Return what torch finds, and its variables before; by torch's names."""
    before = arrays({n: t.clone() for n, t in module.state_dict().items()})
    is_trunk = x.shape[-1] == 3
    x = torch.tensor(x).requires_grad_()
    read = (lambda x: x.permute(0, 3, 1, 2)) if is_trunk else (lambda x: x)
    module.eval()
    with torch.no_grad():
        evaluated = module(read(x)).numpy()
    # PyTorch's running variance is n / (n - 1) of ours, n values of a channel.
    counts = {}
    for name, child in module.named_modules():
        if isinstance(child, nn.BatchNorm2d):
            child.register_forward_hook(
                lambda _, args, __, name=name: counts.update(
                    {name: args[0].numel() // args[0].shape[1]}
                )
            )
    module.train()
    outputs = module(read(x))
    (outputs * torch.tensor(seeds(outputs.shape))).mean().backward()
    after = arrays(module.state_dict())
    for name, n in counts.items():
        var, old = after[f"{name}.running_var"], before[f"{name}.running_var"]
        after[f"{name}.running_var"] = 0.9 * old + (var - 0.9 * old) * (n - 1) / n
    grads = arrays({n: p.grad for n, p in module.named_parameters()})
    findings = Findings(
        evaluated, outputs.detach().numpy(), after, grads, x.grad.numpy()
    )
    return before, findings


AS_USERS_DO = {}
if jax.__version_info__ < (0, 12):
    # Those that conftest chooses for speed get gradients of ImageNet's stem wrong.
    AS_USERS_DO["xla_cpu_use_fusion_emitters"] = True


def in_jax(module, variables, x):
    """Return the same of ours."""

    def loss(params, x):
        outputs, updated = module.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        weighted = jnp.mean(outputs * seeds(outputs.shape))
        return weighted, (outputs, updated["batch_stats"])

    @partial(jax.jit, compiler_options=AS_USERS_DO)
    def findings(variables, x):
        grad = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (_, aux), grads = grad(variables["params"], x)
        return Findings(module.apply(variables, x, train=False), *aux, *grads)

    return findings(variables, x)


def by_file(folder, trunk, like, state):
    """Convert variables by torch's names to ours: `weights.load` of a file."""
    path = folder / "weights.safetensors"
    safetensors.numpy.save_file(state, path)
    return weights.load(path, trunk, like)


def in_head(state):
    """Convert a head's variables by torch's names to ours."""
    variables = {"params": {}, "batch_stats": {}}
    for name, array in state.items():
        *place, kind = name.split(".")
        if kind == "num_batches_tracked":
            continue
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        if place == ["last"]:
            variables["params"][{"weight": "kernel"}.get(kind, kind)] = array
            continue
        _, number, part = place
        node = "batch_stats" if "running" in kind else "params"
        layer = variables[node].setdefault(f"ConvNorm_{number}", {})
        if part == "0":
            layer["kernel"] = array
        else:
            ours = {"weight": "scale", "running_mean": "mean", "running_var": "var"}
            layer.setdefault("norm", {})[ours.get(kind, kind)] = array
    return variables


def trunk_problem(folder, name, options, x):
    """Return our variables, and what torch finds in our structure."""
    trunk: Any = models.make(name, **options)
    like = jax.eval_shape(lambda: trunk.init(jax.random.key(0), x, train=False))
    before, findings = in_torch(unlike(ResNet(**options)), x)
    variables = by_file(folder, trunk, like, before)
    stats = by_file(folder, trunk, like, findings.stats)["batch_stats"]
    grads = by_file(folder, trunk, {"params": like["params"]}, findings.grads)["params"]
    return variables, findings._replace(stats=stats, grads=grads)


def head_problem(width, channels, rates, z):
    before, findings = in_torch(unlike(Head(z.shape[-1], width, channels, rates)), z)
    stats = in_head(findings.stats)["batch_stats"]
    grads = in_head(findings.grads)["params"]
    return in_head(before), findings._replace(stats=stats, grads=grads)


def deviations(ours, wanted):
    """Compare largest difference and largest entry of arrays, by kind of finding."""
    chex.assert_trees_all_equal_shapes(ours, wanted)

    def relative(a, b):
        return float(np.abs(a - b).max() / np.abs(b).max())

    return {
        kind: max(map(relative, *map(jax.tree.leaves, pair)))
        for kind, pair in zip(
            Findings._fields, zip(ours, wanted, strict=True), strict=True
        )
    }


def check(ours, wanted):
    ours = deviations(ours, wanted)
    assert max(ours.values()) < TOLERANCE, ours


@cache
def small_trunk(folder, name):
    kind, options = TRUNKS[name]
    return trunk_problem(folder, kind, options, images(SIDE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@FORMS
@pytest.mark.parametrize("name", TRUNKS)
def test_trunk(folder, name, form):
    kind, options = TRUNKS[name]
    variables, wanted = small_trunk(folder, name)
    trunk = models.make(kind, **options, conv=form)
    check(in_jax(trunk, variables, images(SIDE)), wanted)


FEATURES, CHANNELS, RATES = 8, 6, (1, 2, 12)


@cache
def small_head():
    z = seeds((4, 2, 4, FEATURES), seed=2)
    return z, head_problem(3, CHANNELS, RATES, z)


@FORMS
def test_head(form):
    z, (variables, wanted) = small_head()
    made = {"widths": (1, 1, 1, 2), "channels": CHANNELS, "rates": RATES}
    head = models.make("deeplab", **made, conv=form).head(3)
    check(in_jax(head, variables, z), wanted)


@pytest.mark.parametrize("channels", [4, 6, 64])
def test_group_norm(channels):
    from mtl_jax.models.residual import GroupNorm

    groups = {4: 2, 6: 2, 64: 32}[channels]
    x = seeds((channels, 3, 2, 2))
    variables: Any = {"params": {"scale": seeds(channels, 3), "bias": seeds(channels)}}
    theirs = [torch.tensor(variables["params"][n]) for n in ("scale", "bias")]
    wanted = F.group_norm(torch.tensor(x).permute(3, 0, 1, 2), groups, *theirs)
    actual: Any = GroupNorm().apply(variables, jnp.asarray(x))
    wanted = wanted.permute(1, 2, 3, 0).numpy()
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def test_state_dict_of_torch(tmp_path, folder):
    name, options = TRUNKS["imagenet"]
    trunk = models.make(name, **options)
    variables, _ = small_trunk(folder, "imagenet")
    state = unlike(ResNet(**options)).state_dict()
    state["fc.weight"], state["fc.bias"] = torch.zeros(7, 6), torch.zeros(7)
    torch.save(state, tmp_path / "weights.pth")
    loaded = weights.load(tmp_path / "weights.pth", trunk, variables)
    chex.assert_trees_all_equal(loaded, variables)
