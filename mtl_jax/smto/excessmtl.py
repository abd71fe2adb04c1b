"""Robust multi-task learning with excess risks (He et al., 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.smto.contract import (
    Aggregate,
    Aggregator,
    check_range,
    check_reduction,
    reduce,
    zero_rows,
)
from mtl_jax.types import Array, PyTree


class ExcessState(NamedTuple):
    """Weights, and what the excess risks are measured with."""

    weights: Array
    """``[T]``, of sum ``T``."""
    base: Array
    """Excess risks of the first update ``[T]``; zeros before it."""
    roots: PyTree
    """Roots of the sums of squared gradients ``[T, ...]``: squares may overflow."""


def excessmtl(step: float = 1.0, reduction: str = "sum") -> Aggregator:
    """Give more weight to tasks that are still far from their optimum.

    The excess risk is estimated as Adagrad's decrement: ``S_i += g_i^2``,
    ``e_i = sum_p g_ip^2 / sqrt(S_ip)``; relative to that of the first update it moves
    the weights, ``w_i <- w_i exp(step e_i / e_i(0))``, which are scaled to sum to
    ``T``. A task whose gradient has been 0 so far keeps its weight. Source: He, Zhou,
    Zhang, Kumar & Zhao, ICML 2024, Algorithm 1; the first update leaves the weights
    equal, as in the authors' code.

    Args:
      step: of the weights (the authors' command: 1; LibMTL: 0.01).
      reduction: ``sum``: weights sum to ``T``; ``mean``: to 1.

    Raises:
      InputError: an option out of its range.
    """
    check_reduction(reduction)
    step = check_range("excessmtl's step", step, 0, float("inf"))

    def init(params: PyTree, num_tasks: int) -> ExcessState:
        return ExcessState(
            jnp.ones(num_tasks),
            jnp.zeros(num_tasks),
            zero_rows(params, num_tasks),
        )

    def update(
        grads: PyTree, losses: Array, state: ExcessState, key: Array
    ) -> tuple[Aggregate, ExcessState]:
        del key
        roots = jax.tree.map(jnp.hypot, state.roots, grads)

        def decrement(grad: Array, root: Array) -> Array:
            ratio = jnp.where(root > 0, grad / jnp.where(root > 0, root, 1), 0)
            return jnp.sum((grad * ratio).reshape(len(grad), -1), axis=1)

        parts = jax.tree.leaves(jax.tree.map(decrement, grads, roots))
        excess = jnp.stack(parts).sum(axis=0)
        known = state.base > 0
        relative = jnp.where(known, excess / jnp.where(known, state.base, 1), 0)
        # Scaled so that the largest exponent is 0: sums come out the same.
        grown = state.weights * jnp.exp(step * (relative - relative.max()))
        weights = grown * (len(grown) / grown.sum())
        used = reduce(weights / len(grown), reduction)
        if losses is not None:  # NaN: a task that is absent
            used = jnp.where(jnp.isnan(losses), 0, used)
        aggregate = Aggregate(tree.combine(used, grads), used, jnp.zeros(()))
        base = jnp.where(known, state.base, excess)
        return aggregate, ExcessState(weights, base, roots)

    return Aggregator(init, update)
