"""Pre-trained weights of residual trunks, from files of torchvision's layout.

Names are those of its ResNets (``conv1.weight``, ``bn1.bias``,
``layer1.0.conv1.weight``, ``layer2.0.downsample.1.running_var``, ...); the classifier
``fc`` and the count of batches, ``num_batches_tracked``, are left out. From torch a
file comes as

    safetensors.torch.save_file(resnet50(weights="DEFAULT").state_dict(), path)

or as a state dict, ``torch.save(...)``, which needs torch here too and is read without
running anything that the file brings along (``weights_only=True``).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from mtl_jax.models.residual import Residual
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import InputError, PyTree

UNUSED = ("fc.weight", "fc.bias")
UNUSED_ENDING = ".num_batches_tracked"
SAID = 5
"""Parameters that a message names, at most."""


def load(path: str | Path, trunk: Trunk, variables: PyTree) -> PyTree:
    """Read variables of a trunk.

    Args:
      path: a file ``.safetensors``, or ``.pth`` or ``.pt`` where torch is installed.
      trunk: a residual one.
      variables: of the trunk, or their shapes.

    Returns:
      Variables of the same structure, float32 numpy arrays.

    Raises:
      InputError: a file that is not there or not readable, or that holds other
        parameters than the trunk has; a trunk without such weights.
    """
    if not isinstance(trunk, Residual):
        raise InputError(
            f"weights {path} are for a residual trunk, and this is a "
            f"{type(trunk).__name__}; choose resnet or deeplab, or no weights."
        )
    places = dict(_places(trunk, variables))
    # Kernels [k, k, C, O] are square, so that [O, C, k, k] is the same from behind.
    shapes = {name: _at(variables, at).shape[::-1] for name, at in places.items()}
    found = {
        name: array
        for name, array in _read(Path(path)).items()
        if name not in UNUSED and not name.endswith(UNUSED_ENDING)
    }
    _check_fit(path, shapes, {name: array.shape for name, array in found.items()})
    loaded: PyTree = {}
    for name, place in places.items():
        node = loaded
        for key in place[:-1]:
            node = node.setdefault(key, {})
        array = found[name].astype(np.float32)
        node[place[-1]] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    return loaded


def _places(
    trunk: Residual, variables: PyTree
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Torchvision's name and our path of every variable."""
    for convolution, norm, path in _layers(trunk, variables["params"]):
        yield f"{convolution}.weight", ("params", *path, "kernel")
        yield f"{norm}.weight", ("params", *path, "norm", "scale")
        yield f"{norm}.bias", ("params", *path, "norm", "bias")
        if "batch_stats" in variables:
            yield f"{norm}.running_mean", ("batch_stats", *path, "norm", "mean")
            yield f"{norm}.running_var", ("batch_stats", *path, "norm", "var")


def _layers(
    trunk: Residual, params: Mapping[str, Any]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Torchvision's names of convolution and norm, and our path of both."""
    yield "conv1", "bn1", ("ConvNorm_0",)
    places = [
        (stage, n) for stage, count in enumerate(trunk.blocks) for n in range(count)
    ]
    for number, (stage, place) in enumerate(places):
        block, theirs = f"Block_{number}", f"layer{stage + 1}.{place}"
        for n in range(trunk.convolutions):
            yield (
                f"{theirs}.conv{n + 1}",
                f"{theirs}.bn{n + 1}",
                (block, f"ConvNorm_{n}"),
            )
        projection = f"ConvNorm_{trunk.convolutions}"
        if projection in params[block]:
            short = f"{theirs}.downsample"
            yield f"{short}.0", f"{short}.1", (block, projection)


def _at(tree: PyTree, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _check_fit(
    path: str | Path,
    wanted: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
) -> None:
    """Raise an `InputError` that names the first parameters that do not fit."""
    wrong = [
        *(f"{n} {list(s)} is missing" for n, s in wanted.items() if n not in found),
        *(f"{n} {list(s)} is not of it" for n, s in found.items() if n not in wanted),
        *(
            f"{n} is {list(found[n])}, not {list(s)}"
            for n, s in wanted.items()
            if n in found and found[n] != s
        ),
    ]
    if not wrong:
        return
    more = f"; and {len(wrong) - SAID} more" if len(wrong) > SAID else ""
    raise InputError(
        f"weights {path} do not fit the trunk: {'; '.join(wrong[:SAID])}{more}. Set "
        f"the model's options to those that the weights were trained with."
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file by their names."""
    readers = {
        ".safetensors": safetensors.numpy.load_file,
        ".pth": _read_torch,
        ".pt": _read_torch,
    }
    if path.suffix not in readers:
        raise InputError(
            f"weights {path} have ending {path.suffix!r}, which is not one of: "
            f"{', '.join(readers)}; save them as one of those."
        )
    if not path.is_file():
        raise InputError(f"weights {path} are not there; give the path of a file.")
    try:
        return dict(readers[path.suffix](path))
    except InputError:
        raise
    except Exception as error:  # of many kinds, from foreign code
        raise InputError(
            f"weights {path} cannot be read ({_first_line(error)}); save them again, "
            f"the state dict of a model alone."
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # type: ignore[import-not-found]
    except ImportError as error:
        raise InputError(
            f"weights {path} are read by PyTorch, which is not installed: pip install "
            f"torch, or save them as .safetensors."
        ) from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.float().numpy() for name, tensor in state.items()}
