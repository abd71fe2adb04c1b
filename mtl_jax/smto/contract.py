"""The contracts of multi-task optimizers, and how a weighting becomes an optimizer.

Two families, named as the literature does. A *loss weighting* looks at the task
losses only and needs one backward pass of the weighted loss. A *Gramian weighting*
looks at the inner products ``gram[i, j] = <g_i, g_j>`` of the tasks' gradients; the
direction is ``sum_i w_i g_i``, so nothing but ``[T, T]`` is ever solved.

`lift` turns either into an optax transformation from per-task gradients
``[T, ...]`` to one direction ``[...]`` that chains with any optax optimizer.
Directions are to be minimised along: ``params - learning_rate * direction``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax import tree
from mtl_jax.types import Array, InputError, PyTree

REDUCTIONS = ("sum", "mean")


class LossWeighting(NamedTuple):
    """Weights of the tasks from their losses."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[Array, PyTree, Array], tuple[Array, PyTree]]
    """``update(losses [T], state, key) -> (weights [T], state)``."""


class GramianWeighting(NamedTuple):
    """Weights of the tasks from the Gramian of their gradients."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[Array, Array, PyTree, Array], tuple[Array, PyTree]]
    """``update(gram [T, T], losses [T], state, key) -> (weights [T], state)``."""


Weighting = LossWeighting | GramianWeighting
Smto = optax.GradientTransformationExtraArgs
"""``init(params) -> state`` and ``update(grads [T, ...], state, params=None, *,
losses=None, key=None) -> (direction [...], state)``; ``state.weights`` are the
weights ``[T]`` of the latest update."""


class SmtoState(NamedTuple):
    """State of a lifted weighting."""

    weights: Array
    """Weights ``[T]`` of the latest update; before the first, ones."""
    method: PyTree
    """The weighting's own state."""


def stateless(num_tasks: int) -> tuple[()]:
    """Initial state of a method that has none."""
    del num_tasks
    return ()


def reduce(weights: Array, reduction: str) -> Array:
    """Scale weights made for a mean over tasks to the reduction asked for.

    In every method with this switch, ``mean`` gives the direction ``g`` for ``T``
    copies of one gradient ``g`` (times the method's documented length), and ``sum``
    gives ``T g``: what unitary scalarization does to them.
    """
    return weights * weights.shape[0] if reduction == "sum" else weights


def check_key(key: Array | None) -> None:
    """Raise an `InputError` where a method that draws at random got no key."""
    if key is None:
        raise InputError("this method draws at random: pass update(..., key=KEY).")


def check_reduction(reduction: str) -> None:
    """Raise an `InputError` for anything but ``sum`` and ``mean``."""
    if reduction not in REDUCTIONS:
        raise InputError(
            f"reduction {reduction!r} is not one of: {', '.join(REDUCTIONS)}."
        )


def lift(weighting: Weighting, num_tasks: int) -> Smto:
    """Make a weighting an optax transformation of per-task gradients.

    Args:
      weighting: any member of the two families.
      num_tasks: number of tasks ``T``, the leading axis of the gradients.

    Raises:
      InputError: at the first update, if the gradients have another number of tasks,
        or if losses or a key are needed and missing.

    >>> import jax.numpy as jnp, numpy as np, optax
    >>> from mtl_jax import smto
    >>> optimizer = optax.chain(smto.lift(smto.make("mgda"), 2), optax.sgd(1.0))
    >>> params = {"w": jnp.zeros(2)}
    >>> grads = {"w": jnp.array([[1.0, 0.0], [-1.0, 1.0]])}  # [T, ...]
    >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
    >>> print(np.asarray(updates["w"]).round(4))  # twice (.2, .4): reduction "sum"
    [-0.4 -0.8]
    """

    def init(params: PyTree) -> SmtoState:
        del params
        return SmtoState(jnp.ones(num_tasks), weighting.init(num_tasks))

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        losses: Any = None,
        key: Any = None,
        **extra_args: Any,
    ) -> tuple[Any, Any]:
        del params, extra_args
        _check_num_tasks(updates, num_tasks)
        if isinstance(weighting, LossWeighting):
            if losses is None:
                raise InputError(
                    "this method weighs losses: pass update(..., losses=)."
                )
            weights, method = weighting.update(losses, state.method, key)
        else:
            gram = tree.gram(updates)
            weights, method = weighting.update(gram, losses, state.method, key)
        return tree.combine(weights, updates), SmtoState(weights, method)

    return Smto(init, update)


def _check_num_tasks(grads: PyTree, num_tasks: int) -> None:
    for leaf in jax.tree.leaves(grads):
        if leaf.ndim == 0 or leaf.shape[0] != num_tasks:
            raise InputError(
                f"a gradient of shape {leaf.shape} does not have {num_tasks} tasks "
                f"in front; pass leaves [T, ...] or lift(..., num_tasks=T)."
            )
