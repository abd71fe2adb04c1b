"""Dynamic gradient homogenization (Javaloy & Valera, 2022)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.smto.contract import Rotation, check_count, exact
from mtl_jax.smto.rotation import rotation
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.tree import row_lengths
from mtl_jax.types import Array


class RotoGradState(NamedTuple):
    """Lengths of the gradients to compare later ones with."""

    count: Array
    """Updates seen, int32 ``[]``."""
    first: Array
    """``[T]``."""


def rotograd(burn_in: int = 20) -> Rotation:
    """Scale gradients at the representation to one length, and turn them together.

    Scale: with ``a_i`` the relative convergence ``|g_i| / |g_i(0)|``, normalised to sum
    to 1, every gradient gets the length ``sum_i a_i |g_i|``. Rotation: the head of task
    ``i`` sees ``R_i z``, and ``R_i`` descends on ``|R_i v - g~_i|^2``, where ``v`` is
    the mean of the scaled gradients and ``g~_i`` that of task ``i`` behind its
    rotation, both held fixed. Rotations start at the identity and move by the run's
    optimizer, at its learning rate. Source: Javaloy & Valera, ICLR 2022, Algorithm 1.

    Args:
      burn_in: updates after which the lengths ``|g_i(0)|`` are taken anew.

    Raises:
      InputError: ``burn_in`` is negative.
    """
    burn_in = check_count("rotograd's burn_in", burn_in, 0)

    def init(num_tasks: int) -> RotoGradState:
        return RotoGradState(jnp.zeros((), jnp.int32), jnp.ones(num_tasks))

    def update(
        grads: Array, generators: Array, state: RotoGradState, key: Array
    ) -> tuple[Solution, Array, RotoGradState]:
        del key
        norms = row_lengths(grads)
        fresh = (state.count == 0) | (state.count == burn_in)
        first = jnp.where(fresh, norms, state.first)
        known = first > 0
        pace = jnp.where(known, norms / jnp.where(known, first, 1), 0)
        total = pace.sum()
        shares = pace / jnp.where(total > 0, total, 1)
        active = norms > 0
        weights = jnp.where(active, shares @ norms / jnp.where(active, norms, 1), 0)
        scaled = grads * weights[:, None, None]
        mean = scaled.mean(axis=0)

        def distance(generator: Array, target: Array) -> Array:
            turned = mean @ rotation(generator).T
            return jnp.sum((turned - target) ** 2)

        turned = jax.vmap(lambda a, g: g @ rotation(a).T)(generators, scaled)
        slopes = jax.vmap(jax.grad(distance))(generators, turned)
        return exact(weights), slopes, RotoGradState(state.count + 1, first)

    return Rotation(init, update)
