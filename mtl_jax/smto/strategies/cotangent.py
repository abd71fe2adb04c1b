"""Gradients at the shared representation, and one backward pass of the trunk."""

from abc import abstractmethod
from dataclasses import dataclass

import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients.gramian import gramian
from mtl_jax.smto import Cotangent, GramianWeighting, SmtoState, Solution
from mtl_jax.smto.lift import weigh_gram
from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks, after, settled
from mtl_jax.smto.strategies.representation import (
    at_heads,
    flatten,
    represent,
    unflatten,
)
from mtl_jax.types import Array, ModelState, Params, PyTree


@dataclass(frozen=True)
class PulledBack(Strategy):
    """The direction by what is made of the gradients at the shared representation."""

    @abstractmethod
    def cotangent(
        self, z: Array, grads: Array, losses: Array, state: SmtoState, key: Array
    ) -> tuple[Array, Solution, PyTree]:
        """Choose what is pulled back through the trunk.

        Args:
          z: representation ``[1, B, D]``, or of own inputs ``[T, B, D]``.
          grads: of the losses in it ``[T, B, D]``.
          losses: ``[T]``.
          state: before the update.
          key: for what is drawn at random.

        Returns:
          Gradients to pull back ``[T, B, D]``, the weights, and the method's state.
        """

    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Pull the cotangent back through the trunk once."""
        z, pull_back, trunk = represent(tasks)
        losses, heads, grads, states = at_heads(tasks, z)
        own_inputs = tasks.axes.x is not None
        flat = flatten(grads, 2)  # [T, B, D]
        seen = flatten(z, 2) if own_inputs else flatten(z, 1)[None]
        pulled, solution, method = self.cotangent(seen, flat, losses, state, key)
        pulled = pulled if own_inputs else pulled.sum(axis=0)
        (shared,) = pull_back(unflatten(pulled, z))
        smto = after(state, *solution, shared, None, method)
        shared, smto = settled(losses, shared, smto, state)
        combined = Params(shared, self.weigh_heads(solution.weights, heads))
        return Direction(losses, combined, ModelState(trunk, states), smto)


@dataclass(frozen=True)
class ByRepresentation(PulledBack):
    """Weights from the Gramian of the gradients at the shared representation.

    The "-UB" variant of a method (Sener & Koltun, NeurIPS 2018, section 3.3): one
    backward pass of the trunk for any number of tasks. Rows are the gradients with
    respect to the representations of the batch; where every task brings its own inputs,
    examples do not correspond, and rows are summed over the batch.
    """

    method: GramianWeighting

    def cotangent(  # noqa: D102
        self, z: Array, grads: Array, losses: Array, state: SmtoState, key: Array
    ) -> tuple[Array, Solution, PyTree]:
        own_inputs = z.shape[0] == grads.shape[0]
        rows = grads.sum(axis=1) if own_inputs else grads
        solution, method = weigh_gram(
            self.method, gramian(rows), losses, state.method, key
        )
        return tree.scale_rows(solution.weights, grads), solution, method


@dataclass(frozen=True)
class ByCotangent(PulledBack):
    """The direction by a method that changes the gradients at the representation.

    Such a method has no weights: all are 1, on the heads, too.
    """

    method: Cotangent

    def cotangent(  # noqa: D102
        self, z: Array, grads: Array, losses: Array, state: SmtoState, key: Array
    ) -> tuple[Array, Solution, PyTree]:
        pulled, method = self.method.update(z, grads, state.method, key)
        return pulled, Solution(jnp.ones_like(losses), jnp.zeros(())), method


by_representation = ByRepresentation
by_cotangent = ByCotangent
