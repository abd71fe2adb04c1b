"""Gradient methods on losses that were weighted first."""

from typing import Any

import jax.numpy as jnp

from mtl_jax.gradients.gramian import Gram, of
from mtl_jax.smto.contract import GramianWeighting, LossWeighting, check_losses
from mtl_jax.smto.gramian import as_gramian
from mtl_jax.smto.imtl_g import imtl_g
from mtl_jax.smto.imtl_l import imtl_l
from mtl_jax.smto.lift import weigh
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array, InputError, PyTree


def reweighted(losses: Any = "si", inner: Any = "mgda") -> GramianWeighting:
    """Apply a Gramian method to the gradients of weighted losses.

    With weights ``v`` from the losses, the inner method sees ``v_i l_i`` and the
    gradients ``v_i g_i``; the weights are ``v_i w_i``. Source: Dai, Fei & Lu, UAI 2023,
    section 4.3, for IGB; Liu et al., ICLR 2021, for IMTL.

    Args:
      losses: a loss weighting, or its name.
      inner: a Gramian weighting, or its name.

    Raises:
      InputError: they are of other families.
    """
    if not isinstance(losses, LossWeighting) or losses.after_update is not None:
        raise InputError(f"reweighted's losses {losses!r} do not weigh losses.")
    first, second = losses, as_gramian(inner, "reweighted")

    def init(num_tasks: int) -> tuple[PyTree, PyTree]:
        return first.init(num_tasks), second.init(num_tasks)

    def update(
        gram: Gram, losses: Array, state: tuple[PyTree, PyTree], key: Array
    ) -> tuple[Solution, tuple[PyTree, PyTree]]:
        check_losses(losses)
        scales, before = weigh(first, losses, state[0], key)
        seen = of(gram).times(scales)
        scaled = jnp.where(jnp.isnan(losses), losses, scales * losses)
        (weights, residual), after = second.update(seen, scaled, state[1], key)
        return Solution(scales * weights, residual), (before, after)

    return GramianWeighting(init, update)


def imtl(learning_rate: float = 0.025, reduction: str = "sum") -> GramianWeighting:
    """Apply both halves of impartial multi-task learning: `imtl_l`, then `imtl_g`.

    Source: Liu et al., ICLR 2021, Algorithm 1. LibMTL means this by IMTL; others mean
    `imtl_g`.
    """
    return reweighted(imtl_l(learning_rate), imtl_g(reduction))
