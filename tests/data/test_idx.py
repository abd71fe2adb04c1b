import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from mtl_jax.data import idx
from mtl_jax.types import InputError

X = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
Y = np.array([7, 0, 9], np.uint8)


def encode(array, magic):
    header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
    return header + array.tobytes()


IMAGES, LABELS = encode(X, 2051), encode(Y, 2049)


@pytest.fixture(params=["", ".gz"])
def paths(request, tmp_path):
    compress = gzip.compress if request.param else bytes
    images, labels = (tmp_path / f"{part}{request.param}" for part in ("x", "y"))
    images.write_bytes(compress(IMAGES))
    labels.write_bytes(compress(LABELS))
    return images, labels


def test_reads_what_was_written(paths):
    x, y = idx.pair(*paths)
    np.testing.assert_array_equal(x, X[..., None])
    np.testing.assert_array_equal(y, Y)
    assert (x.dtype, y.dtype) == (np.uint8, np.int32)


def flipped(content, place):
    array = bytearray(content)
    array[place] ^= 255
    return bytes(array)


DAMAGE = {
    "not gzip": ("x.gz", b"<html>", ["Not a gzipped file", "copy the official"]),
    "truncated gzip": ("x.gz", gzip.compress(IMAGES)[:-20], ["end-of-stream", "copy"]),
    "corrupt gzip": ("x.gz", flipped(gzip.compress(IMAGES), 10), ["invalid", "copy"]),
    "wrong checksum": ("x.gz", flipped(gzip.compress(IMAGES), -8), ["CRC", "copy"]),
    "empty file": ("x.gz", b"", ["magic number 0", "expected 2051"]),
    "labels as images": ("x", LABELS, ["magic number 2049", "2051"]),
    "images as labels": ("y", IMAGES, ["magic number 2051", "2049"]),
    "truncated": ("x", IMAGES[:-1], ["2367 bytes", "promises 2368", "3 x 28 x 28"]),
    "only a header": ("y", LABELS[:6], ["6 bytes", "promises 8"]),
    "too long": ("y", LABELS + b"\0", ["12 bytes", "promises 11"]),
    "large images": ("x", encode(X.reshape(1, 84, 28), 2051), ["84x28", "28x28"]),
    "flat images": ("x", struct.pack(">4I", 2051, 3, 0, 28), ["0x28", "28x28"]),
    "many images": (
        "x",
        struct.pack(">4I", 2051, 2**32 - 1, 28, 28),
        ["promises 4294967295 examples, expected 1048576 at most"],
    ),
    "only a header of images": ("x", IMAGES[:16], ["16 bytes", "promises 2368"]),
    "too few labels": ("y", encode(Y[:2], 2049), ["2 labels", "3 images"]),
    "label out of range": ("y", encode(Y + 1, 2049), ["label 10 at place 2", "0..9"]),
}


@pytest.mark.parametrize("name, content, words", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_message(tmp_path, name, content, words):
    (tmp_path / "x").write_bytes(IMAGES)
    (tmp_path / "y").write_bytes(LABELS)
    (tmp_path / name).write_bytes(content)
    files = {"x": tmp_path / "x", "y": tmp_path / "y", name[0]: tmp_path / name}
    with pytest.raises(InputError) as error:
        idx.pair(files["x"], files["y"])
    for word in [str(tmp_path / name), *words]:
        assert word in str(error.value)


def test_small_file_that_becomes_large(tmp_path):
    (tmp_path / "y").write_bytes(LABELS)
    with gzip.GzipFile(tmp_path / "x.gz", "wb") as file:
        file.write(IMAGES)
        file.write(bytes(2**26))
    assert (tmp_path / "x.gz").stat().st_size < 2**17
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="at least 2369 bytes, .* promises 2368"):
            idx.pair(tmp_path / "x.gz", tmp_path / "y")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="x.gz cannot be read"):
        idx.pair(tmp_path / "x.gz", tmp_path / "y.gz")
