"""The torch side of the benchmark: W1, W2 and W5 the way users of other tools run them.

Import it only where torch is installed; `missing` names what a way needs besides.
Nothing here is taken from a peer: LibMTL 1.1.5 hard-codes `cuda:0`, so its sequence of
operations is written anew, with its dataloader, accuracy meter and prints left out,
and TorchJD is called as a library. Everything is float32 on the CPU, and all ways of a
workload start from the same weights (`seed`). The variants were chosen on 2 cores of an
AMD EPYC (Zen 4) with torch 2.13 and torchjd 0.18.
"""
# pyright: reportMissingImports=false

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from . import libmtl_solvers

Step = Callable[[], float]  # does one optimiser step, returns the summed loss before it

BATCH = 128
CLASSES = 10


class Way(NamedTuple):
    """A way of running a workload."""

    needs: tuple[str, ...]  # modules it imports
    remark: str


WAYS = {
    "torch_plain": Way(("torch",), "default layout and Adam"),
    "torch_tuned": Way(("torch",), "channels_last, fused Adam"),
    "libmtl": Way(("torch",), "LibMTL 1.1.5's sequence of operations, reproduced"),
    "torchjd": Way(("torch", "torchjd"), "fastest: jac task by task, channels_last"),
    "torchjd_tuned": Way(("torch", "torchjd"), "mtl_backward, channels_last"),
}


class JdMethod(NamedTuple):
    """A method of TorchJD."""

    make: Callable[[Any, int], Any]
    """``make(torchjd.aggregation, tasks)``: the aggregator."""
    needs: tuple[str, ...] = ()
    """Modules it imports."""


_QUADPROG = ("qpsolvers", "quadprog")
TORCHJD_METHODS = {
    "mgda": JdMethod(lambda jd, _: jd.MGDA()),
    "pcgrad": JdMethod(lambda jd, _: jd.PCGrad()),
    "gradvac": JdMethod(lambda jd, _: jd.GradVac()),
    "cagrad": JdMethod(lambda jd, _: jd.CAGrad(c=0.5), ("cvxpy", "clarabel")),
    "imtl_g": JdMethod(lambda jd, _: jd.IMTLG()),
    "nash_mtl": JdMethod(lambda jd, tasks: jd.NashMTL(tasks), ("cvxpy", "ecos")),
    "fairgrad": JdMethod(lambda jd, _: jd.FairGrad(alpha=2.0), ("scipy",)),
    "aligned_mtl": JdMethod(lambda jd, _: jd.AlignedMTL()),
    "upgrad": JdMethod(lambda jd, _: jd.UPGrad(), _QUADPROG),
    "dualproj": JdMethod(lambda jd, _: jd.DualProj(), _QUADPROG),
    "config": JdMethod(lambda jd, _: jd.ConFIG()),
    "excessmtl": JdMethod(lambda jd, _: jd.ExcessMTL()),
    "graddrop": JdMethod(lambda jd, _: jd.GradDrop()),
}


def missing(way: Way, solver: Sequence[str] = ()) -> list[str]:
    """Modules that `way` and a method's `solver` need and that are not installed."""
    return [name for name in (*way.needs, *solver) if find_spec(name) is None]


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
        """Logits [B, 10] of `task` on its own images [B, 1, 28, 28]."""
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


def _network(tasks: int, tuning: Tuning, seed: int) -> LeNet:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        net: Any = LeNet(tasks)
        return net.to(memory_format=tuning.layout)


def _adam(net: LeNet, tuning: Tuning, learning_rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), learning_rate, fused=tuning.fused)


def _images(x: np.ndarray, tuning: Tuning) -> list[Tensor]:
    """Images [B, 1, 28, 28] per task, with the strides of the layout.

    `clone`, for `contiguous` leaves one-channel images as they are, and then torch
    takes their strides, those of NHWC, for channels_last even in the default layout.
    """
    images = torch.from_numpy(x).permute(0, 1, 4, 2, 3)
    return [own.clone(memory_format=tuning.layout) for own in images]


def _labels(y: np.ndarray) -> list[Tensor]:
    return list(torch.from_numpy(y).long())


