"""The greedy merge of ForkMerge: branches join as far as they help a target.

Branches ``[B, ...]`` that forked from common parameters are averaged with weights that
are searched for one branch after another, the best first (Jiang et al.,
2023, ForkMerge, appendix; arXiv:2301.12618).

>>> import jax.numpy as jnp
>>> branches = jnp.array([[0.0], [2.0], [-9.0]])     # the optimum is 1
>>> merged = greedy_merge(branches, lambda x: ((x - 1) ** 2).sum())
>>> merged.coefficients.tolist(), merged.params.tolist()
([0.5, 0.5, 0.0], [1.0])
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.options import check_items
from mtl_jax.types import Array, PyTree, Scalar

ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the mean weight so far that are tried for a branch, as the authors do."""


class Greedy(NamedTuple):
    """Branches, merged greedily."""

    params: PyTree
    """The merged parameters ``[...]``."""
    coefficients: Array
    """Weights of the branches ``[B]``; they sum to 1."""
    losses: Array
    """Losses of the branches ``[B]``."""


def greedy_merge(
    branches: PyTree,
    loss: Callable[[PyTree], Scalar],
    *,
    alphas: Sequence[float] = ALPHAS,
    axis_map: AxisMap = jax.vmap,
) -> Greedy:
    """Average branches with weights that a greedy search finds.

    The branch of the lowest loss has weight 1. Of each following one, ``alpha`` times
    the mean of the weights before it is tried for all ``alphas`` at once, and the
    weight stays of which the average ``sum_b w_b theta_b / sum_b w_b`` has the lowest
    loss; of equal ones the first. As 0 is among them, the merged loss is never above
    that of the best branch. A loss that is not finite counts as the highest.

    This is the search of the authors' code (`forkmerge.py`), for a loss in place of an
    accuracy. That code lets a branch in only where it beats the best of the merge so
    far, which is ``alpha = 0``: so does this.

    Args:
      branches: parameters, leaves ``[B, ...]``.
      loss: of parameters ``[...]``, such as the target's on validation data.
      alphas: from 0 to 1, the smallest 0.
      axis_map: over candidates, ``jax.vmap`` or `axis_map.sequential`.

    Raises:
      InputError: alphas that do not begin with 0, or are out of range.
    """
    rule = "name 0 first, then numbers up to 1, each once"
    first = next(iter(alphas), 0)
    check_items("alphas", alphas, lambda alpha: 0 <= alpha <= 1 and first == 0, rule)

    def of(weights: Array) -> PyTree:
        weights = weights / weights.sum()
        return tree.combine(weights, tree.keep_rows(weights > 0, branches))

    def losses_of(weights: Array) -> Array:
        losses = axis_map(lambda row: loss(of(row)), 0)(weights)
        return jnp.where(jnp.isfinite(losses), losses, jnp.inf)

    count = len(jax.tree.leaves(branches)[0])
    alone = jnp.eye(count)
    losses = losses_of(alone)
    order = jnp.argsort(losses)
    weights = alone[order[0]]
    for place in range(1, count):
        tried = jnp.asarray(alphas, jnp.float32) * weights.sum() / place
        candidates = weights[None] + jnp.outer(tried, alone[order[place]])
        weights = candidates[jnp.argmin(losses_of(candidates))]
    return Greedy(of(weights), weights / weights.sum(), losses)
