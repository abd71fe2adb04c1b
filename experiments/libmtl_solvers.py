"""LibMTL's ways from the tasks' gradients to an update, as the benchmark runs them.

Written anew after LibMTL 1.1.5 (its later source where that has more methods), with its
numerical choices: absolute epsilons, host solvers, Python loops. Where it differs:
`aligned_mtl` calls `eigh`, for torch no longer has the `symeig` that LibMTL calls, and
`imtl_g` leaves out the loss scales that LibMTL always learns with it. Nash-MTL needs
the solver ECOS; without it LibMTL trains with equal weights and does not say so.
"""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

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
    """Of the update, after that pass; 0 for no limit."""


# Gramian [T, T] to weights [T] (UPGrad: [T, T], one row per task).


def mgda(gramian: Tensor) -> Tensor:
    """Min-norm point by LibMTL's projected gradient steps (250 at most), no normaliser.

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
    """Weights on the simplex of CAGrad's correction, by SLSQP."""
    from scipy.optimize import minimize

    gram, radius = gramian.numpy(), _radius(gramian)
    uniform = np.full(len(gram), 1 / len(gram))

    def objective(w: np.ndarray) -> float:
        towards = w @ gram @ uniform
        return float(towards + radius * np.sqrt(w @ gram @ w + 1e-8))

    simplex = {"type": "eq", "fun": lambda w: 1 - sum(w)}
    found = minimize(
        objective, uniform, bounds=[(0, 1)] * len(uniform), constraints=simplex
    )
    return torch.from_numpy(found.x).float()


def _radius(gramian: Tensor) -> float:
    """Length of CAGrad's correction."""
    return C * (gramian.mean() + 1e-8).sqrt().item() + 1e-8


def nash_mtl(tasks: int) -> Callable[[Tensor, np.ndarray], np.ndarray]:
    """The authors' solver of Nash-MTL: ``(gramian, start) -> weights``.

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
            found = weights.value
            if (
                found is None
                or np.linalg.norm(scaled @ start - 1 / (start + 1e-10)) < 1e-3
                or np.linalg.norm(found - start) < 1e-6
            ):
                break
            start = found
        return start

    return solve


ALPHA = 2.0


def fairgrad(gramian: Tensor) -> np.ndarray:
    """FairGrad with alpha = 2 by scipy's least squares, from equal weights."""
    from scipy.optimize import least_squares

    gram = gramian.numpy()

    def error(w: np.ndarray) -> np.ndarray:
        return gram @ w - (1 / w) ** (1 / ALPHA)

    start = np.full(len(gram), 1 / len(gram))
    return least_squares(error, start, bounds=(0, np.inf)).x


def aligned_mtl(gramian: Tensor) -> Tensor:
    """Aligned-MTL scaled by the least eigenvalue that is kept, summed over tasks."""
    values, vectors = torch.linalg.eigh(gramian)
    rank = (values > values.max() * len(values) * torch.finfo().eps).sum()
    order = values.argsort(descending=True)[:rank]
    values, vectors = values[order], vectors[:, order]
    return (values[-1].sqrt() * (vectors / values.sqrt()) @ vectors.T).sum(0)


def upgrad(gramian: Tensor) -> np.ndarray:
    """UPGrad: one quadprog problem per task on the normalised Gramian + 1e-4."""
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


# Gradients [T, P] and losses [T] to an update [P], or to weights [T].


def combine(weights: Tensor, grads: Tensor) -> Tensor:
    """``sum_i w_i g_i``, task by task as LibMTL does."""
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
                own, other, target = moved[i].norm(), grads[j].norm(), targets[i, j]
                cosine = torch.dot(moved[i], grads[j]) / (own * other + 1e-8)
                if cosine < target:
                    sine, aim = (1 - cosine**2).sqrt(), (1 - target**2).sqrt()
                    lift = own * (target * sine - cosine * aim) / (other * aim + 1e-8)
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
        toward = (grads * cagrad(gramian)[:, None]).sum(0)
        share = _radius(gramian) / (toward.norm() + 1e-8)
        return (grads.mean(0) + share * toward) / (1 + C**2)

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
    solve, weights = nash_mtl(tasks), np.ones(tasks, np.float32)

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
    """A method that weighs by the Gramian: combines gradients, or hands on weights."""

    def make(tasks: int) -> Update:
        del tasks

        def update(grads: Tensor, losses: Tensor) -> Tensor:
            del losses
            weights = solve(grads @ grads.T)
            return combine(weights, grads) if combined else weights

        return update

    return make


METHODS: dict[str, Method] = {
    "mgda": Method(_of_gramian(mgda)),
    "pcgrad": Method(_pcgrad),
    "gradvac": Method(_gradvac),
    "cagrad": Method(_cagrad, ("scipy",)),
    "imtl_g": Method(_imtl_g),
    "nash_mtl": Method(_nash_mtl, ("cvxpy", "ecos"), weighs=True, max_norm=1.0),
    "fairgrad": Method(
        _of_gramian(lambda gram: torch.from_numpy(fairgrad(gram)).float(), False),
        ("scipy",),
        weighs=True,
    ),
    "aligned_mtl": Method(_of_gramian(aligned_mtl)),
    "upgrad": Method(
        _of_gramian(lambda gram: torch.from_numpy(upgrad(gram)).float().sum(0)),
        ("qpsolvers", "quadprog"),
    ),
    "gradnorm": Method(_gradnorm),
    "dbmtl": Method(_dbmtl, of_logs=True),
    "moco": Method(_moco),
    "excessmtl": Method(_excessmtl, weighs=True),
}
