"""Dual-balancing multi-task learning (Lin et al., 2023)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients.gramian import Gram, of
from mtl_jax.smto.contract import (
    Aggregate,
    Aggregator,
    GramianWeighting,
    check_losses,
    check_range,
    exact,
    positive,
    stateless,
    zero_rows,
)
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.tree import row_lengths
from mtl_jax.types import Array, PyTree


class DbMtlState(NamedTuple):
    """Smoothed gradients of the logarithms of the losses."""

    count: Array
    """Updates seen, int32 ``[]``."""
    mean: PyTree
    """``[T, ...]``."""


def dbmtl(beta: float = 0.9, beta_sigma: float = 0.0) -> GramianWeighting | Aggregator:
    """Smooth the gradients of the log-losses, and stretch all to the longest.

    ``Y <- b Y + (1 - b) g_i / l_i`` from 0, ``b = beta / k^beta_sigma`` at update
    ``k``; direction ``sum_i max_j |Y_j| / |Y_i| Y_i``. Zero rows are left out. There is
    no correction of the start from 0, as in the authors' code. Source: Lin et al.,
    2023, Algorithm 1. Heads get the log-losses' gradients there: here those of the
    losses.

    With ``beta = 0`` nothing is smoothed and the gradients' lengths suffice.

    Args:
      beta: weight of the past at the first update.
      beta_sigma: how fast it falls.

    Raises:
      InputError: an option out of its range; at the first update, losses are missing.
    """
    beta = check_range("dbmtl's beta", beta, 0, 1)
    beta_sigma = check_range("dbmtl's beta_sigma", beta_sigma, 0, float("inf"))

    def of_gram(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del key
        check_losses(losses)
        scales = _usable(losses)
        lengths = of(gram).lengths / scales
        return exact(_stretch(lengths) / scales), state

    def of_grads(
        grads: PyTree, losses: Array, state: DbMtlState, key: Array
    ) -> tuple[Aggregate, DbMtlState]:
        del key
        check_losses(losses)
        scales, count = _usable(losses), state.count + 1
        keep = beta / count.astype(jnp.float32) ** beta_sigma
        new = tree.scale_rows(1 / scales, grads)
        mean = jax.tree.map(
            lambda y, g: keep.astype(y.dtype) * y + (1 - keep).astype(y.dtype) * g,
            state.mean,
            new,
        )
        stretch = _stretch(row_lengths(mean))
        direction = tree.combine(stretch, mean)
        aggregate = Aggregate(direction, stretch / scales, jnp.zeros(()))
        return aggregate, DbMtlState(count, mean)

    # One that is traced may be 0, too: a case of what is smoothed.
    if isinstance(beta, float) and beta == 0:
        return GramianWeighting(stateless, of_gram)

    def init(params: PyTree, num_tasks: int) -> DbMtlState:
        return DbMtlState(jnp.zeros((), jnp.int32), zero_rows(params, num_tasks))

    return Aggregator(init, of_grads)


def _usable(losses: Array) -> Array:
    return positive(jnp.where(jnp.isnan(losses), jnp.nanmean(losses), losses))


def _stretch(lengths: Array) -> Array:
    """Return the factors that make all lengths the longest; 0 for a length of 0."""
    there = lengths > 0
    return jnp.where(there, lengths.max() / jnp.where(there, lengths, 1), 0)
