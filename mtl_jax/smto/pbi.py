"""Penalty-based boundary intersection, along a preference (Zhang & Li, 2007)."""

import jax.numpy as jnp

from mtl_jax.smto.contract import LossWeighting, check_range
from mtl_jax.smto.preference import Preference, checked, shares
from mtl_jax.smto.scalarization import scalarized
from mtl_jax.types import Array, Scalar

ROUNDING = 1e-12
"""Added to the squared distance, whose root has no slope at 0."""


def pbi(
    theta: float = 5.0, ideal: float = 0.0, preference: Preference = ()
) -> LossWeighting:
    """Minimise the way along the preference, and ``theta`` times the way off it.

    ``L = d_1 + theta d_2`` with ``f = l - ideal``, ``p`` the preference of length 1,
    ``d_1 = <f, p>`` and ``d_2 = |f - d_1 p|``: losses are to be as ``p`` is. Source:
    Zhang & Li, IEEE TEVC 2007, section III.B.

    Args:
      theta: of the distance to the preference.
      ideal: a lower bound of all losses, at least 0.
      preference: numbers, one a task; their ratios count.

    Raises:
      InputError: an option out of its range; not one number a task (said when the run
        is set up).
    """
    theta = check_range("pbi's theta", theta, 0, float("inf"))
    ideal = check_range("pbi's ideal", ideal, 0, float("inf"))
    share = shares("pbi", preference)

    def value(losses: Array, present: Array) -> Scalar:
        p = jnp.where(present, share(len(losses)), 0)
        size = jnp.linalg.norm(p)
        p = p / jnp.where(size > 0, size, 1)
        over = jnp.where(present, losses - ideal, 0)
        along = over @ p
        # Lagrange's identity for |over - along p|: 0 to the last bit where it is 0.
        crossed = over[:, None] * p[None, :] - p[:, None] * over[None, :]
        off = jnp.sqrt(jnp.sum(crossed**2) / 2 + ROUNDING)
        return along + theta * off

    return scalarized(value, checked(share))