def _summed_step(tuning: Tuning, x: np.ndarray, y: np.ndarray, seed: int) -> Step:
    """The loop of a torch tutorial, one forward per task and one backward."""
    images, labels = _images(x, tuning), _labels(y)
    net = _network(len(x), tuning, seed)
    optimizer = _adam(net, tuning, 1e-3)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = _summed_loss(net, images, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _summed_loss(net: LeNet, images: list[Tensor], labels: list[Tensor]) -> Tensor:
    logits = [net(own, task) for task, own in enumerate(images)]
    return torch.stack(list(map(cross_entropy, logits, labels))).sum()


def _libmtl_losses(net: LeNet, images: list[Tensor], labels: list[Tensor]) -> Tensor:
    """LibMTL for `multi_input`: losses written into one vector, each read on host."""
    losses = torch.zeros(len(images))
    for task, (own, label) in enumerate(zip(images, labels, strict=True)):
        loss = cross_entropy(net(own, task), label)
        loss.item()  # its loss meter keeps a record
        losses[task] = loss
    return losses


def _w1_libmtl(x: np.ndarray, y: np.ndarray, seed: int) -> Step:
    """LibMTL's trainer with its equal weighting, in its default layout and Adam."""
    images, labels = _images(x, PLAIN), _labels(y)
    net = _network(len(x), PLAIN, seed)
    optimizer = _adam(net, PLAIN, 1e-3)

    def step() -> float:
        losses = _libmtl_losses(net, images, labels)
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
    """Summed loss + Adam(1e-3) on images x [T, B, 28, 28, 1] and labels y [T, B]."""
    return _W1[way](x, y, seed)


def _flat_gradient(trunk: nn.Module) -> Tensor:
    """Gradient [P] copied, parameter by parameter, into a fresh buffer on the CPU."""
    parameters = list(trunk.parameters())
    flat = torch.zeros(sum(p.numel() for p in parameters))
    for piece, p in zip(_pieces(flat, parameters), parameters, strict=True):
        if p.grad is not None:
            piece.copy_(p.grad)
    return flat


def _pieces(flat: Tensor, parameters: Sequence[Tensor]) -> Iterator[Tensor]:
    """Views of `flat` in the shapes of `parameters`."""
    sizes = [p.numel() for p in parameters]
    return map(Tensor.view_as, flat.split(sizes), parameters)


def _libmtl_rows(net: LeNet, losses: Tensor) -> Tensor:
    """Trunk gradients [T, P] by T backwards; head gradients stay in their `.grad`.

    The losses share a vector, so each backward walks the graphs of all tasks, with
    zeros for the others, as in LibMTL.
    """
    rows = []
    for task in range(len(losses)):
        losses[task].backward(retain_graph=task + 1 < len(losses))
        rows.append(_flat_gradient(net.trunk))
        net.trunk.zero_grad(set_to_none=False)
    return torch.stack(rows)


def _libmtl_grads(net: LeNet, losses: Tensor) -> Tensor:
    """Trunk gradients [T, P] by T calls of `grad`; the graph is kept for another."""
    trunk = list(net.trunk.parameters())
    grads = [torch.autograd.grad(loss, trunk, retain_graph=True) for loss in losses]
    return torch.stack([torch.cat([g.view(-1) for g in own]) for own in grads])


def _w2_libmtl(method: str, x: np.ndarray, y: np.ndarray, seed: int) -> Step:
    """LibMTL's trainer with a gradient method, in its default layout and Adam."""
    images, labels = _images(x, PLAIN), _labels(y)
    net = _network(len(x), PLAIN, seed)
    optimizer, chosen = _adam(net, PLAIN, 1e-3), libmtl_solvers.METHODS[method]
    update = chosen.make(len(x))

    def step() -> float:
        losses = _libmtl_losses(net, images, labels)
        optimizer.zero_grad()
        if chosen.weighs:
            weights = update(_libmtl_grads(net, losses), losses)
            (weights * losses).sum().backward()
            if chosen.max_norm:
                nn.utils.clip_grad_norm_(net.trunk.parameters(), chosen.max_norm)
        else:
            aims = torch.log(losses + 1e-8) if chosen.of_logs else losses
            _write_gradient(net.trunk, update(_libmtl_rows(net, aims), losses))
        optimizer.step()
        return losses.sum().item()

    return step


def _write_gradient(trunk: nn.Module, flat: Tensor) -> None:
    """Set `.grad` from `flat` [P], in each parameter's own memory layout.

    The layout matters: the fused Adam of torch 2.13 on CPU walks memory linearly, and
    silently pairs the wrong elements when parameter and gradient differ in layout.
    """
    parameters = list(trunk.parameters())
    for piece, p in zip(_pieces(flat, parameters), parameters, strict=True):
        p.grad = torch.empty_like(p, requires_grad=False).copy_(piece)


def _torchjd_aggregator(method: str, tasks: int) -> Any:
    from torchjd import aggregation

    return TORCHJD_METHODS[method].make(aggregation, tasks)


def _w2_torchjd(method: str, x: np.ndarray, y: np.ndarray, seed: int) -> Step:
    """TorchJD at its best here: `autojac.jac` task by task, channels_last, fused Adam.

    With inputs of their own, tasks share no graph: differentiating one loss at a time
    avoids the zeros that `mtl_backward` sends through the other tasks (twice as slow
    at parallel_chunk_size=1, three times with vmap), at no change in the Jacobian.
    """
    from torchjd.autojac import jac

    images, labels = _images(x, TUNED), _labels(y)
    net = _network(len(x), TUNED, seed)
    optimizer, aggregate = _adam(net, TUNED, 1e-3), _torchjd_aggregator(method, len(x))
    trunk = list(net.trunk.parameters())

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        rows, total = [], 0.0
        for task, head in enumerate(net.heads):
            loss = cross_entropy(net(images[task], task), labels[task])
            own = list(head.parameters())
            grads = jac(loss, [*trunk, *own], parallel_chunk_size=1)
            rows.append(torch.cat([g.reshape(-1) for g in grads[: len(trunk)]]))
            for p, g in zip(own, grads[len(trunk) :], strict=True):
                p.grad = g[0]
            total += loss.item()
        _write_gradient(net.trunk, aggregate(torch.stack(rows)))
        optimizer.step()
        return total

    return step


def _w2_mtl_backward(method: str, x: np.ndarray, y: np.ndarray, seed: int) -> Step:
    """TorchJD's multi-task example: `mtl_backward` then `jac_to_grad`, channels_last.

    In the faster of its engines: one row at a time, not vmap (40 % slower). Adam is not
    fused, for it would misread these gradients (see `_write_gradient`); one batch of
    all tasks gains up to 10 % more, summing Gramians per parameter nothing.
    """
    from torchjd.autojac import jac_to_grad, mtl_backward

    tuning = Tuning(torch.channels_last, fused=None)
    images, labels = _images(x, tuning), _labels(y)
    net = _network(len(x), tuning, seed)
    optimizer = _adam(net, tuning, 1e-3)
    aggregator = _torchjd_aggregator(method, len(x))

    def step() -> float:
        optimizer.zero_grad()
        features = [net.trunk(own) for own in images]
        logits = [head(h) for head, h in zip(net.heads, features, strict=True)]
        losses = list(map(cross_entropy, logits, labels))
        mtl_backward(losses, features=features, parallel_chunk_size=1)
        jac_to_grad(net.trunk.parameters(), aggregator)
        optimizer.step()
        return sum(loss.item() for loss in losses)

    return step


class _W2Way(NamedTuple):
    make: Callable[[str, np.ndarray, np.ndarray, int], Step]
    methods: Mapping[str, Any]


_W2 = {
    "libmtl": _W2Way(_w2_libmtl, libmtl_solvers.METHODS),
    "torchjd": _W2Way(_w2_torchjd, TORCHJD_METHODS),
    "torchjd_tuned": _W2Way(_w2_mtl_backward, TORCHJD_METHODS),
}
W2_WAYS = tuple(_W2)


def w2_missing(way: str, method: str) -> list[str]:
    """What a way lacks for W2 with a method: modules, or the method itself."""
    methods = _W2[way].methods
    if method not in methods:
        return ["the method"]
    return missing(WAYS[way], methods[method].needs)


def w2_step(way: str, method: str, x: np.ndarray, y: np.ndarray, seed: int = 0) -> Step:
    """W1 with per-task trunk gradients aggregated by a method."""
    return _W2[way].make(method, x, y, seed)


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
    """One run on the given tasks, a fresh random batch per task and step."""
    net = _network(len(images), tuning, seed)
    optimizer = _adam(net, tuning, learning_rate)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        picks = torch.randint(len(labels[0]), (len(images), BATCH), generator=draw)
        x = [own[pick] for own, pick in zip(images, picks, strict=True)]
        y = [own[pick] for own, pick in zip(labels, picks, strict=True)]
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
    """All single-task runs and the joint one for each seed and rate, one by one.

    Pools are [T, N, 28, 28, 1] and [T, N]. A block-step is one step of the T + 1 runs;
    a call does `steps * len(seeds) * len(learning_rates)` of them, and building T + 1
    networks per seed and rate (1 ms) is all else it does: time a slice and scale it to
    the 2,400 block-steps of W5 (3 seeds, 4 rates, 200 steps). No loss is read.
    """
    tuning = _W5[way]
    images, labels = _images(x_pool, tuning), _labels(y_pool)
    runs = [slice(t, t + 1) for t in range(len(images))] + [slice(None)]

    def run() -> None:
        for seed, rate, tasks in product(seeds, learning_rates, runs):
            _train(images[tasks], labels[tasks], tuning, steps, seed, rate)

    return run
