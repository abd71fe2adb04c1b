"""Arrays by their names: from a file, or from a folder of Hugging Face's.

Files may come from anyone: nothing that they bring along is run, and no array is read
before its shape was looked at.
"""

import os
import reprlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from mtl_jax.storage import reason, text_file
from mtl_jax.types import InputError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
"""Names that older versions of transformers write instead."""
ENDINGS = (".safetensors", ".pth", ".pt")


class StoredArray(NamedTuple):
    """An array in a file."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    """Reads it; an error is of foreign code."""


def read_file(path: Path) -> dict[str, StoredArray]:
    """Find all arrays of a file ``.safetensors``, or ``.pth`` or ``.pt`` with torch.

    Raises:
      InputError: another ending, or a file that is not there or not readable.
    """
    if path.suffix not in ENDINGS:
        raise InputError(
            f"weights {path} have ending {path.suffix!r}, which is not one of: "
            f"{', '.join(ENDINGS)}; save them as one of those: safetensors.torch."
            f"save_file(torch.load({path.name!r}, weights_only=True), 'model"
            f".safetensors')."
        )
    if not os.path.isfile(path):
        raise InputError(f"weights {path} are not there; give the path of a file.")
    return _open(path) if path.suffix == ".safetensors" else _open_torch(path)


def read_folder(folder: Path) -> dict[str, StoredArray]:
    """Find all arrays of a folder's ``model.safetensors``, or of its index's parts.

    Raises:
      InputError: neither is there, the index names what is no part, or one of the files
        is not readable.
    """
    if os.path.isfile(folder / WHOLE):
        return read_file(folder / WHOLE)
    if os.path.isfile(folder / INDEX):
        stored: dict[str, StoredArray] = {}
        for part in _parts(folder / INDEX):
            stored |= read_file(folder / part)
        return stored
    for name in PICKLES:
        if os.path.isfile(folder / name):
            raise InputError(
                f"weights {folder / name} are not read, for a pickle may run code of "
                f"whoever wrote it. Where you trust it, convert it with transformers, "
                f"which writes {WHOLE} beside it: transformers.AutoModel."
                f"from_pretrained(FOLDER).save_pretrained(FOLDER)."
            )
    return read_file(folder / WHOLE)


def _parts(index: Path) -> list[str]:
    """Names of the files that an index speaks of, which lie beside it."""
    try:
        names = set(read_json(index)["weight_map"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"weights {index} have no weight_map of names to files; save them again "
            f"with save_pretrained."
        ) from error
    for name in names:
        inside = isinstance(name, str) and name == Path(name).name and "\\" not in name
        if not inside or Path(name).suffix != ".safetensors":
            raise InputError(
                f"weights {index} have a part {reprlib.repr(name)}; parts are files "
                f".safetensors beside their index: save them again with "
                f"save_pretrained."
            )
    return sorted(names)


def read_json(path: Path) -> Any:
    """Return what a JSON file of a folder of Hugging Face's holds.

    Raises:
      InputError: it is not there or not readable.
    """
    if not os.path.isfile(path):
        raise InputError(
            f"weights {path} are not there; give a folder as save_pretrained of "
            f"transformers makes it."
        )
    try:
        return text_file.read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"weights {path} cannot be read ({reason.of(error)}); save them again "
            f"with save_pretrained."
        ) from error


def unreadable(path: str | Path, error: Exception) -> InputError:
    """Return what to say of weights that cannot be read."""
    return InputError(
        f"weights {path} cannot be read ({reason.of(error)}); save them again, the "
        f"state dict of a model alone."
    )


def _open(path: Path) -> dict[str, StoredArray]:
    """Read the header; safetensors checks that it fits the size of the file."""
    try:
        file: Any = safetensors.safe_open(path, framework="np")
        return {
            name: StoredArray(
                tuple(file.get_slice(name).get_shape()),
                lambda name=name: file.get_tensor(name),
            )
            for name in file.keys()  # noqa: SIM118 (it is no dict)
        }
    except Exception as error:  # of many kinds, from foreign code
        raise unreadable(path, error) from error


def _open_torch(path: Path) -> dict[str, StoredArray]:
    try:
        import torch  # type: ignore[import-not-found]
    except ImportError as error:
        raise InputError(
            f"weights {path} are read by PyTorch, which is not installed: pip install "
            f"torch, or save them as .safetensors."
        ) from error
    _check_plain(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Torch's own text says how to run what the file brings along: it stays here.
        raise InputError(
            f"weights {path} cannot be read ({type(error).__name__}): they are "
            f"damaged, or hold more than arrays, which might run code of whoever wrote "
            f"them. Save the state dict alone, torch.save(model.state_dict(), PATH), "
            f"or as .safetensors."
        ) from None
    if not isinstance(state, dict):
        state = {"": state}
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor) or not isinstance(name, str):
            raise InputError(
                f"weights {path} hold a {type(tensor).__name__} by the name "
                f"{reprlib.repr(name)}, not arrays by their names; save the state dict "
                f"alone, torch.save(model.state_dict(), PATH)."
            )
    return {
        name: StoredArray(
            tuple(tensor.shape), lambda tensor=tensor: tensor.float().numpy()
        )
        for name, tensor in state.items()
    }


def _check_plain(path: Path) -> None:
    """Refuse a compressed archive: torch writes none, and it may hold any size."""
    if not zipfile.is_zipfile(path):
        return
    try:
        entries = zipfile.ZipFile(path).infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise unreadable(path, error) from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(
            f"weights {path} are compressed, as torch.save does not do it; save them "
            f"again."
        )
