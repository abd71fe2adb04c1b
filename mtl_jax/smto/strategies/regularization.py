"""Losses with a penalty on their gradients at the shared representation."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from mtl_jax.smto import Regularizer, SmtoState
from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks, after, settled
from mtl_jax.smto.strategies.representation import at_heads, represent
from mtl_jax.types import Array, InputError, ModelState, Params, PyTree, Scalar


@dataclass(frozen=True)
class ByRegularizer(Strategy):
    """The gradient of the summed losses and the penalty, by derivatives of the heads.

    One backward pass of the trunk, for any number of tasks, and one of the heads' own
    backward pass. Where every task brings its own inputs, examples of one place in the
    batch are taken together. All weights are 1.
    """

    method: Regularizer

    def step(self, tasks: Tasks, state: SmtoState, key: Array) -> Direction:
        """Differentiate at the representation, and pull that back through the trunk."""
        del key
        z, pull_back, trunk = represent(tasks)
        own_inputs = tasks.axes.x is not None
        shape = _shape(z, own_inputs)

        def at(heads: PyTree, z: PyTree) -> tuple[Array, PyTree, PyTree]:
            params = tasks.params._replace(heads=heads)
            losses, _, grads, states = at_heads(replace(tasks, params=params), z)
            return losses, grads, states

        def total(heads: PyTree, z: Array) -> tuple[Scalar, tuple]:
            losses, grads, states = at(heads, z)
            if not self.method.through_heads:
                _, grads, _ = at(jax.lax.stop_gradient(heads), z)
            penalty = self.method.penalty(grads.reshape(len(losses), *shape))
            return losses.sum() + penalty, (losses, states)

        (_, (losses, states)), (heads, slopes) = jax.value_and_grad(
            total, (0, 1), has_aux=True
        )(tasks.params.heads, z)
        (shared,) = pull_back(slopes)
        ones = jnp.ones_like(losses)
        smto = after(state, ones, jnp.zeros(()), shared, None, state.method)
        shared, smto = settled(losses, shared, smto, state)
        return Direction(losses, Params(shared, heads), ModelState(trunk, states), smto)


by_regularizer = ByRegularizer


def _shape(z: PyTree, own_inputs: bool) -> tuple[int, int, int]:
    """Examples, positions and channels of a representation.

    Raises:
      InputError: it is not one array ``[B, C]`` or ``[B, ..., C]``.
    """
    leaves = jax.tree.leaves(z)
    if len(leaves) != 1:
        shapes = " and ".join(str(leaf.shape) for leaf in leaves)
        raise InputError(
            f"repmtl looks at one array [B, ..., C] as the representation, and this "
            f"trunk's are {shapes}; leave it out, or choose another model."
        )
    examples, *positions, channels = leaves[0].shape[own_inputs:]
    size = 1
    for count in positions:
        size *= count
    return examples, size, channels
