"""Preferences over tasks: how much each counts, relative to the others."""

import itertools
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from mtl_jax.smto.contract import as_vector
from mtl_jax.types import Array, InputError

Shares = Callable[[int], Array]
"""From the number of tasks to shares ``[T]`` that sum to 1."""
Preference = Sequence[float] | Array
"""Numbers, one a task, of which only the ratios count; empty for equal ones."""
MOST = 1_000
"""Points of a lattice."""


def shares(method: str, preference: Preference) -> Shares:
    """Check a preference, and return a function from ``T`` to its shares ``[T]``.

    Shares sum to 1. A traced preference is not checked.

    >>> shares("upgrad", (1.0, 3.0))(2).tolist(), shares("upgrad", ())(2).tolist()
    ([0.25, 0.75], [0.5, 0.5])

    Raises:
      InputError: a number is negative or not finite, or all are 0; and, of the
        function: there is not one a task.
    """
    values = as_vector(preference)
    known = isinstance(values, np.ndarray)
    said = values.tolist() if known else "(traced)"
    sound = not known or (np.isfinite(values).all() and (values >= 0).all())
    if not sound or (known and values.size and not values.any()):
        raise InputError(
            f"{method}'s preference is {said}; it must be numbers, finite and not "
            f"negative, and not all of them 0."
        )

    def of_tasks(num_tasks: int) -> Array:
        if values.shape == (0,):
            return jnp.full(num_tasks, 1 / num_tasks)
        if values.shape != (num_tasks,):
            raise InputError(
                f"{method}'s preference has {values.size} numbers, {said}, for "
                f"{num_tasks} tasks; pass one number a task, or none for equal ones."
            )
        return jnp.asarray(values / values.sum())

    return of_tasks


EQUAL = shares("", ())


def checked(share: Shares) -> Callable[[int], tuple[()]]:
    """Return the ``init(num_tasks)`` of a method that has no state but a preference."""

    def init(num_tasks: int) -> tuple[()]:
        share(num_tasks)
        return ()

    return init


def lattice(divisions: int, num_tasks: int) -> list[tuple[float, ...]]:
    """Return the vectors of multiples of ``1 / divisions`` that sum to 1.

    Source: Das & Dennis, SIAM J. Optim. 8, 1998 (simplex-lattice design).

    >>> lattice(2, 2)
    [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)]

    Raises:
      InputError: more than `MOST` of them.
    """
    count = math.comb(divisions + num_tasks - 1, divisions)
    if count > MOST:
        raise InputError(
            f"lattice.{divisions} of {num_tasks} tasks has {count} points; choose a "
            f"number of divisions that makes {MOST} at most."
        )
    # Bars among stars: between two of them lie the divisions of a task.
    places = range(divisions + num_tasks - 1)
    return [
        tuple(
            (after - before - 1) / divisions
            for before, after in itertools.pairwise((-1, *bars, len(places)))
        )
        for bars in itertools.combinations(places, num_tasks - 1)
    ]
