"""Preferences to train one model for all of them, as PaLoRA does."""

import math

import jax
import jax.numpy as jnp

from mtl_jax.smto.contract import (
    PreferenceSampler,
    check_count,
    check_key,
    check_known,
    check_range,
)
from mtl_jax.smto.preference import Preference, lattice, shares
from mtl_jax.types import Array, InputError

MARGIN = 0.01
"""Least share of a task among rays that spread; the authors' epsilon."""
SPREAD = 5.0
"""Power of these rays in the end; the authors' ``mul``."""


def palora(
    rays: int = 1,
    concentration: float = 1.0,
    annealing: int = 0,
    preference: Preference = (),
) -> PreferenceSampler:
    """Minimise the losses of one model at preferences drawn anew at every step.

    ``mean_m sum_t p_mt L_t(theta(p_m))``, where ``theta(p)`` is what the trunk makes of
    the preference ``p_m`` that it is told: the trunk ``palora`` adds low-rank adapters.
    Rays are drawn from a Dirichlet distribution; or, with ``annealing``, are the same
    at every step, evenly spaced, and spread from the centre of the simplex to its
    corners, ``p^(5 t) / sum p^(5 t)`` for ``t`` from 0 to 1.

    Source: Dimitriadis, Frossard & Fleuret, 2024 (arXiv 2407.08056), and their code. It
    adds the losses of the rays up, where this is their mean, and spaces rays for 2 or 3
    tasks; here is the lattice of any number of tasks, of at least as many rays.

    Args:
      rays: preferences a step: the authors take 1, and 6 for dense prediction.
      concentration: of the Dirichlet distribution, the same for all tasks.
      annealing: steps after which the rays are spread; 0: they are drawn.
      preference: that its model is told where it is looked at, numbers, one a task;
        training does not depend on it.

    Raises:
      InputError: an option out of its range; not one number a task (said when the run
        is set up).
    """
    rays = check_count("palora's rays", check_known("palora's rays", rays), 1)
    concentration = check_range(
        "palora's concentration", concentration, 0, float("inf"), open_low=True
    )
    annealing = check_count(
        "palora's annealing", check_known("palora's annealing", annealing), 0
    )
    if annealing and rays < 2:
        raise InputError(
            f"palora's annealing is {annealing} steps, of rays that lie apart; choose "
            f"rays of at least 2, or annealing 0."
        )
    share = shares("palora", preference)

    def init(num_tasks: int) -> Array:
        share(num_tasks)
        return jnp.zeros((), jnp.int32)

    def update(num_tasks: int, state: Array, key: Array) -> tuple[Array, Array]:
        if annealing:
            progress = jnp.minimum(state / annealing, 1)
            powers = jnp.asarray(_spaced(rays, num_tasks)) ** (SPREAD * progress)
            return powers / powers.sum(axis=1, keepdims=True), state + 1
        check_key(key)
        alpha = jnp.full(num_tasks, concentration, jnp.float32)
        return jax.random.dirichlet(key, alpha, (rays,)), state + 1

    return PreferenceSampler(init, update, share)


def _spaced(count: int, num_tasks: int) -> Array:
    """At least so many points ``[M, T]`` of the simplex, away from its border."""
    divisions = 1
    while math.comb(divisions + num_tasks - 1, divisions) < count and num_tasks > 1:
        divisions += 1
    points = jnp.array(lattice(divisions, num_tasks), jnp.float32)
    return MARGIN + (1 - num_tasks * MARGIN) * points
