"""Sharpness-aware multi-task optimization, jointly perturbed (Ban et al., 2025)."""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients.gramian import gramian
from mtl_jax.smto.contract import Perturbation, Perturbed, check_key, check_range
from mtl_jax.smto.fmtl import ascent
from mtl_jax.smto.gramian import as_gramian
from mtl_jax.tree import row_lengths
from mtl_jax.types import Array, Params, PyTree

DIFFERENCE = 0.01
"""Length of a step of the forward-only estimate, per coordinate."""


def samo(inner: Any = "cagrad", rho: float = 1e-3, beta: float = 0.1) -> Perturbation:
    """Combine gradients at points that the tasks' mean gradient mostly agrees on.

    In the trunk task ``i`` is moved by ``rho`` along
    ``(1 - beta) g0 + beta |g0| z_i / |z_i|``, leaf by leaf: the mean gradient ``g0``,
    and a forward-only estimate ``z_i`` of the task's own gradient from its losses at
    ``theta +- 0.01 u_i``, with normal noise ``u_i`` of its own. Its head is moved by
    ``rho`` along the head's own gradient. The trunk's gradients there are combined by
    another method; heads take theirs as they are. Costs two gradients and two forward
    passes a task. Source: Ban et al., 2025 ("SAMO"), with the constants of its code,
    which takes the estimate in evaluation mode: here it is taken in the mode of the
    losses.

    Args:
      inner: a Gramian or loss weighting, or its name.
      rho: length of the move (the authors: 1e-3 to 3e-3, 1e-5 on QM9).
      beta: share of the tasks' own estimates (the authors: 0.1 by default, 0.5 and
        0.9 in their commands).

    Raises:
      InputError: an option out of its range, or inner no weighting.
    """
    rho = check_range("samo's rho", rho, 0, float("inf"), open_low=True)
    beta = check_range("samo's beta", beta, 0, 1)
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

        rise = jnp.sign(losses_off(1.0) - losses_off(-1.0))
        # z_i / |z_i| of one leaf is the noise, turned towards rising losses.
        towards = jax.tree.map(_unit_rows, tree.scale_rows(rise, noise))

        def mix(grad: Array, estimate: Array) -> Array:
            g0 = grad.mean(axis=0, keepdims=True)
            size = row_lengths(g0)[0]
            return ((1 - beta) * g0 + beta * size * estimate).astype(grad.dtype)

        trunk = ascent(rho, jax.tree.map(mix, grads.shared, towards))
        moved = grads_at(Params(trunk, ascent(rho, grads.heads)))
        solution, state = method.update(gramian(moved.shared), losses, state, inner_key)
        direction = tree.combine(solution.weights, moved.shared)
        return Perturbed(direction, moved.heads, solution), state

    return Perturbation(method.init, update)


def _noise(key: Array, grads: PyTree) -> PyTree:
    """Draw normal numbers of the gradients' shapes ``[T, ...]``."""
    leaves, structure = jax.tree.flatten(grads)
    keys = jax.random.split(key, len(leaves))
    draws = [
        jax.random.normal(k, leaf.shape, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, draws)


def _unit_rows(leaf: Array) -> Array:
    """Divide every row of a leaf ``[T, ...]`` by its length; a row of 0 stays."""
    lengths = row_lengths(leaf)
    return tree.scale_rows(1 / jnp.where(lengths > 0, lengths, 1), leaf)
