"""Targets that a likelihood knows, and what becomes of the others.

A label of no class is not ignored in silence, nor taken for another one: where targets
can be read (a data set at the door of a setting, arrays outside of ``jit``) it is
refused, and where they are traced the example's loss, its gradient and its scores are
NaN. Pixels are another matter: where most images lack some, they are left out.

>>> import jax.numpy as jnp
>>> CLASSES.knows(jnp.zeros((3, 2)), jnp.array([1.0, -1.0, 2.0])).tolist()
[True, False, False]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from mtl_jax.types import Array, InputError


class Targets(NamedTuple):
    """The targets of a likelihood."""

    knows: Callable[[Any, Any], Array]
    """``(outputs [B, ...], targets [B, ...])`` to whether each is one ``[B, ...]``; of
    the outputs only their shape is looked at."""
    words: str
    """Description of the targets, for people."""


def library(targets: Any) -> Any:
    """Return what computes with targets: NumPy with its own, which compiles nothing.

    >>> library(np.zeros(2)).__name__, library(jnp.zeros(2)).__name__
    ('numpy', 'jax.numpy')
    """
    return np if isinstance(targets, np.ndarray) else jnp


def is_class(outputs: Any, labels: Any) -> Array:
    """Tell which labels, numbers of any type, are a class of the last axis."""
    xp = library(labels)
    labels = xp.asarray(labels)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        labels = xp.where(labels == xp.floor(labels), labels, -1)
    else:
        labels = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))
    return (labels >= 0) & (labels < outputs.shape[-1])


def _is_binary(outputs: Any, labels: Any) -> Array:
    del outputs
    labels = library(labels).asarray(labels)
    return (labels == 0) | (labels == 1)


def _is_finite(outputs: Any, targets: Any) -> Array:
    del outputs
    xp = library(targets)
    return xp.isfinite(xp.asarray(targets))


CLASSES = Targets(is_class, "whole numbers from 0 to one less than its outputs")
BINARY = Targets(_is_binary, "0 or 1")
NUMBERS = Targets(_is_finite, "finite numbers")


def refuse_others(known: Targets, outputs: Any, targets: Any, whose: str) -> None:
    """Raise an `InputError` for a target that is none; traced ones pass.

    Args:
      known: the likelihood's.
      outputs: ``[B, ...]``, or anything with their shape.
      targets: ``[B, ...]``.
      whose: targets they are, at the beginning of the message.
    """
    if isinstance(targets, Tracer):
        return
    with jax.ensure_compile_time_eval():  # known values, though within jit
        others = ~np.asarray(known.knows(outputs, targets))
    if others.any():
        values = np.asarray(targets)[others]
        raise InputError(
            f"{whose} holds {values.flat[0]} ({others.sum()} of {others.size} targets "
            f"are like that), and its targets are {known.words}; mend the data, or "
            f"leave these examples out."
        )


def or_nan(knows: Array, values: Array) -> Array:
    """Make values ``[B]`` NaN where a target is not known."""
    return jnp.where(knows, values, jnp.nan)
