"""Weightings of any kind as weightings of the Gramian, for methods around methods."""

from typing import Any

from mtl_jax.gradients.gramian import Gram
from mtl_jax.smto.contract import (
    GramianWeighting,
    LossWeighting,
    check_losses,
    exact,
)
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.types import Array, InputError, PyTree


def as_gramian(inner: Any, outer: str) -> GramianWeighting:
    """Make a Gramian weighting of a loss weighting, which ignores the Gramian.

    Args:
      inner: a Gramian weighting, which stays as it is, or a loss weighting.
      outer: name of the method that is made of it, for the message.

    Raises:
      InputError: ``inner`` is no weighting, or wants to know the losses after a step.
    """
    if isinstance(inner, GramianWeighting):
        return inner
    if not isinstance(inner, LossWeighting) or inner.after_update is not None:
        raise InputError(
            f"{outer} is made of a method that weighs losses or a Gramian before the "
            f"step, such as 'mgda'; {inner!r} does not."
        )
    weighting = inner

    def update(
        gram: Gram, losses: Array, state: PyTree, key: Array
    ) -> tuple[Solution, PyTree]:
        del gram
        check_losses(losses)
        weights, state = weighting.update(losses, state, key)
        return exact(weights), state

    return GramianWeighting(weighting.init, update)
