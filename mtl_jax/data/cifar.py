"""Reader of CIFAR-100's official files, of the binary and of the python version.

A binary file is records of two labels, coarse then fine, and an image as planes of
red, green and blue. A file of the python version is a pickle, which may run code of
whoever wrote it: here it is taken apart without running any.
Formats: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.storage import reason
from mtl_jax.types import InputError

SPLITS = ("train", "test")
SHAPE = (32, 32, 3)
PIXELS = 32 * 32 * 3
KINDS = ("fine", "coarse")
"""Kinds of labels."""
LARGEST = 2**28
"""Bytes of a file; the largest official one has 155 MB."""
FINE, COARSE = 100, 20
"""Numbers of classes and of superclasses."""
FOLDERS = {"cifar-100-binary": ".bin", "cifar-100-python": ""}
"""Folders in the official archives, and the ending of their files' names."""

Examples = tuple[np.ndarray, np.ndarray, np.ndarray]
"""uint8 images ``[N, 32, 32, 3]``, int32 fine labels and coarse labels ``[N]``."""


def official(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Find the official files per split: in the folder, or unpacked in or beside it."""
    versions = [
        {split: (place / f"{split}{ending}",) for split in SPLITS}
        for name, ending in FOLDERS.items()
        for place in (folder, folder / name, folder.parent / name)
    ]
    there = [{s: p for s, p in files.items() if p[0].is_file()} for files in versions]
    return max(there, key=len)


def missing(folder: Path, splits: list[str]) -> str:
    """List the official files of these splits."""
    del folder
    names = (
        f"{', '.join(f'{split}{ending}' for split in splits)} of {archive}.tar.gz"
        for archive, ending in FOLDERS.items()
    )
    return ", or ".join(names)


def read(files: tuple[Path, ...]) -> Examples:
    """Read the file of a split.

    Raises:
      InputError: it is damaged, or not a file of CIFAR-100.
    """
    (path,) = files
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= LARGEST else b""
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); make it readable"
        ) from error
    if size > LARGEST:
        raise InputError(
            f"{path} has {size} bytes, expected {LARGEST} at most; put the official "
            "file there"
        )
    parts = _binary(path, content) if path.suffix == ".bin" else _python(path, content)
    planes, fine, coarse = parts
    labels = (("fine", fine, FINE), ("coarse", coarse, COARSE))
    for kind, y, classes in labels:
        wrong = np.flatnonzero((y < 0) | (y >= classes))
        if wrong.size:
            raise InputError(
                f"{path} has the {kind} label {y[wrong[0]]} at place {wrong[0]}, "
                f"expected 0..{classes - 1}; put the official file there"
            )
    x = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(x), fine.astype(np.int32), coarse.astype(np.int32)


def _binary(path: Path, content: bytes) -> Examples:
    """Take records apart: planes ``[N, 3072]``, fine labels, coarse labels."""
    size = 2 + PIXELS
    if not content or len(content) % size:
        raise InputError(
            f"{path} holds {len(content)} bytes, expected records of {size} (two "
            f"labels, {PIXELS} pixels of CIFAR-100); copy the official file again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return records[:, 2:], records[:, 1], records[:, 0]


def _python(path: Path, content: bytes) -> Examples:
    """Take a pickle apart: planes ``[N, 3072]``, fine labels, coarse labels."""
    try:
        record = _Unpickler(content).load()
        planes = record[b"data"].array()
        fine, coarse = (_numbers(record[f"{kind}_labels".encode()]) for kind in KINDS)
    except Exception as error:  # damage shows as ten unrelated types
        raise InputError(
            f"{path} is not a complete file of CIFAR-100's python version "
            f"({reason.of(error)}); put the official file there"
        ) from error
    if not planes.shape == (len(fine), PIXELS) == (len(coarse), PIXELS):
        raise InputError(
            f"{path} holds data {planes.shape} with {len(fine)} fine and "
            f"{len(coarse)} coarse labels, expected [N, {PIXELS}] with N and N; put "
            "the official file there"
        )
    return planes, fine, coarse


def _numbers(labels: Any) -> np.ndarray:
    """Whole numbers of a list, which in a pickle may hold itself many times over."""
    if not all(isinstance(label, int) for label in labels):
        raise TypeError("its labels are not whole numbers")
    return np.array(labels, np.int64)


class _Array:
    """An array as a pickle describes it: nothing of NumPy runs on its behalf."""

    def __init__(self, *_: Any):
        self.state: Any = None

    def __setstate__(self, state: Any):
        self.state = state

    def array(self) -> np.ndarray:
        """Make the array of bytes that was described."""
        _, shape, dtype, fortran, content = self.state
        if dtype.name not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"its data are {dtype.name}, expected u1")
        order = "F" if fortran else "C"
        return np.frombuffer(content, np.uint8).reshape(shape, order=order)


class _Type:
    """The type of an array as a pickle describes it."""

    def __init__(self, name: Any = None, *_: Any):
        self.name = name

    def __setstate__(self, state: Any):
        del state  # byte order and the like, of which bytes have none


def _encode(text: str, encoding: str) -> bytes:
    """Encode text as Python 3 writes bytes for Python 2."""
    del encoding  # always this one; others may import modules
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Reads built-in types and arrays, and refuses everything else."""

    GLOBALS = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("_codecs", "encode"): _encode,
    }

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for the class that the pickle asks for."""
        if (module, name) not in self.GLOBALS:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which is refused"
            )
        return self.GLOBALS[module, name]
