"""Flat minima for multi-task learning (Phan et al., 2022)."""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients.gramian import gramian
from mtl_jax.smto.contract import Perturbation, Perturbed, check_key, check_range
from mtl_jax.smto.gramian import as_gramian
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.tree import row_lengths
from mtl_jax.types import Array, Params, PyTree


def fmtl(
    inner: Any = "cagrad", rho: float = 1e-3, head_ratio: float = 1.0
) -> Perturbation:
    """Combine gradients and sharpness gradients of the tasks, each by another method.

    Every task's gradient ``h_i`` at its own worst point within ``rho``,
    ``theta + rho g_i / |g_i|``, is parted into ``g_i`` and ``f_i = h_i - g_i``; the
    direction is ``inner(g) + inner(f)``. Heads take ``h_i``, in a ball of their own.
    Costs two gradients a task. Of a single task it is sharpness-aware minimisation
    (Foret et al., 2021), the fair baseline ``single-fmtl``. Source: Phan et al., 2022
    ("Improving multi-task learning via seeking task-based flat regions"), Algorithm 1.

    Args:
      inner: a Gramian or loss weighting, or its name.
      rho: radius of the ball, of shared parameters.
      head_ratio: radius of the heads' ball, in units of ``rho``; with 0 they stay.

    Raises:
      InputError: rho is not positive, or inner no weighting.
    """
    rho = check_range("fmtl's rho", rho, 0, float("inf"), open_low=True)
    head_ratio = check_range("fmtl's head_ratio", head_ratio, 0, float("inf"))
    method = as_gramian(inner, "fmtl")

    def init(num_tasks: int) -> tuple[PyTree, PyTree]:
        return method.init(num_tasks), method.init(num_tasks)

    def update(
        losses: Array,
        grads: Params,
        grads_at: Any,
        losses_at: Any,
        state: tuple[PyTree, PyTree],
        key: Array,
    ) -> tuple[Perturbed, tuple[PyTree, PyTree]]:
        del losses_at
        check_key(key)
        of_heads = ascent(head_ratio * rho, grads.heads)
        worst = grads_at(Params(ascent(rho, grads.shared), of_heads))
        flat = jax.tree.map(jnp.subtract, worst.shared, grads.shared)
        loss_key, flat_key = jax.random.split(key)
        first, loss_state = method.update(
            gramian(grads.shared), losses, state[0], loss_key
        )
        second, flat_state = method.update(gramian(flat), losses, state[1], flat_key)
        direction = jax.tree.map(
            jnp.add,
            tree.combine(first.weights, grads.shared),
            tree.combine(second.weights, flat),
        )
        residual = jnp.maximum(first.residual, second.residual)
        solution = Solution(first.weights, residual)
        return Perturbed(direction, worst.heads, solution), (loss_state, flat_state)

    return Perturbation(init, update)


def ascent(rho: float | Array, grads: PyTree) -> PyTree:
    """Stretch every task's gradient ``[T, ...]`` to ``rho``; a zero gradient stays."""
    if not jax.tree.leaves(grads):  # heads of tasks that share their output layer
        return grads
    lengths = row_lengths(grads)
    there = lengths > 0
    return tree.scale_rows(
        jnp.where(there, rho / jnp.where(there, lengths, 1), 0), grads
    )
