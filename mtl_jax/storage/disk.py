"""Files on disk: written whole, sealed by a checksum, and read through a check.

Every file that a workdir is read from again goes through here: its bytes are on the
disk before its name is, so that a crash or a power cut leaves the old file or the new
one. The seal of a JSON object is one more field, the CRC-32 of the others; files of
versions that wrote none are taken as they are.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

SEAL = "crc32 (of all other fields)"


def cache_folder() -> Path:
    """Return the cache folder: $MTL_JAX_CACHE, else $XDG_CACHE_HOME, else ~/.cache.

    Raises:
      RuntimeError: there is no home directory.
    """
    root = os.environ.get("MTL_JAX_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return Path(root or "~/.cache").expanduser() / "mtl_jax"


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name all at once.

    Raises:
      OSError: it cannot be written; its ``filename`` says which file.
    """
    try:
        with unfinished(path) as file:
            yield file
        publish(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft(path).unlink()
        raise


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[BinaryIO]:
    """Open what a file is to hold, beside it, until `publish`; then it is on the disk.

    Raises:
      OSError: as `whole`.
    """
    with _named(path), draft(path).open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def draft(path: Path) -> Path:
    """Return the place of a file that is not finished."""
    return path.with_suffix(".unfinished")


def publish(path: Path) -> None:
    """Give a finished draft its name, in place of what had it.

    Raises:
      OSError: as `whole`.
    """
    with _named(path):
        draft(path).replace(path)
    with contextlib.suppress(OSError):  # not every file system can do it for a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    text = json.dumps(content, indent=2) + "\n"
    with whole(path) as file:
        file.write(text.encode())


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Return JSON fields with their seal.

    >>> opened(sealed({"steps": 3}))
    {'steps': 3}
    """
    return {**content, SEAL: _checksum(content)}


def opened(content: Any) -> dict[str, Any]:
    """Return JSON fields without their seal.

    Raises:
      ValueError: it is broken, or this is no JSON object.
    """
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    rest = {name: value for name, value in content.items() if name != SEAL}
    if SEAL in content and content[SEAL] != _checksum(rest):
        raise ValueError("its checksum is wrong: it was damaged or edited")
    return rest


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object through its seal, and return it without.

    Raises:
      OSError: it cannot be read.
      ValueError: it is empty, truncated, damaged, or no JSON object.
    """
    return opened(load_json(path))


def load_json(path: Path) -> Any:
    """Read JSON as it is, seal included; raises as `read_json`."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _checksum(content: dict[str, Any]) -> int:
    plain = json.loads(json.dumps(content))  # tuples and keys as JSON has them
    return zlib.crc32(json.dumps(plain, sort_keys=True).encode())


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the system say which file it is about; a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        text = error.strerror or str(error)
        raise OSError(error.errno or 0, text, str(path)) from error
