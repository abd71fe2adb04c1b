"""PLE: levels of shared and own experts, of which tasks and a shared stream take mixes.

Progressive layered extraction: Tang et al., RecSys 2020, eq. 6 and 7, figure 5. A level
has shared experts, on the shared stream, and experts of every task, on its stream. A
task's stream goes on with a softmax mix of its own experts and the shared ones, the
shared stream with one of all experts. The last level is that of `cgc`.

Through the shared stream the loss of a task reaches the experts of all others but those
of the last level. So these alone, with their gates, are in the heads, and all levels
before are in the trunk. (LibMTL's PLE has no shared stream: there shared experts look
at the streams of the tasks. Of one level, both are CGC.)
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from mtl_jax.models.columns import check_stages, own_column
from mtl_jax.models.mixture import SoftmaxGate, check_experts, mix, several
from mtl_jax.models.side_by_side import side_by_side
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import Array


class Extracted(NamedTuple):
    """The representation below the last level's own experts."""

    experts: Array
    """Features of the last level's shared experts ``[B, K, ...]``."""
    streams: Array
    """Streams of all tasks ``[B, T, ...]``, which its own experts look at."""


class Mix(nn.Module):
    """A softmax gate of a stream over experts."""

    @nn.compact
    def __call__(self, stream: Array, experts: Array) -> Array:
        """Mix ``[B, K, ...]`` as a stream ``[B, ...]`` says, to ``[B, ...]``."""
        flat = stream.reshape(len(stream), -1)
        return mix(SoftmaxGate(name="gate")(flat, experts.shape[1]), experts)


class PLE(Trunk):
    """All levels but the last one's own experts: features `Extracted`."""

    encoder: Trunk
    experts: int
    specific: int
    tasks: int = 1

    def for_tasks(self, count: int) -> Trunk:
        """Return the trunk with a stream for every task."""
        return self.clone(tasks=count)

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Extracted:
        """Return the last level's shared experts, and the streams of all tasks."""

        def layers(stage: nn.Module, stream: Array) -> Array:
            return several(stage, self.specific, stream, train)

        shared, tasks = x, self.tasks
        streams = _repeat(x, tasks)
        *levels, last = self.encoder.stages()
        for number, stage in enumerate(levels):
            common = several(stage(f"shared_{number}"), self.experts, shared, train)
            layer = stage(f"specific_{number}")
            theirs = side_by_side(layer, tasks, streams, layers, mapped=True)
            seen = jnp.concatenate([_repeat(common, tasks), theirs], axis=2)
            streams = side_by_side(
                Mix(name=f"task_gates_{number}"),
                tasks,
                (streams, seen),
                lambda gate, at: gate(*at),
                mapped=True,
            )
            flat = theirs.reshape(len(x), -1, *theirs.shape[3:])
            everything = jnp.concatenate([common, flat], axis=1)
            shared = Mix(name=f"shared_gate_{number}")(shared, everything)
        experts = several(last("shared_last"), self.experts, shared, train)
        return Extracted(experts, streams)

    def head(self, width: int) -> nn.Module:
        """Make the head of the encoder."""
        return self.encoder.head(width)

    def attach(self, head: nn.Module) -> nn.Module:
        """Put the last level's own experts and gate of a task below its head."""
        encoder = self.encoder.clone(parent=None)
        return LastLevel(head, encoder, self.specific, parent=None)


class LastLevel(nn.Module):
    """The own experts of the last level, their gate, and a head."""

    head: nn.Module
    encoder: Trunk
    specific: int

    @nn.compact
    def __call__(self, z: Extracted, train: bool = False) -> Array:
        """Map `Extracted` to outputs ``[B, ..., width]``."""
        stream = own_column(self, z.streams)
        layer = self.encoder.stages()[-1]("specific")
        its = several(layer, self.specific, stream, train)
        experts = jnp.concatenate([z.experts, its], axis=1)
        return self.head(Mix(name="mix")(stream, experts), train)


def ple(experts: int = 1, specific: int = 1, encoder: Trunk | str = "mlp") -> Trunk:
    """Make the trunk; a layer of the encoder is an expert of a level.

    Args:
      experts: number that are shared, at every level.
      specific: number that every task has of its own, at every level.
      encoder: whose layers are the experts: `mlp`, `cnn` or `lenet`, of at least two.

    Raises:
      InputError: numbers of experts that are not positive; another encoder, or one of a
        single layer, which is `cgc`.
    """
    check_experts("ple", encoder, experts=experts, specific=specific)
    return PLE(check_stages("ple", encoder), experts, specific)


def _repeat(x: Array, count: int) -> Array:
    """Repeat ``[B, ...]`` on a new axis: ``[B, count, ...]``."""
    return jnp.broadcast_to(x[:, None], (len(x), count, *x.shape[1:]))
