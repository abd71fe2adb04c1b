"""The torch side of the benchmark's W1 and W5, the way users of other tools run them.

Import it only where torch is installed; `tools.missing` names what a way needs besides.
Nothing here is taken from a peer: LibMTL 1.1.5 hard-codes `cuda:0`, so its sequence of
operations is written anew, with its dataloader, accuracy meter and prints left out,
and TorchJD is called as a library. Everything is float32 on the CPU, and all ways of a
workload start from the same weights (`seed`). The variants were chosen on 2 cores of an
AMD EPYC (Zen 4) with torch 2.13 and torchjd 0.18.
"""
# pyright: reportMissingImports=false

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Step = Callable[[], float]  # does one optimiser step, returns the summed loss before it

BATCH = 128
CLASSES = 10


class LeNet(nn.Module):
    """LeNet trunk with a linear 10-way head per task; `net(images, task)`: logits."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *(nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
            *(nn.Flatten(), nn.Linear(320, 50), nn.ReLU(inplace=True)),
        )
        self.heads = nn.ModuleList(nn.Linear(50, CLASSES) for _ in range(tasks))

    def forward(self, images: Tensor, task: int) -> Tensor:
        """Return logits [B, 10] of `task` on its own images [B, 1, 28, 28]."""
        return self.heads[task](self.trunk(images))


class Tuning(NamedTuple):
    """Choices of layout and optimiser."""

    layout: torch.memory_format
    fused: bool | None  # None: what Adam does by itself


# The fastest honest torch found goes task by task. Against it: one concatenated batch
# is 5 % faster in some processes and 20 to 35 % slower in others (its temporaries are
# given back to the system every step) and 45 % slower in NCHW; torch.compile is 15 to
# 20 % slower (5 to 26 s of compiling); foreach Adam equals plain Adam; a convolution as
# a GEMM over patches is 55 % slower, max-pool by reshape and amax 130 %.
PLAIN = Tuning(torch.contiguous_format, None)
TUNED = Tuning(torch.channels_last, True)


def network(tasks: int, tuning: Tuning, seed: int) -> LeNet:
    """Build a network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        net: Any = LeNet(tasks)
        return net.to(memory_format=tuning.layout)


def adam(net: LeNet, tuning: Tuning, learning_rate: float) -> torch.optim.Adam:
    """Make Adam for a network."""
    return torch.optim.Adam(net.parameters(), learning_rate, fused=tuning.fused)


def images_of(x: np.ndarray, tuning: Tuning) -> list[Tensor]:
    """Return images [B, 1, 28, 28] per task, with the strides of the layout.

    `clone`, for `contiguous` leaves one-channel images as they are, and then torch
    takes their strides, those of NHWC, for channels_last even in the default layout.
    """
    images = torch.from_numpy(x).permute(0, 1, 4, 2, 3)
    return [part.clone(memory_format=tuning.layout) for part in images]


def labels_of(y: np.ndarray) -> list[Tensor]:
    """Return labels [B] per task."""
    return list(torch.from_numpy(y).long())


def _summed_step(tuning: Tuning, x: np.ndarray, y: np.ndarray, seed: int) -> Step:
    """The loop of a torch tutorial, one forward per task and one backward."""
    images, labels = images_of(x, tuning), labels_of(y)
    net = network(len(x), tuning, seed)
    optimizer = adam(net, tuning, 1e-3)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = _summed_loss(net, images, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _summed_loss(net: LeNet, images: list[Tensor], labels: list[Tensor]) -> Tensor:
    logits = [net(inputs, task) for task, inputs in enumerate(images)]
    return torch.stack(list(map(cross_entropy, logits, labels))).sum()


def libmtl_losses(net: LeNet, images: list[Tensor], labels: list[Tensor]) -> Tensor:
    """Compute losses as LibMTL for `multi_input`: one vector, each read on host."""
    losses = torch.zeros(len(images))
    for task, (inputs, label) in enumerate(zip(images, labels, strict=True)):
        loss = cross_entropy(net(inputs, task), label)
        loss.item()  # its loss meter keeps a record
        losses[task] = loss
    return losses


def _w1_libmtl(x: np.ndarray, y: np.ndarray, seed: int) -> Step:
    """LibMTL's trainer with its equal weighting, in its default layout and Adam."""
    images, labels = images_of(x, PLAIN), labels_of(y)
    net = network(len(x), PLAIN, seed)
    optimizer = adam(net, PLAIN, 1e-3)

    def step() -> float:
        losses = libmtl_losses(net, images, labels)
        optimizer.zero_grad()
        torch.mul(losses, torch.ones_like(losses)).sum().backward()
        optimizer.step()
        return losses.sum().item()

    return step


_W1 = {
    "torch_plain": partial(_summed_step, PLAIN),
    "torch_tuned": partial(_summed_step, TUNED),
    "libmtl": _w1_libmtl,
}
W1_WAYS = tuple(_W1)


def w1_step(way: str, x: np.ndarray, y: np.ndarray, seed: int = 0) -> Step:
    """Make a step of Adam(1e-3) on the summed loss.

    Images x are [T, B, 28, 28, 1], labels y [T, B].
    """
    return _W1[way](x, y, seed)


_W5 = {"torch_plain": PLAIN, "torch_tuned": TUNED}
W5_WAYS = tuple(_W5)


def _train(
    images: list[Tensor],
    labels: list[Tensor],
    tuning: Tuning,
    steps: int,
    seed: int,
    learning_rate: float,
) -> None:
    """Train the given tasks in one run, with a fresh random batch per task and step."""
    net = network(len(images), tuning, seed)
    optimizer = adam(net, tuning, learning_rate)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        picks = torch.randint(len(labels[0]), (len(images), BATCH), generator=draw)
        x = [pool[pick] for pool, pick in zip(images, picks, strict=True)]
        y = [pool[pick] for pool, pick in zip(labels, picks, strict=True)]
        optimizer.zero_grad(set_to_none=True)
        _summed_loss(net, x, y).backward()
        optimizer.step()


def w5_run(
    way: str,
    x_pool: np.ndarray,
    y_pool: np.ndarray,
    steps: int,
    seeds: Sequence[int],
    learning_rates: Sequence[float],
) -> Callable[[], None]:
    """Make a program of all single-task runs and the joint one, for each seed and rate.

    Pools are [T, N, 28, 28, 1] and [T, N]. A block-step is one step of the T + 1 runs;
    a call does `steps * len(seeds) * len(learning_rates)` of them, and building T + 1
    networks per seed and rate (1 ms) is all else it does: time a slice and scale it to
    the 2,400 block-steps of W5 (3 seeds, 4 rates, 200 steps). No loss is read.
    """
    tuning = _W5[way]
    images, labels = images_of(x_pool, tuning), labels_of(y_pool)
    runs = [slice(t, t + 1) for t in range(len(images))] + [slice(None)]

    def run() -> None:
        for seed, rate, tasks in product(seeds, learning_rates, runs):
            _train(images[tasks], labels[tasks], tuning, steps, seed, rate)

    return run
