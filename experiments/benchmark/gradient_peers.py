"""The torch side of the benchmark's W2: training by LibMTL's and TorchJD's methods.

Import it only where torch is installed; `w2_missing` names what a way needs besides.
Everything else is as in `training_peers`.
"""
# pyright: reportMissingImports=false

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from . import libmtl_methods
from .tools import TOOLS, missing
from .training_peers import (
    PLAIN,
    TUNED,
    LeNet,
    Step,
    Tuning,
    adam,
    images_of,
    labels_of,
    libmtl_losses,
    network,
)


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
    return torch.stack([torch.cat([g.view(-1) for g in row]) for row in grads])


def _w2_libmtl(method: str, x: np.ndarray, y: np.ndarray, seed: int) -> Step:
    """LibMTL's trainer with a gradient method, in its default layout and Adam."""
    images, labels = images_of(x, PLAIN), labels_of(y)
    net = network(len(x), PLAIN, seed)
    optimizer, chosen = adam(net, PLAIN, 1e-3), libmtl_methods.METHODS[method]
    update = chosen.make(len(x))

    def step() -> float:
        losses = libmtl_losses(net, images, labels)
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

    images, labels = images_of(x, TUNED), labels_of(y)
    net = network(len(x), TUNED, seed)
    optimizer, aggregate = adam(net, TUNED, 1e-3), _torchjd_aggregator(method, len(x))
    trunk = list(net.trunk.parameters())

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        rows, total = [], 0.0
        for task, head in enumerate(net.heads):
            loss = cross_entropy(net(images[task], task), labels[task])
            of_head = list(head.parameters())
            grads = jac(loss, [*trunk, *of_head], parallel_chunk_size=1)
            rows.append(torch.cat([g.reshape(-1) for g in grads[: len(trunk)]]))
            for p, g in zip(of_head, grads[len(trunk) :], strict=True):
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
    images, labels = images_of(x, tuning), labels_of(y)
    net = network(len(x), tuning, seed)
    optimizer = adam(net, tuning, 1e-3)
    aggregator = _torchjd_aggregator(method, len(x))

    def step() -> float:
        optimizer.zero_grad()
        features = [net.trunk(inputs) for inputs in images]
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
    "libmtl": _W2Way(_w2_libmtl, libmtl_methods.METHODS),
    "torchjd": _W2Way(_w2_torchjd, TORCHJD_METHODS),
    "torchjd_tuned": _W2Way(_w2_mtl_backward, TORCHJD_METHODS),
}
W2_WAYS = tuple(_W2)


def w2_missing(way: str, method: str) -> list[str]:
    """List what a way lacks for W2 with a method: modules, or the method itself."""
    methods = _W2[way].methods
    if method not in methods:
        return ["the method"]
    return missing(TOOLS[way], methods[method].needs)


def w2_step(way: str, method: str, x: np.ndarray, y: np.ndarray, seed: int = 0) -> Step:
    """Make a step of W1 with per-task trunk gradients aggregated by a method."""
    return _W2[way].make(method, x, y, seed)
