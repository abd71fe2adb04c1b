"""The torch side of the benchmark's W3 and W4: Gramians and factors of other tools.

Import it only where torch is installed; `tools.missing` says what a way needs besides.
Every way starts from our weights and gives the number that ours gives, so that the
benchmark can say by how much they differ. As a module, with the name of a way, it
prints the megabytes that W3 adds to a fresh process.
"""
# pyright: reportMissingImports=false

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    relu,
)

from .training_peers import CLASSES

W3_WAYS = (
    *("torch_plain", "torch_tuned", "torchjd", "torchjd_tuned", "torchjd_autogram"),
)
CHUNK = 128
Weights = Sequence[np.ndarray]


def _layout(way: str) -> torch.memory_format:
    return torch.channels_last if "tuned" in way else torch.contiguous_format


class ConvNorm(nn.Sequential):
    """Convolution without bias and batch norm."""

    def __init__(self, channels: int, out: int, k: int, stride: int) -> None:
        conv = nn.Conv2d(channels, out, k, stride, k // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out))


class Block(nn.Module):
    """Basic block of the residual network."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, out, 3, stride)
        self.second = ConvNorm(out, out, 3, 1)
        self.short: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            self.short = ConvNorm(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, H, W] to [B, out, H / stride, W / stride]."""
        return relu(self.second(relu(self.first(x))) + self.short(x))


class ResNet(nn.Module):
    """Features [B, widths[-1]] of W3's network, as `mtl_jax.models.resnet`."""

    def __init__(self, widths: Sequence[int], stem_stride: int) -> None:
        super().__init__()
        self.stem = ConvNorm(3, widths[0], 3, stem_stride)
        before = (widths[0], *widths[:-1])
        self.blocks = nn.Sequential(
            *(
                Block(channels, out, 1 + (stage > 0))
                for stage, (channels, out) in enumerate(
                    zip(before, widths, strict=True)
                )
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of images [B, 3, H, W]."""
        return self.blocks(relu(self.stem(x))).mean((2, 3))


def w3_gram(
    way: str,
    x: np.ndarray,
    y: np.ndarray,
    kernels: Weights,
    head: np.ndarray,
    stem_stride: int,
) -> Callable[[], Tensor]:
    """Make a program for the Gramian [T, T] of T binary tasks' trunk gradients.

    Images are [B, H, W, 3], labels [T, B]; kernels [k, k, C, O] in the order of making
    (first, second and shortcut of every block), heads [T, D].
    """
    net = ResNet([head.shape[1] // 8 * 2**n for n in range(4)], stem_stride)
    convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for conv, kernel in zip(convs, kernels, strict=True):
            conv.weight.copy_(torch.from_numpy(kernel.copy()).permute(3, 2, 0, 1))
    layout = _layout(way)
    module: Any = net
    module.to(memory_format=layout)
    images = torch.from_numpy(x).permute(0, 3, 1, 2).clone(memory_format=layout)
    labels, heads = torch.from_numpy(y.T.copy()), torch.from_numpy(head.copy())

    def losses() -> Tensor:
        logits = net(images) @ heads.T
        return binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(
            0
        )

    parameters = list(net.parameters())
    if way == "torchjd_autogram":
        from torchjd.autogram import Engine

        engine = Engine(net, batch_dim=None)
        return lambda: engine.compute_gramian(losses())
    jacobian = _jac if way.startswith("torchjd") else _row_by_row

    def gram() -> Tensor:
        rows = jacobian(losses(), parameters)
        return rows @ rows.T

    return gram


def _row_by_row(losses: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    rows = [
        torch.autograd.grad(loss, parameters, retain_graph=True)
        for loss in losses.unbind()
    ]
    return torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])


def _jac(losses: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    from torchjd.autojac import jac

    blocks = jac(losses, parameters, parallel_chunk_size=1)
    return torch.cat([block.reshape(len(losses), -1) for block in blocks], dim=1)


def lenet(weights: Weights, way: str) -> nn.Sequential:
    """Build W4's network from our kernels and biases, layer by layer."""
    net = nn.Sequential(
        *(nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(320, 50), nn.ReLU(), nn.Linear(50, CLASSES)),
    )
    with torch.no_grad():
        for parameter, weight in zip(net.parameters(), weights, strict=True):
            turned = weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T
            parameter.copy_(torch.from_numpy(turned.copy()))
    module: Any = net
    return module.to(memory_format=_layout(way))


def _batches(
    way: str, x: np.ndarray, y: np.ndarray, size: int
) -> list[tuple[Tensor, Tensor]]:
    images = torch.from_numpy(x).permute(0, 3, 1, 2)
    images = [part.clone(memory_format=_layout(way)) for part in images.split(size)]
    labels = torch.from_numpy(y).long().split(size)
    return list(zip(images, labels, strict=True))


def sharpness(
    way: str, weights: Weights, x: np.ndarray, y: np.ndarray, size: int, rho: float
) -> Callable[[], float]:
    """Average over batches the rise of the loss after one step of length rho."""
    net, batches = lenet(weights, way), _batches(way, x, y, size)
    parameters = list(net.parameters())

    def rise(images: Tensor, labels: Tensor) -> Tensor:
        loss = cross_entropy(net(images), labels)
        grads = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            length = torch.stack([g.square().sum() for g in grads]).sum().sqrt()
            kept = [p.clone() for p in parameters]
            for p, g in zip(parameters, grads, strict=True):
                p.add_(g * (rho / length))
            there = cross_entropy(net(images), labels)
            for p, before in zip(parameters, kept, strict=True):
                p.copy_(before)
        return there - loss.detach()

    return lambda: torch.stack([rise(*batch) for batch in batches]).mean().item()


def top_eigenvalue(
    way: str, weights: Weights, x: np.ndarray, y: np.ndarray, size: int, products: int
) -> Callable[[], float]:
    """Run PyHessian's power iteration, stopped after so many products."""
    from pyhessian import hessian

    net, batches = lenet(weights, way), _batches(way, x, y, size)

    def run() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of create_graph
            tool = hessian(net, cross_entropy, dataloader=batches, cuda=False)
            return tool.eigenvalues(maxIter=products, tol=0.0)[0][0]

    return run


def batch_cosine(
    way: str, weights: Weights, x: np.ndarray, y: np.ndarray, size: int
) -> Callable[[], float]:
    """Average the cosines of the gradients of different batches."""
    net, batches = lenet(weights, way), _batches(way, x, y, size)
    parameters = list(net.parameters())

    def run() -> float:
        rows = []
        for images, labels in batches:
            loss = cross_entropy(net(images), labels)
            grads = torch.autograd.grad(loss, parameters)
            rows.append(torch.cat([g.reshape(-1) for g in grads]))
        unit = torch.nn.functional.normalize(torch.stack(rows), dim=1)
        count = len(rows)
        return ((unit @ unit.T).sum().item() - count) / (count * (count - 1))

    return run


def example_moments(
    way: str, weights: Weights, x: np.ndarray, y: np.ndarray, means: bool
) -> Callable[[], float]:
    """Average |g|^2 over examples, or with `means` |mean g|^2 over it (m-coherence)."""
    if way == "backpack":
        return _backpack(weights, x, y)
    net, batches = lenet(weights, way), _batches(way, x, y, CHUNK)
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(net, parameters, (image[None],))
        return cross_entropy(logits, label[None])

    example_grads = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))

    def run() -> float:
        square, total = 0.0, [torch.zeros_like(p) for p in parameters.values()]
        for batch in batches:
            grads = list(example_grads(parameters, *batch).values())
            square += sum(g.square().sum().item() for g in grads)
            if means:
                total = [t + g.sum(0) for t, g in zip(total, grads, strict=True)]
        if not means:
            return square / len(x)
        return sum(t.square().sum().item() for t in total) / (square * len(x))

    return run


def _backpack(weights: Weights, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    from backpack import backpack, extend
    from backpack.extensions import BatchL2Grad

    net, batches = extend(lenet(weights, "backpack")), _batches("", x, y, CHUNK)
    total_loss = extend(nn.CrossEntropyLoss(reduction="sum"))

    def run() -> float:
        square = 0.0
        for images, labels in batches:
            net.zero_grad()
            with backpack(BatchL2Grad()), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of hooks: inputs need no gradient
                total_loss(net(images), labels).backward()
            parameters: Any = net.parameters()
            square += sum(p.batch_l2.sum().item() for p in parameters)
        return square / len(x)

    return run
