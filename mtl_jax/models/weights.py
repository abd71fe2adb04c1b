"""Pre-trained weights of a trunk, by the layout that it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mtl_jax.models.state_dict import StoredArray, unreadable
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import InputError, PyTree

SAID = 5
"""Parameters that a message names, at most."""


def load(path: str | Path, trunk: Trunk, variables: PyTree) -> PyTree:
    """Read variables of a trunk.

    Args:
      path: of what the trunk's layout reads: for residual trunks a file of
        `torchvision`'s layout, for roberta a folder of `huggingface`'s.
      trunk: one that has a layout.
      variables: of the trunk, or their shapes.

    Returns:
      The variables that the layout has places for, float32 numpy arrays: all but the
      key of dropout.

    Raises:
      InputError: a file that is not there or not readable, or that holds other
        parameters than the trunk has, or values that are no finite numbers; a trunk
        without such weights.
    """
    layout = trunk.layout()
    if layout is None:
        raise InputError(
            f"weights {path} are for a trunk with pre-trained ones, and this is a "
            f"{type(trunk).__name__}; choose resnet, mtan, deeplab or roberta, or no "
            f"weights."
        )
    places = list(layout.places(variables))
    shapes = {p.name: p.shape(_at(variables, p.path).shape) for p in places}
    stored = {
        place: array
        for name, array in layout.read(Path(path)).items()
        if (place := layout.place_name(name)) is not None
    }
    _check_fit(path, shapes, {name: array.shape for name, array in stored.items()})
    loaded: PyTree = {}
    for name, (*nodes, leaf), axes in places:
        node = loaded
        for key in nodes:
            node = node.setdefault(key, {})
        array = _values(path, name, stored[name])
        node[leaf] = array if axes is None else array.transpose(axes)
    return loaded


def _values(path: str | Path, name: str, stored: StoredArray) -> np.ndarray:
    """Read an array as float32."""
    try:
        array = stored.read()
    except Exception as error:  # of many kinds, from foreign code
        raise unreadable(path, error) from error
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(
            f"weights {path} have {name} in {array.dtype}, which holds no fractions; "
            f"save them in float32."
        )
    with np.errstate(over="ignore"):  # infinity is told below
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(
            f"weights {path} have values in {name} that are not finite in float32; "
            f"training cannot start there: choose other weights."
        )
    return array


def _at(tree: PyTree, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _check_fit(
    path: str | Path,
    wanted: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, tuple[int, ...]],
) -> None:
    """Raise an `InputError` that names the first parameters that do not fit."""
    wrong = [
        *(f"{n} {list(s)} is missing" for n, s in wanted.items() if n not in stored),
        *(f"{n} {list(s)} is not of it" for n, s in stored.items() if n not in wanted),
        *(
            f"{n} is {list(stored[n])}, not {list(s)}"
            for n, s in wanted.items()
            if n in stored and stored[n] != s
        ),
    ]
    if not wrong:
        return
    more = f"; and {len(wrong) - SAID} more" if len(wrong) > SAID else ""
    raise InputError(
        f"weights {path} do not fit the trunk: {'; '.join(wrong[:SAID])}{more}. Set "
        f"the model's options to those that the weights were trained with."
    )
