"""Arrays by their names: from a file, or from a folder of Hugging Face's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from mtl_jax.types import InputError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_file(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file ``.safetensors``, or ``.pth`` or ``.pt`` with torch.

    Raises:
      InputError: another ending, or a file that is not there or not readable.
    """
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


def read_folder(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of a folder's ``model.safetensors``, or of the parts of its index.

    Raises:
      InputError: neither is there, or one of the files is not readable.
    """
    if (folder / WHOLE).is_file() or not (folder / INDEX).is_file():
        return read_file(folder / WHOLE)
    index = read_json(folder / INDEX)
    try:
        parts = sorted(set(index["weight_map"].values()))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"weights {folder / INDEX} have no weight_map of names to files; save "
            f"them again with save_pretrained."
        ) from error
    found: dict[str, np.ndarray] = {}
    for part in parts:
        found |= read_file(folder / part)
    return found


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
      InputError: it is not there or not readable.
    """
    if not path.is_file():
        raise InputError(
            f"weights {path} are not there; give a folder as save_pretrained of "
            f"transformers makes it."
        )
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InputError(
            f"weights {path} cannot be read ({_first_line(error)}); save them again "
            f"with save_pretrained."
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
