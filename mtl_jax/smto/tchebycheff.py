"""Smooth Tchebycheff scalarization of losses, by preference (Lin et al., 2024)."""

import jax

from mtl_jax.smto.contract import LossWeighting, check_range
from mtl_jax.smto.preference import Preference, checked, shares
from mtl_jax.smto.scalarization import scalarized
from mtl_jax.types import Array, Scalar


def tchebycheff(
    mu: float = 0.1, ideal: float = 0.0, preference: Preference = ()
) -> LossWeighting:
    """Minimise a smooth maximum of the losses, each times its preference.

    ``L = mu logsumexp(p_i (l_i - ideal) / mu)``, with ``p`` the shares of the
    preference. Towards ``mu = 0`` the losses become as ``1 / p``, wherever on the
    Pareto front that is, on a concave part of it, too. `stch` is the form for tasks
    without a preference: of logarithms, relative to a nadir. Source: Lin et al., ICML
    2024, Eq. 9.

    Args:
      mu: smoothing, in the unit of the losses; the paper has .01 to 1.
      ideal: a lower bound of all losses, at least 0.
      preference: numbers, one a task; their ratios count.

    Raises:
      InputError: an option out of its range; not one number a task (said when the run
        is set up).
    """
    mu = check_range("tchebycheff's mu", mu, 0, float("inf"), open_low=True)
    ideal = check_range("tchebycheff's ideal", ideal, 0, float("inf"))
    share = shares("tchebycheff", preference)

    def value(losses: Array, present: Array) -> Scalar:
        weighted = share(len(losses)) * (losses - ideal) / mu
        return mu * jax.nn.logsumexp(weighted, where=present)

    return scalarized(value, checked(share))
