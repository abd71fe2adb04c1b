"""Weights of residual trunks in files of torchvision's layout.

Names are those of its ResNets (``conv1.weight``, ``bn1.bias``,
``layer1.0.conv1.weight``, ``layer2.0.downsample.1.running_var``, ...); the classifier
``fc`` and the count of batches, ``num_batches_tracked``, are left out. From torch a
file comes as

    safetensors.torch.save_file(resnet50(weights="DEFAULT").state_dict(), path)

or as a state dict, ``torch.save(...)``, which needs torch here too and is read without
running anything that the file brings along (``weights_only=True``).
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtl_jax.models.layout import Place, WeightLayout
from mtl_jax.models.state_dict import read_file
from mtl_jax.types import PyTree

UNUSED = ("fc.weight", "fc.bias")
UNUSED_ENDING = ".num_batches_tracked"
KERNEL = (2, 3, 1, 0)
"""Theirs are ``[O, C, k, k]``, ours ``[k, k, C, O]``."""


def layout(blocks: Sequence[int], convolutions: int) -> WeightLayout:
    """Return the layout for stages of ``blocks``, each of so many convolutions."""
    places = functools.partial(_places, blocks, convolutions)
    return WeightLayout(read_file, _place_name, places)


def _place_name(name: str) -> str | None:
    return None if name in UNUSED or name.endswith(UNUSED_ENDING) else name


def _places(
    blocks: Sequence[int], convolutions: int, variables: PyTree
) -> Iterator[Place]:
    for convolution, norm, path in _layers(blocks, convolutions, variables["params"]):
        yield Place(f"{convolution}.weight", ("params", *path, "kernel"), KERNEL)
        yield Place(f"{norm}.weight", ("params", *path, "norm", "scale"))
        yield Place(f"{norm}.bias", ("params", *path, "norm", "bias"))
        if "batch_stats" in variables:
            stats = ("batch_stats", *path, "norm")
            yield Place(f"{norm}.running_mean", (*stats, "mean"))
            yield Place(f"{norm}.running_var", (*stats, "var"))


def _layers(
    blocks: Sequence[int], convolutions: int, params: Mapping[str, Any]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Torchvision's names of convolution and norm, and our path of both."""
    yield "conv1", "bn1", ("ConvNorm_0",)
    places = [(stage, n) for stage, count in enumerate(blocks) for n in range(count)]
    for number, (stage, place) in enumerate(places):
        block, theirs = f"Block_{number}", f"layer{stage + 1}.{place}"
        for n in range(convolutions):
            yield (
                f"{theirs}.conv{n + 1}",
                f"{theirs}.bn{n + 1}",
                (block, f"ConvNorm_{n}"),
            )
        projection = f"ConvNorm_{convolutions}"
        if projection in params[block]:
            short = f"{theirs}.downsample"
            yield f"{short}.0", f"{short}.1", (block, projection)
