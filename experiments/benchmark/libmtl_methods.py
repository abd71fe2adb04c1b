"""LibMTL's methods: from the tasks' gradients to an update, as the benchmark runs them.

Written anew after LibMTL 1.1.5, as `libmtl_solvers`. `imtl_g` leaves out the loss
scales that LibMTL always learns with it. Nash-MTL needs the solver ECOS; without it
LibMTL trains with equal weights and does not say so.
"""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import libmtl_solvers as solvers

Update = Callable[[Tensor, Tensor], Tensor]
"""Gradients ``[T, P]`` and losses ``[T]`` to the update ``[P]`` or weights ``[T]``."""


class Method(NamedTuple):
    """A method of LibMTL."""

    make: Callable[[int], Update]
    """For a number of tasks, with its state inside."""
    needs: tuple[str, ...] = ()
    """Modules it imports."""
    of_logs: bool = False
    """Gradients are those of the logarithms of the losses."""
    weighs: bool = False
    """Makes weights, for a second backward pass of the weighted losses."""
    max_norm: float = 0.0
    """Largest norm of the update, after that pass; 0 for no limit."""


def combine(weights: Tensor, grads: Tensor) -> Tensor:
    """Sum ``w_i g_i``, task by task as LibMTL does."""
    return torch.stack([w * g for w, g in zip(weights, grads, strict=True)]).sum(0)


def _pcgrad(tasks: int) -> Update:
    """Project each gradient off those it conflicts with, in random order; sum."""

    def update(grads: Tensor, losses: Tensor) -> Tensor:
        del losses
        projected = grads.clone()
        for i in range(tasks):
            for j in random.sample(range(tasks), tasks):
                inner = torch.dot(projected[i], grads[j])
                if inner < 0:
                    projected[i] -= inner / grads[j].norm().pow(2) * grads[j]
        return projected.sum(0)

    return update


def _gradvac(tasks: int) -> Update:
    """Lift cosines to their running mean, whole gradients at a time, with beta 0.5."""
    targets = torch.zeros(tasks, tasks)

    def update(grads: Tensor, losses: Tensor) -> Tensor:
        del losses
        moved = grads.clone()
        for i in range(tasks):
            others = [j for j in range(tasks) if j != i]
            for j in random.sample(others, len(others)):
                norm, other, target = moved[i].norm(), grads[j].norm(), targets[i, j]
                cosine = torch.dot(moved[i], grads[j]) / (norm * other + 1e-8)
                if cosine < target:
                    sine, aim = (1 - cosine**2).sqrt(), (1 - target**2).sqrt()
                    lift = norm * (target * sine - cosine * aim) / (other * aim + 1e-8)
                    moved[i] += lift * grads[j]
                targets[i, j] = 0.5 * target + 0.5 * cosine
        return moved.sum(0)

    return update


def _cagrad(tasks: int) -> Update:
    """CAGrad with LibMTL's rescaling by 1 + c^2."""
    del tasks

    def update(grads: Tensor, losses: Tensor) -> Tensor:
        del losses
        gramian = grads @ grads.T
        toward = (grads * solvers.cagrad(gramian)[:, None]).sum(0)
        share = solvers.radius(gramian) / (toward.norm() + 1e-8)
        return (grads.mean(0) + share * toward) / (1 + solvers.C**2)

    return update


def _imtl_g(tasks: int) -> Update:
    """Equal projections, from differences of gradients and of unit gradients."""
    del tasks

    def update(grads: Tensor, losses: Tensor) -> Tensor:
        del losses
        units = grads / grads.norm(dim=-1, keepdim=True)
        apart, turned = grads[:1] - grads[1:], units[:1] - units[1:]
        rest = grads[0] @ turned.T @ torch.inverse(apart @ turned.T)
        return combine(torch.cat([1 - rest.sum()[None], rest]), grads)

    return update


def _nash_mtl(tasks: int) -> Update:
    solve, weights = solvers.nash_mtl(tasks), np.ones(tasks, np.float32)

    def update(grads: Tensor, losses: Tensor) -> Tensor:
        nonlocal weights
        del losses
        weights = solve(grads @ grads.T, weights)
        return torch.from_numpy(weights).float()

    return update


