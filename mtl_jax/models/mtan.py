"""MTAN: a shared residual network, and masks of attention for every task on its stages.

Source: Liu et al., CVPR 2019, eq. 1 and 2, in the form for residual networks that the
authors' code and LibMTL have. In stage ``j`` the shared network makes ``u``, the maps
before its last block, and ``p``, those behind it. A task has a mask in [0, 1],
``a_j = sigmoid(N(h(relu(N(g([u_j; f_(j-1)])))))``, with 1x1 convolutions ``g`` and
``h`` and norms ``N``, and takes ``a_j * p_j``; a residual block and a max-pool make
``f_j`` of it, for the next stage. The means over positions of the last ``a_j * p_j`` go
to its head.

The residual network is the trunk; attention, blocks and norms of it are in the heads.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from mtl_jax.models.conv import max_pool
from mtl_jax.models.residual import Block, ConvNorm, Residual, check_basic
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import Array, InputError


class Stage(NamedTuple):
    """Maps of a stage of the shared network."""

    before: Array
    """Before its last block ``[B, H, W, C]``."""
    behind: Array
    """Behind it ``[B, H, W, C]``."""


class MTAN(Residual):
    """Residual network whose stages tasks attend to: features a `Stage` each."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Stage, ...]:
        """Maps of all stages of images ``[B, H, W, C]``."""
        maps = [of_stage[-2:] for of_stage in self.stage_maps(x, train)]
        return tuple(Stage(*map(_batch_first, pair)) for pair in maps)

    def attach(self, head: nn.Module) -> nn.Module:
        """Put a task's attention below its head."""
        return Attention(head, self.form, self.norm, parent=None)


class Attention(nn.Module):
    """A task's attention to all stages, and its head on the last of them."""

    head: nn.Module
    form: str
    norm: str

    @nn.compact
    def __call__(self, z: tuple[Stage, ...], train: bool = False) -> Array:
        """Map stages to outputs ``[B, ..., width]``."""
        kind = (self.form, self.norm)
        kept, stages = None, [Stage(*map(_batch_last, stage)) for stage in z]
        for number, (before, behind) in enumerate(stages):
            channels = len(behind)
            seen = before
            if kept is not None:  # of the stage before, in the shape of this one
                kept = Block(channels, 1, *kind, name=f"block_{number}")(kept, train)
                if kept.shape[1:3] != before.shape[1:3]:
                    kept = max_pool(kept)
                seen = jnp.concatenate([before, kept])
            made = ConvNorm(channels, 1, 1, *kind, name=f"inner_{number}")
            mask = jax.nn.relu(made(seen, train))
            made = ConvNorm(channels, 1, 1, *kind, name=f"mask_{number}")
            kept = jax.nn.sigmoid(made(mask, train)) * behind
        assert kept is not None, "a trunk has a stage"
        return self.head(kept.mean(axis=(1, 2)).T, train)


def mtan(
    widths: Sequence[int] = (16, 32, 64, 128),
    blocks: Sequence[int] = (2, 2, 2, 2),
    stem: str = "cifar",
    stem_stride: int = 1,
    norm: str = "batch",
    remat: bool = False,
    conv: str = "auto",
) -> Trunk:
    """Make the trunk; options are those of `resnet`, and so are its weights.

    Args:
      widths: channels of the stages; from the second on they halve the image.
      blocks: basic blocks of every stage, at least two.
      stem: as in `resnet`.
      stem_stride: as in `resnet`.
      norm: ``batch``, or ``group``, which keeps no statistics; of trunk and heads.
      remat: compute a block of the trunk again in the backward pass, for less memory.
      conv: form of the convolution: ``auto`` or one of `conv.FORMS`.

    Raises:
      InputError: a stage of one block; otherwise as `resnet`.
    """
    form = check_basic("mtan", widths, blocks, stem, stem_stride, norm, conv)
    if min(blocks) < 2:
        raise InputError(
            f"mtan blocks {tuple(blocks)}: attention looks before and behind the last "
            f"block of a stage; give every stage at least 2."
        )
    return MTAN(
        widths=tuple(widths),
        blocks=tuple(blocks),
        stem=stem,
        stem_stride=stem_stride,
        norm=norm,
        remat=remat,
        form=form,
    )


def _batch_first(maps: Array) -> Array:
    return maps.transpose(3, 1, 2, 0)


def _batch_last(maps: Array) -> Array:
    return maps.transpose(3, 1, 2, 0)
