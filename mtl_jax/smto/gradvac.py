"""Gradient vaccine (Wang et al., 2021)."""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients.gramian import Gram, gramian, of
from mtl_jax.smto.contract import (
    Aggregate,
    Aggregator,
    GramianWeighting,
    check_choice,
    check_key,
    check_range,
    check_reduction,
    exact,
    reduce,
)
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.smto.surgery import operate
from mtl_jax.types import Array, PyTree

GROUPS = ("model", "layer", "matrix")


def gradvac(
    beta: float = 1e-2, groups: str = "model", reduction: str = "sum"
) -> GramianWeighting | Aggregator:
    """Lift the cosine of every pair of gradients to what it usually is.

    As PCGrad, but the target of a pair is not 0: it is the running mean of the cosines
    that the pair was found at, ``t <- (1 - beta) t + beta cos``, from 0. Source: Wang,
    Tsvetkov, Firat & Cao, ICLR 2021, Algorithm 1 and Eq. 4.

    Args:
      beta: weight of the latest cosine (the paper: 1e-2; LibMTL, TorchJD: 0.5).
      groups: parameters that are looked at together: the whole ``model``, each
        ``layer`` (leaves of one parent), or each ``matrix`` (leaf). All but the first
        need the gradients themselves.
      reduction: ``sum`` or ``mean`` over tasks.

    Raises:
      InputError: an option out of its range.
    """
    check_reduction(reduction)
    beta = check_range("gradvac's beta", beta, 0, 1)
    check_choice("gradvac's groups", groups, GROUPS)

    def operate_on(gram: Gram, targets: Array, key: Array) -> tuple[Array, Array]:
        weights, seen = operate(gram, targets, key)
        alive = of(gram).lengths > 0
        met = alive[:, None] & alive[None, :] & ~jnp.eye(len(alive), dtype=bool)
        targets = jnp.where(met, (1 - beta) * targets + beta * seen, targets)
        return reduce(weights / gram.shape[0], reduction), targets

    def of_model(
        gram: Gram, losses: Array, state: Array, key: Array
    ) -> tuple[Solution, Array]:
        del losses
        check_key(key)
        weights, state = operate_on(gram, state, key)
        return exact(weights), state

    def of_groups(
        grads: PyTree, losses: Array, state: Array, key: Array
    ) -> tuple[Aggregate, Array]:
        del losses
        check_key(key)
        members = _groups(grads, groups)
        leaves, structure = jax.tree.flatten(grads)
        grams = [gramian([leaves[i] for i in group]) for group in members]
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *grams)
        keys = jax.random.split(key, len(members))
        weights, state = jax.vmap(operate_on)(stacked, state, keys)
        direction = list(leaves)
        for group, row in zip(members, weights, strict=True):
            for i in group:
                direction[i] = tree.combine(row, leaves[i])
        mean = jnp.mean(weights, axis=0)
        whole = jax.tree.unflatten(structure, direction)
        return Aggregate(whole, mean, jnp.zeros(())), state

    if groups == "model":
        return GramianWeighting(lambda tasks: jnp.zeros((tasks, tasks)), of_model)

    def init(params: PyTree, num_tasks: int) -> Array:
        return jnp.zeros((len(_groups(params, groups)), num_tasks, num_tasks))

    return Aggregator(init, of_groups)


def _groups(grads: PyTree, groups: str) -> list[list[int]]:
    """Numbers of the leaves of every group."""
    members: dict[Any, list[int]] = {}
    for i, (path, _) in enumerate(jax.tree_util.tree_leaves_with_path(grads)):
        members.setdefault(path[:-1] if groups == "layer" else i, []).append(i)
    return list(members.values())