def _gradnorm(tasks: int) -> Update:
    """GradNorm with softmax weights, learned by Adam, after its first epoch.

    The losses of that epoch are here those of the first step.
    """
    logits = torch.ones(tasks, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 1e-3)
    first: list[Tensor] = []

    def update(grads: Tensor, losses: Tensor) -> Tensor:
        losses = losses.detach().clone()
        first[:] = first or [losses]
        optimizer.zero_grad()
        weights = tasks * logits.softmax(-1)
        lengths = (weights[:, None] * grads).norm(dim=-1)
        rate = losses / first[0]
        target = (lengths.mean() * (rate / rate.mean()) ** 1.5).detach()
        (lengths - target).abs().sum().backward()
        optimizer.step()
        return combine(weights.detach(), grads)

    return update


def _dbmtl(tasks: int) -> Update:
    """Smoothed gradients of log-losses (beta 0.9), stretched to the longest."""
    mean = torch.zeros(())

    def update(grads: Tensor, losses: Tensor) -> Tensor:
        nonlocal mean
        del losses
        mean = grads + 0.9 * (mean - grads)
        lengths = mean.norm(dim=-1)
        return sum(lengths.max() / (lengths[i] + 1e-8) * mean[i] for i in range(tasks))  # type: ignore[return-value]

    return update


def _moco(tasks: int) -> Update:
    """Tracked gradients, each as long as its loss; weights by a softmax."""
    step, tracked = 0, torch.zeros(())
    weights = torch.full((tasks,), 1 / tasks)

    def update(grads: Tensor, losses: Tensor) -> Tensor:
        nonlocal step, tracked, weights
        step += 1
        for i in range(tasks):
            grads[i] = grads[i] / (grads[i].norm() + 1e-8) * losses[i].detach()
        tracked = tracked - 0.5 / step**0.5 * (tracked - grads)
        slope = tracked @ tracked.T @ weights
        weights = (weights - 0.1 / step**0.5 * slope).softmax(-1)
        return tracked.T @ weights

    return update


def _excessmtl(tasks: int) -> Update:
    """Weights that grow with the excess risk, estimated as Adagrad's decrement."""
    weights, squares, first = torch.ones(tasks), torch.zeros(()), torch.zeros(0)

    def update(grads: Tensor, losses: Tensor) -> Tensor:
        nonlocal weights, squares, first
        del losses
        squares = squares + grads**2
        excess = torch.zeros(tasks)
        for i in range(tasks):
            excess[i] = grads[i] / (squares[i] + 1e-7).sqrt() @ grads[i]
        if not len(first):
            first = excess
        else:
            weights = weights * (0.01 * excess / first).exp()
            weights = weights / weights.sum() * tasks
        return weights

    return update


def _of_gramian(solve: Callable[[Tensor], Tensor], combined: bool = True) -> Any:
    """Make a method that weighs by the Gramian; not combined, it hands on weights."""

    def make(tasks: int) -> Update:
        del tasks

        def update(grads: Tensor, losses: Tensor) -> Tensor:
            del losses
            weights = solve(grads @ grads.T)
            return combine(weights, grads) if combined else weights

        return update

    return make


METHODS: dict[str, Method] = {
    "mgda": Method(_of_gramian(solvers.mgda)),
    "pcgrad": Method(_pcgrad),
    "gradvac": Method(_gradvac),
    "cagrad": Method(_cagrad, ("scipy",)),
    "imtl_g": Method(_imtl_g),
    "nash_mtl": Method(_nash_mtl, ("cvxpy", "ecos"), weighs=True, max_norm=1.0),
    "fairgrad": Method(
        _of_gramian(
            lambda gram: torch.from_numpy(solvers.fairgrad(gram)).float(), False
        ),
        ("scipy",),
        weighs=True,
    ),
    "aligned_mtl": Method(_of_gramian(solvers.aligned_mtl)),
    "upgrad": Method(
        _of_gramian(lambda gram: torch.from_numpy(solvers.upgrad(gram)).float().sum(0)),
        ("qpsolvers", "quadprog"),
    ),
    "gradnorm": Method(_gradnorm),
    "dbmtl": Method(_dbmtl, of_logs=True),
    "moco": Method(_moco),
    "excessmtl": Method(_excessmtl, weighs=True),
}
