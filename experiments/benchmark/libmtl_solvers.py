"""LibMTL's solvers: Gramian ``[T, T]`` to weights ``[T]`` (UPGrad: a row a task).

Written anew after LibMTL 1.1.5 (its later source where that has more methods), with its
numerical choices: absolute epsilons, host solvers, Python loops. `aligned_mtl` differs:
it calls `eigh`, for torch no longer has the `symeig` that LibMTL calls.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def mgda(gramian: Tensor) -> Tensor:
    """Find the min-norm point by LibMTL's projected gradient, 250 steps at most.

    The quadratic forms are vector products where LibMTL repeats K x K matrices.
    """
    weights = _best_pair(gramian)
    if len(gramian) < 3:
        return weights
    for _ in range(250):
        point = _simplex_step(weights, -(gramian @ weights))
        to_weights, to_point = gramian @ weights, gramian @ point
        share, _ = _segment_min(
            weights @ to_weights, weights @ to_point, point @ to_point
        )
        moved = share * weights + (1 - share) * point
        if (moved - weights).abs().sum() < 1e-5:
            break
        weights = moved
    return weights


def _segment_min(aa: Tensor, ab: Tensor, bb: Tensor) -> tuple[float | Tensor, Tensor]:
    """Share of `a` in the shortest vector between a and b, and its squared length.

    The ends are kept off by 1e-3.
    """
    if ab >= aa:
        return 0.999, aa
    if ab >= bb:
        return 0.001, bb
    share = (bb - ab) / (aa + bb - 2 * ab)
    return share, bb + share * (ab - bb)


def _best_pair(gramian: Tensor) -> Tensor:
    """Weights [T] of the two tasks whose segment comes closest to the origin."""
    least, best = torch.tensor(1e8), (0, 1, 0.5)
    for i in range(len(gramian)):
        for j in range(i + 1, len(gramian)):
            share, squared = _segment_min(gramian[i, i], gramian[i, j], gramian[j, j])
            if squared < least:
                least, best = squared, (i, j, share)
    weights = torch.zeros(len(gramian))
    weights[best[0]], weights[best[1]] = best[2], 1 - best[2]
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


C = 0.5


def cagrad(gramian: Tensor) -> Tensor:
    """Solve for CAGrad's weights on the simplex by SLSQP."""
    from scipy.optimize import minimize

    gram, length = gramian.numpy(), radius(gramian)
    uniform = np.full(len(gram), 1 / len(gram))

    def objective(w: np.ndarray) -> float:
        towards = w @ gram @ uniform
        return float(towards + length * np.sqrt(w @ gram @ w + 1e-8))

    simplex = {"type": "eq", "fun": lambda w: 1 - sum(w)}
    solution = minimize(
        objective, uniform, bounds=[(0, 1)] * len(uniform), constraints=simplex
    )
    return torch.from_numpy(solution.x).float()


def radius(gramian: Tensor) -> float:
    """Return the length of CAGrad's correction."""
    return C * (gramian.mean() + 1e-8).sqrt().item() + 1e-8


def nash_mtl(tasks: int) -> Callable[[Tensor, np.ndarray], np.ndarray]:
    """Make the authors' solver of Nash-MTL: ``(gramian, start) -> weights``.

    20 convex problems at most, each linearised at the one before; where one cannot be
    solved, whatever the reason, the weights stay what they were.
    """
    import cvxpy as cp

    ones = np.ones(tasks)
    weights = cp.Variable(tasks, nonneg=True)
    before = cp.Parameter(tasks, value=ones)
    scale = cp.Parameter(1, value=np.ones(1))
    gram = cp.Parameter((tasks, tasks), value=np.eye(tasks))
    gains: Any = gram @ weights
    slope: Any = 1 / before + (1 / (gram @ before)) @ gram
    cost: Any = cp.sum(gains) + slope @ (weights - before) / scale
    shares: Any = [
        cp.log(weights[i] * scale) + cp.log(gains[i]) >= 0 for i in range(tasks)
    ]
    problem = cp.Problem(cp.Minimize(cost), shares)

    def solve(gramian: Tensor, start: np.ndarray) -> np.ndarray:
        norm = gramian.norm()
        gram.value = scaled = (gramian / norm).numpy()
        scale.value = norm.numpy().reshape(1)
        for _ in range(20):
            weights.value = before.value = start
            try:
                problem.solve(solver=cp.ECOS, warm_start=True, max_iters=100)
            except Exception:  # LibMTL: all of them
                weights.value = before.value
            moved = weights.value
            if (
                moved is None
                or np.linalg.norm(scaled @ start - 1 / (start + 1e-10)) < 1e-3
                or np.linalg.norm(moved - start) < 1e-6
            ):
                break
            start = moved
        return start

    return solve


ALPHA = 2.0


def fairgrad(gramian: Tensor) -> np.ndarray:
    """Solve FairGrad with alpha = 2 by scipy's least squares, from equal weights."""
    from scipy.optimize import least_squares

    gram = gramian.numpy()

    def error(w: np.ndarray) -> np.ndarray:
        return gram @ w - (1 / w) ** (1 / ALPHA)

    start = np.full(len(gram), 1 / len(gram))
    return least_squares(error, start, bounds=(0, np.inf)).x


def aligned_mtl(gramian: Tensor) -> Tensor:
    """Align the tasks, scaled by the least eigenvalue that is kept; sum over tasks."""
    values, vectors = torch.linalg.eigh(gramian)
    rank = (values > values.max() * len(values) * torch.finfo().eps).sum()
    order = values.argsort(descending=True)[:rank]
    values, vectors = values[order], vectors[:, order]
    return (values[-1].sqrt() * (vectors / values.sqrt()) @ vectors.T).sum(0)


def upgrad(gramian: Tensor) -> np.ndarray:
    """Solve a quadprog problem per task of UPGrad on the normalised Gramian + 1e-4."""
    from qpsolvers import solve_qp

    trace = gramian.trace()
    gramian = torch.zeros_like(gramian) if trace < 1e-4 else gramian / trace
    k = len(gramian)
    gram = gramian.numpy().astype(np.float64) + 1e-4 * np.eye(k)
    rows: Any = [
        solve_qp(gram, np.zeros(k), -np.eye(k), -unit, solver="quadprog")
        for unit in np.eye(k) / k
    ]
    if any(row is None for row in rows):
        raise ValueError("quadprog finds no solution")
    return np.stack(rows)
