"""Linear scalarization with a reward for the angle to a preference (COSMOS)."""

import jax.numpy as jnp

from mtl_jax.smto.contract import LossWeighting, check_range
from mtl_jax.smto.preference import Preference, checked, shares
from mtl_jax.smto.scalarization import scalarized
from mtl_jax.types import Array, Scalar


def cosmos(penalty: float = 1.0, preference: Preference = ()) -> LossWeighting:
    """Minimise the preferred sum of the losses, minus its cosine with the preference.

    ``L = sum_i p_i l_i - penalty cos(p, l)``, with ``p`` the shares of the preference.
    The network is not told the preference, as it is in the paper: every preference
    trains one of its own. Source: Ruchte & Grabocka, ICDM 2021, Eq. 5.

    Args:
      penalty: weight of the cosine; the paper has .01 to 8, by data set.
      preference: numbers, one a task; their ratios count.

    Raises:
      InputError: an option out of its range; not one number a task (said when the run
        is set up).
    """
    penalty = check_range("cosmos's penalty", penalty, 0, float("inf"))
    share = shares("cosmos", preference)

    def value(losses: Array, present: Array) -> Scalar:
        p = jnp.where(present, share(len(losses)), 0)
        sizes = jnp.linalg.norm(p) * jnp.linalg.norm(losses)
        total = p @ losses
        return total - penalty * total / jnp.where(sizes > 0, sizes, 1)

    return scalarized(value, checked(share))
