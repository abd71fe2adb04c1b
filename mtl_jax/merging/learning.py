"""Merging coefficients that are learned, by any loss of the merged parameters.

A method is a loss, first coefficients, a clamp and an optimizer. Steps are scanned and
nothing is drawn, so seeds are one more axis: ``jax.vmap`` over corners and batches.

>>> import jax.numpy as jnp, optax
>>> corners = Corners(jnp.zeros(2), jnp.array([[1.0, 0.0], [0.0, 2.0]]))
>>> def loss(params, goal):  # (1, 1) is one times the first vector, half the second
...     return jnp.sum((params.shared - goal) ** 2)
>>> goals = jnp.ones((200, 2))  # of 200 steps
>>> learned = learn(corners, loss, jnp.zeros(2), goals, optimizer=optax.sgd(0.1))
>>> learned.coefficients.round(3).tolist(), learned.params.shared.round(3).tolist()
([1.0, 0.5], [1.0, 1.0])
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from mtl_jax.merging.composition import compose
from mtl_jax.merging.vectors import count_tasks
from mtl_jax.types import Array, InputError, Params, PyTree, Scalar

Loss = Callable[[Params, PyTree], Scalar]
"""``(merged trunk with the heads of all tasks, batch of a step)`` to a loss."""


class Corners(NamedTuple):
    """The start, the task vectors that lead from it, and the heads at their ends."""

    start: PyTree
    """Trunk from which all tasks were trained, leaves ``[...]``."""
    vectors: PyTree
    """Task vectors, leaves ``[T, ...]``, from `task_vectors` or `consistent`."""
    heads: PyTree = ()
    """Heads that the tasks were trained to, leaves ``[T, ...]``."""


class Variables(NamedTuple):
    """Trees that an optimizer moves: the structure of its masks and labels."""

    coefficients: PyTree
    """Before the clamp."""
    heads: PyTree
    """None where they are not trained."""


class Learned(NamedTuple):
    """Merged parameters, and how they were come by."""

    params: Params
    """Merged trunk, leaves ``[...]``, and the heads ``[T, ...]``."""
    coefficients: PyTree
    """Those of the merged trunk, which the clamp let through."""
    path: PyTree
    """Coefficients after each of the ``S`` steps, leaves ``[S, T]``."""
    losses: Array
    """Loss of each step's batch before it, without the penalty: ``[S]``."""


def learn(
    corners: Corners,
    loss: Loss,
    init: PyTree,
    batches: PyTree,
    *,
    optimizer: optax.GradientTransformation,
    clamp: Callable[[Array], Array] = lambda coefficients: coefficients,
    penalty: Callable[[PyTree], Scalar] | None = None,
    train_heads: bool = False,
) -> Learned:
    """Learn the coefficients of task vectors, and the heads with them.

    Cost: a forward and backward pass of the loss a step, and of the trunk's size one
    sum over tasks forward and one inner product with each of them backward; memory for
    all task vectors.

    Args:
      corners: start, task vectors and heads.
      loss: of merged parameters and a batch.
      init: first coefficients, from `per_task`, `per_layer`, or as `compose` has them.
      batches: whatever the loss takes, leaves ``[S, ...]`` with one entry a step:
        examples, rows of a pool that the loss closes over, or keys.
      optimizer: of `Variables`.
      clamp: coefficients ``[T]`` to those that are used; what an optimizer moves is not
        clamped.
      penalty: of the coefficients that are used, added to the loss.
      train_heads: train the heads, too.

    Raises:
      InputError: trees or coefficients that do not fit each other, or batches that are
        not of as many steps.
    """
    count_tasks(corners.start, corners.vectors)
    _check_steps(batches)

    def used(variables: Variables) -> PyTree:
        return jax.tree.map(clamp, variables.coefficients)

    def merged(variables: Variables) -> Params:
        heads = variables.heads if train_heads else corners.heads
        trunk = compose(corners.start, corners.vectors, used(variables))
        return Params(trunk, heads)

    def total(variables: Variables, batch: PyTree) -> tuple[Scalar, Scalar]:
        value = loss(merged(variables), batch)
        return value + (penalty(used(variables)) if penalty else 0), value

    def step(carry: tuple[Variables, PyTree], batch: PyTree) -> tuple:
        variables, state = carry
        grads, value = jax.grad(total, has_aux=True)(variables, batch)
        updates, state = optimizer.update(grads, state, variables)
        variables: Any = optax.apply_updates(variables, updates)
        return (variables, state), (used(variables), value)

    variables = Variables(init, corners.heads if train_heads else None)
    carry = variables, optimizer.init(variables)
    (variables, _), (path, losses) = lax.scan(step, carry, batches)
    return Learned(merged(variables), used(variables), path, losses)


@jax.custom_jvp
def unit_interval(coefficients: Array) -> Array:
    """Clamp coefficients to [0, 1], with a gradient of 1 up to and at both ends.

    As torch's ``clamp`` has it, so that coefficients may start at an end: ``jnp.clip``
    halves the gradient there.

    >>> unit_interval(jnp.array([-0.5, 0.25, 3.0])).tolist()
    [0.0, 0.25, 1.0]
    >>> jax.grad(unit_interval)(0.0).item(), jax.grad(unit_interval)(-0.5).item()
    (1.0, 0.0)
    """
    return jnp.clip(coefficients, 0, 1)


@unit_interval.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (moved,) = primals, tangents
    return unit_interval(x), jnp.where((x >= 0) & (x <= 1), moved, 0)


def _check_steps(batches: PyTree) -> None:
    leaves = [jnp.shape(leaf) for leaf in jax.tree.leaves(batches)]
    if not leaves or len({shape[:1] for shape in leaves}) > 1 or () in leaves:
        raise InputError(
            f"batches have leaves of shapes {[list(shape) for shape in leaves]}; pass "
            f"leaves [S, ...] with one entry for each of S steps."
        )
