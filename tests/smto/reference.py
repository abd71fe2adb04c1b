"""Directions of the multi-task optimizers, of one Jacobian ``[T, P]``, in float64.

Each by another algorithm than the package has, from the Jacobian, not from its Gramian:
that would square its condition.
"""

import numpy as np
from scipy.optimize import nnls


def lengths_of(jacobian):
    """Compute the gradients' norms ``[T]``, 1 for zero ones."""
    lengths = np.linalg.norm(jacobian, axis=1)
    return np.where(lengths > 0, lengths, 1)


def nearest_to_zero(points):
    """Find it in the hull by non-negative least squares, as Lawson & Hanson do."""
    scale = lengths_of(points).min()
    system = np.vstack([points.T / scale, np.ones(len(points))])
    weights, _ = nnls(system, np.eye(len(system))[-1], maxiter=10000)
    return weights / weights.sum() @ points


def mgda(jacobian):
    return len(jacobian) * nearest_to_zero(jacobian)


def without_conflict(jacobian, direction):
    """Project a direction onto the dual cone of the gradients."""
    units = jacobian / lengths_of(jacobian)[:, None]
    size = np.linalg.norm(direction)
    if size == 0:
        return direction
    added, _ = nnls(units.T, -direction / size, maxiter=10000)
    return direction + size * added @ units


def dualproj(jacobian, wanted=1.0):
    return without_conflict(jacobian, (weighted(jacobian, wanted)).sum(axis=0))


def upgrad(jacobian, wanted=1.0):
    rows = weighted(jacobian, wanted)
    return sum(without_conflict(jacobian, row) for row in rows)


def weighted(jacobian, wanted):
    """Multiply gradients by what is wanted of each, ``[T]`` of mean 1."""
    return np.broadcast_to(wanted, len(jacobian))[:, None] * jacobian


def pcd(jacobian, tau=0.02):
    """Follow the first gradient; all of length 1, and no mean over time."""
    units = jacobian / lengths_of(jacobian)[:, None]
    lack = tau - units[1:] @ units[0]
    target = np.linalg.lstsq(units[1:], lack)[0]
    added, _ = nnls(units[1:].T, target, maxiter=10000)
    direction = units[0] + added @ units[1:]
    return lengths_of(jacobian)[0] * direction / np.linalg.norm(direction)


def cagrad(jacobian, c=0.4):
    """Find the best in the ball, by ``p``, the least of ``g_i + t g_0``.

    Then ``p / t = g_0 + r (p - t g_0) / |p - t g_0|``, as optimal as ``p`` is.
    """
    mean = jacobian.mean(axis=0)
    radius = c * np.linalg.norm(mean)

    def least(t):
        return nearest_to_zero(jacobian + t * mean)

    low, high = 1e-9, 1e3 + 2 * lengths_of(jacobian).max() / radius
    while high / low > 1 + 1e-12:
        middle = np.sqrt(low * high)
        outside = np.linalg.norm(least(middle) - middle * mean) > middle * radius
        low, high = (middle, high) if outside else (low, middle)
    return len(jacobian) * least(high) / high / (1 + c**2)


def equal(jacobian, wanted=1.0):
    """Solve ``<u_i, x> = p_i`` for the unit gradients: ``x`` and its weights."""
    wanted = np.broadcast_to(wanted, len(jacobian))
    left, sizes, right = np.linalg.svd(
        jacobian / lengths_of(jacobian)[:, None], full_matrices=False
    )
    parts = np.where(sizes > 1e-12, wanted @ left / np.maximum(sizes, 1e-12), 0)
    y = left @ np.where(sizes > 1e-12, parts / np.maximum(sizes, 1e-12), 0)
    return parts @ right, y / lengths_of(jacobian)


def config(jacobian, wanted=1.0):
    x, _ = equal(jacobian, wanted)
    return (jacobian @ x).sum() * x / (x @ x)


def imtl_g(jacobian):
    x, weights = equal(jacobian)
    return len(jacobian) * x / weights.sum()


def aligned_mtl(jacobian, wanted=1.0):
    left, sizes, right = np.linalg.svd(jacobian, full_matrices=False)
    return sizes.min() * np.broadcast_to(wanted, len(jacobian)) @ left @ right


def fairgrad(jacobian, alpha=2.0):
    """Solve ``G w = w^(-1 / alpha)`` by Newton's method with a line search."""
    lengths = lengths_of(jacobian)
    units, power = jacobian / lengths[:, None], 1 / alpha
    cosines, scale = units @ units.T, np.exp(np.log(lengths).mean())
    pull = (lengths / scale) ** (power - 1)

    def cost(v):
        if (v <= 0).any():
            return np.inf
        gains = np.log(v) if alpha == 1 else v ** (1 - power) / (1 - power)
        return v @ cosines @ v / 2 - pull @ gains

    v = (pull / np.abs(cosines).sum(axis=1)) ** (alpha / (1 + alpha))
    for _ in range(60):
        gain = pull * v ** (1 - power)
        slope = v * (cosines @ v) - gain
        hessian = v[:, None] * cosines * v + np.diag(power * gain)
        change = -np.linalg.lstsq(hessian, slope)[0]
        step, least = 1.0, cost(v)
        while step > 1e-9 and cost(v * (1 + step * change)) > least:
            step /= 2
        v = v * (1 + step * change)
        if np.abs(change).max() < 1e-12:
            break
    return v / lengths * scale ** (1 - 2 * alpha / (1 + alpha)) @ jacobian


def nash_mtl(jacobian):
    return fairgrad(jacobian, 1.0)
