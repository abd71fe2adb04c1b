"""Devices that share a batch: each holds as many of its examples as the others."""

from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec as P

from mtl_jax.types import Array

AXIS = "batch"
"""Mesh axis along which they lie."""


def share() -> int:
    """Return the number of devices that share a batch, where this is traced."""
    return jax.sharding.get_abstract_mesh().shape.get(AXIS, 1)


def shard_over_batch(f: Callable[..., Array]) -> Callable[..., Array]:
    """Make ``f(x [..., B], *weights) -> [..., B]`` stay with the examples of a device.

    For what looks at every example on its own, where the compiler does not see that: it
    collects the whole batch for convolutions mapped over tasks. Nothing changes where
    devices share no batch, or not evenly.
    """

    def mapped(x: Array, *weights: Array) -> Array:
        if share() == 1 or x.shape[-1] % share():
            return f(x, *weights)
        examples = P(*[None] * (x.ndim - 1), AXIS)
        return jax.shard_map(
            f,
            in_specs=(examples, *[P()] * len(weights)),
            out_specs=examples,
            axis_names={AXIS},
            check_vma=False,
        )(x, *weights)

    return mapped
