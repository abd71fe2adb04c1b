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

from mtl_jax.types import InputError

IMAGES, LABELS = 2051, 2049
"""Magic numbers: unsigned bytes of rank 3, and of rank 1."""
NUM_CLASSES = 10


def pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read uint8 images ``[N, 28, 28, 1]`` and their int32 labels ``[N]``.

    Raises:
      InputError: a file is damaged, is not what its place says, or the two files
        do not belong together.
    """
    x = _array(images, IMAGES)
    if x.shape[1:] != (28, 28):
        raise InputError(
            f"{images} holds images of {x.shape[1]}x{x.shape[2]} pixels, "
            "expected 28x28; put the official file there"
        )
    y = _array(labels, LABELS)
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


def _array(path: Path, magic: int) -> np.ndarray:
    """Read one file: uint8, of the rank that its magic number names."""
    content = _content(path)
    rank = magic % 256
    start = 4 * (1 + rank)  # bytes of the header
    found, *shape = struct.unpack(f">{1 + rank}I", content[:start].ljust(start, b"\0"))
    if found != magic:
        raise InputError(
            f"{path} starts with the magic number {found}, expected {magic} (IDX, "
            f"unsigned bytes, rank {rank}); put the official file there"
        )
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise InputError(
            f"{path} holds {len(content)} bytes, but its header promises {expected} "
            f"({' x '.join(map(str, shape))}); copy the official file again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    """Read all bytes of a file, decompressed if its name ends in .gz."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        expected = "a complete gzip file" if path.suffix == ".gz" else "a file"
        raise InputError(
            f"{path} cannot be read ({error}), expected {expected}; "
            "copy the official file again"
        ) from error
