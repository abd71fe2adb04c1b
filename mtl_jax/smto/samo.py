"""Sharpness-aware multi-task optimization, jointly perturbed (Ban et al., 2025)."""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gramian import gramian
from mtl_jax.smto.contract import Perturbation, Perturbed, check_key, check_range
from mtl_jax.smto.fmtl import ascent
from mtl_jax.smto.gramian import as_gramian
from mtl_jax.types import Array, Params, PyTree

DIFFERENCE = 0.01
"""Length of a step of the forward-only estimate, per coordinate."""


def samo(inner: Any = "cagrad", rho: float = 1e-3, beta: float = 0.1) -> Perturbation:
    """Gradients at points that the tasks' mean gradient mostly agrees on.

    Task ``i`` is moved by ``rho`` along ``(1 - beta) g0 + beta |g0| z_i / |z_i|``, leaf
    by leaf: the mean gradient ``g0``, and a forward-only estimate ``z_i`` of the task's
    own gradient from two losses at ``theta +- 0.01 u``, with one random ``u`` for all.
    The gradients there are combined by another method. Heads are not moved. Source: Ban
    et al., 2025 ("SAMO"), with the constants of its code.

    Args:
      inner: a Gramian or loss weighting, or its name.
      rho: length of the move.
      beta: share of the tasks' own estimates.

    Raises:
      InputError: an option out of its range, or inner no weighting.
    """
    check_range("samo's rho", rho, 0, float("inf"), open_low=True)
    check_range("samo's beta", beta, 0, 1)
    method = as_gramian(inner, "samo")

    def update(
        losses: Array,
        grads: Params,
        grads_at: Any,
        losses_at: Any,
        state: PyTree,
        key: Array,
    ) -> tuple[Perturbed, PyTree]:
        check_key(key)
        draw_key, inner_key = jax.random.split(key)
        noise = _noise(draw_key, grads.shared)
        still = jax.tree.map(jnp.zeros_like, grads.heads)

        def losses_off(sign: float) -> Array:
            offset = jax.tree.map(lambda u: sign * DIFFERENCE * u, noise)
            return losses_at(Params(offset, still))

        slopes = (losses_off(1.0) - losses_off(-1.0)) / (2 * DIFFERENCE)
        mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), grads.shared)

        def mix(g0: Array, u: Array) -> Array:
            # z_i / |z_i| of one leaf is the noise, turned towards rising losses
            own = jnp.sign(slopes).astype(u.dtype).reshape(-1, *[1] * g0.ndim) * u
            return (1 - beta) * g0[None] + beta * jnp.linalg.norm(
                g0.ravel()
            ) * own / jnp.linalg.norm(u[0].ravel())

        offset = ascent(rho, jax.tree.map(mix, mean, noise))
        moved = grads_at(Params(offset, still))
        solution, state = method.update(gramian(moved.shared), losses, state, inner_key)
        direction = tree.combine(solution.weights, moved.shared)
        return Perturbed(direction, moved.heads, solution), state

    return Perturbation(method.init, update)


def _noise(key: Array, grads: PyTree) -> PyTree:
    """One normal draw of the parameters' shape, repeated for every task."""
    leaves, structure = jax.tree.flatten(grads)
    keys = jax.random.split(key, len(leaves))

    def draw(leaf: Array, key: Array) -> Array:
        one = jax.random.normal(key, (1, *leaf.shape[1:]), leaf.dtype)
        return jnp.broadcast_to(one, leaf.shape)

    return jax.tree.unflatten(structure, map(draw, leaves, keys))
