"""Reader of IDX, the format in which the MNIST family is distributed.

A file is a big-endian header (a magic number that names type and rank, then the
size of every axis) followed by the bytes; it may be compressed with gzip.
Format: http://yann.lecun.com/exdb/mnist (bottom of the page).
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from mtl_jax.storage import reason
from mtl_jax.types import InputError

IMAGES, LABELS = 2051, 2049
"""Magic numbers: unsigned bytes of rank 3, and of rank 1."""
NUM_CLASSES = 10
SHAPE = (28, 28)
"""Height and width of an image."""
MOST = 2**20
"""Examples of a file; the official ones have 60,000 and 10,000."""


def pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read uint8 images ``[N, 28, 28, 1]`` and their int32 labels ``[N]``.

    Raises:
      InputError: a file is damaged, is not what its place says, or the two files
        do not belong together.
    """
    x = _array(images, IMAGES, SHAPE)
    y = _array(labels, LABELS, ())
    if len(x) != len(y):
        raise InputError(
            f"{labels} holds {len(y)} labels, but {images} {len(x)} images; "
            "put two official files of the same split there"
        )
    wrong = np.flatnonzero(y >= NUM_CLASSES)
    if wrong.size:
        raise InputError(
            f"{labels} has the label {y[wrong[0]]} at place {wrong[0]}, expected "
            f"0..{NUM_CLASSES - 1}; put the official file there"
        )
    return x[..., None], y.astype(np.int32)


def _array(path: Path, magic: int, example: tuple[int, ...]) -> np.ndarray:
    """Read one file: uint8, of the rank that its magic number names.

    The header is looked at first, and no more is read than it promises: a small file
    in gzip may become any size.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 * (1 + magic % 256))
            shape = _shape(path, header, magic)
            if len(header) == 4 * (1 + len(shape)):
                _check(path, shape, example)
            content = header + file.read(math.prod(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        expected = "a complete gzip file" if path.suffix == ".gz" else "a file"
        raise InputError(
            f"{path} cannot be read ({reason.text(error)}), expected {expected}; "
            "copy the official file again"
        ) from error
    start = 4 * (1 + len(shape))
    promised = start + math.prod(shape)
    if len(content) != promised:
        more = "at least " * (len(content) > promised)
        raise InputError(
            f"{path} holds {more}{len(content)} bytes, but its header promises "
            f"{promised} ({' x '.join(map(str, shape))}); copy the official file again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _shape(path: Path, header: bytes, magic: int) -> tuple[int, ...]:
    """Return the shape that a header promises, zeros where it is cut."""
    rank = magic % 256
    padded = header.ljust(4 * (1 + rank), b"\0")
    first, *shape = struct.unpack(f">{1 + rank}I", padded)
    if first != magic:
        raise InputError(
            f"{path} starts with the magic number {first}, expected {magic} (IDX, "
            f"unsigned bytes, rank {rank}); put the official file there"
        )
    return tuple(shape)


def _check(path: Path, shape: tuple[int, ...], example: tuple[int, ...]) -> None:
    """Refuse examples of another shape, or more than anything reads."""
    if shape[1:] != example:
        raise InputError(
            f"{path} holds images of {_times(shape[1:])} pixels, expected "
            f"{_times(example)}; put the official file there"
        )
    if shape[0] > MOST:
        raise InputError(
            f"{path} promises {shape[0]} examples, expected {MOST} at most; put the "
            "official file there"
        )


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
