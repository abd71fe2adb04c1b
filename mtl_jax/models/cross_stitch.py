"""Cross-stitch networks: a column for every task, mixed linearly between the layers.

Source: Misra et al., CVPR 2016, eq. 1, for any number of tasks: behind every layer but
the last, column ``t`` goes on with ``sum_s alpha_ts x_s``, one number for all units of
a layer, as in LibMTL. At first ``alpha_tt`` is .9, as in the paper, and the others
share the rest (LibMTL: all are 1, so that values grow with the number of tasks). The
paper tries higher rates for the numbers alpha than for the layers; here it is the same.

All columns are in the trunk: through the stitches the loss of a task reaches them all.
A task that trains alone has the others' columns beside its own.
"""

import jax.numpy as jnp
from flax import linen as nn

from mtl_jax.models.columns import check_stages, own_column
from mtl_jax.models.side_by_side import side_by_side
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import Array

SAME = 0.9
"""Share of a column in itself at first."""


class CrossStitch(Trunk):
    """Columns that are mixed between stages: features ``[B, T, ...]``."""

    encoder: Trunk
    columns: int = 1

    def for_tasks(self, count: int) -> Trunk:
        """Return the trunk with a column for every task."""
        return self.clone(columns=count)

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Features of all columns ``[B, T, ...]`` of inputs ``[B, ...]``."""
        count = self.columns

        def apply(layer: nn.Module, x: Array) -> Array:
            return layer(x, train)

        for number, stage in enumerate(self.encoder.stages()):
            if number:
                alpha = self.param(f"stitch_{number}", _shares, (count, count))
                x = jnp.einsum("ts,bs...->bt...", alpha, x)
            layer = stage(f"stage_{number}")
            x = side_by_side(layer, count, x, apply, mapped=number > 0)
        return x

    def head(self, width: int) -> nn.Module:
        """Make the head of the encoder."""
        return self.encoder.head(width)

    def attach(self, head: nn.Module) -> nn.Module:
        """Let a head see the column of its task."""
        return OwnColumn(head, parent=None)


class OwnColumn(nn.Module):
    """A head on the column of its task."""

    head: nn.Module

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Array:
        """Map columns ``[B, T, ...]`` to outputs ``[B, ..., width]``."""
        return self.head(own_column(self, z), train)


def cross_stitch(encoder: Trunk | str = "mlp") -> Trunk:
    """Make the trunk; it has a column for every task of the setting.

    Args:
      encoder: what a column is: `mlp`, `cnn` or `lenet`, of at least two layers.

    Raises:
      InputError: another encoder, or one of a single layer.
    """
    return CrossStitch(check_stages("cross_stitch", encoder))


def _shares(key: Array, shape: tuple[int, int]) -> Array:
    del key
    count = shape[0]
    if count == 1:
        return jnp.ones(shape)
    others = (1 - SAME) / (count - 1)
    return jnp.full(shape, others) + (SAME - others) * jnp.eye(count)
