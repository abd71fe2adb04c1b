"""LibMTL's ways from the tasks' gradients to an update, as the benchmark runs them.

Written anew after LibMTL 1.1.5 (UPGrad: its later source), with its numerical choices:
absolute epsilons, host solvers, Python loops.
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Method = Callable[[Tensor], Tensor]
"""Task gradients ``[T, P]`` to the update ``[P]``."""


def pcgrad(grads: Tensor) -> Tensor:
    """Project each gradient off those it conflicts with, in random order; sum."""
    projected = grads.clone()
    for i in range(len(grads)):
        for j in random.sample(range(len(grads)), len(grads)):
            inner = torch.dot(projected[i], grads[j])
            if inner < 0:
                projected[i] -= inner / grads[j].norm().pow(2) * grads[j]
    return projected.sum(0)


def mgda(grads: Tensor) -> Tensor:
    """Min-norm point by LibMTL's projected gradient steps (250 at most), no normaliser.

    The quadratic forms are vector products where LibMTL repeats K x K matrices.
    """
    gramian = grads @ grads.T
    weights = _best_pair(gramian)
    for _ in range(250):
        point = _simplex_step(weights, -(gramian @ weights))
        to_weights, to_point = gramian @ weights, gramian @ point
        share = _segment_min(weights @ to_weights, weights @ to_point, point @ to_point)
        moved = share * weights + (1 - share) * point
        if (moved - weights).abs().sum() < 1e-5:
            break
        weights = moved
    return weights @ grads


def _segment_min(aa: Tensor, ab: Tensor, bb: Tensor) -> float | Tensor:
    """Share of `a` in the shortest vector between a and b, ends kept off by 1e-3."""
    if ab >= aa:
        return 0.999
    if ab >= bb:
        return 0.001
    return (bb - ab) / (aa + bb - 2 * ab)


def _best_pair(gramian: Tensor) -> Tensor:
    """Weights [K] of the two tasks whose segment comes closest to the origin."""
    best, weights = torch.inf, torch.zeros(len(gramian))
    for i in range(len(gramian)):
        for j in range(i + 1, len(gramian)):
            share = _segment_min(gramian[i, i], gramian[i, j], gramian[j, j])
            w = torch.zeros(len(gramian))
            w[i], w[j] = share, 1 - share
            cost = w @ gramian @ w
            if cost < best:
                best, weights = cost, w
    return weights


def _simplex_step(weights: Tensor, direction: Tensor) -> Tensor:
    """From `weights` along `direction` to the simplex' border, projected onto it."""
    d = direction - direction.mean()
    room = torch.cat([-weights[d < 0] / d[d < 0], (1 - weights[d > 0]) / d[d > 0]])
    room = room[room > 1e-7]
    target = weights + d * (room.min() if len(room) else 1.0)
    falling = target.sort(descending=True).values
    excess = (falling.cumsum(0) - 1) / torch.arange(1, len(target) + 1)
    return (target - excess[(falling > excess).sum() - 1]).clamp(min=0)


def cagrad(grads: Tensor) -> Tensor:
    """CAGrad with c = 0.5 and LibMTL's rescaling by 1 + c^2, weights by SLSQP."""
    from scipy.optimize import minimize

    c = 0.5
    gramian = (grads @ grads.T).numpy()
    uniform = np.full(len(gramian), 1 / len(gramian))
    radius = c * float(np.sqrt(gramian.mean() + 1e-8)) + 1e-8

    def objective(w: np.ndarray) -> float:
        towards = w @ gramian @ uniform
        return float(towards + radius * np.sqrt(w @ gramian @ w + 1e-8))

    simplex = {"type": "eq", "fun": lambda w: 1 - sum(w)}
    found = minimize(
        objective, uniform, bounds=[(0, 1)] * len(uniform), constraints=simplex
    )
    toward = (grads * torch.from_numpy(found.x).float()[:, None]).sum(0)
    return (grads.mean(0) + radius / (toward.norm() + 1e-8) * toward) / (1 + c**2)


def upgrad(grads: Tensor) -> Tensor:
    """UPGrad: one quadprog problem per task on the normalised Gramian + 1e-4."""
    from qpsolvers import solve_qp

    gramian = (grads @ grads.T).numpy().astype(np.float64)
    k = len(gramian)
    gramian = gramian / gramian.trace() + 1e-4 * np.eye(k)
    rows: Any = [
        solve_qp(gramian, np.zeros(k), -np.eye(k), -unit, solver="quadprog")
        for unit in np.eye(k) / k
    ]
    return torch.from_numpy(np.sum(rows, axis=0)).float() @ grads


SOLVERS: dict[str, Method] = {
    "pcgrad": pcgrad,
    "mgda": mgda,
    "cagrad": cagrad,
    "upgrad": upgrad,
}
