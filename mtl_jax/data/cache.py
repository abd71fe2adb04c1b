"""Decoded arrays, kept as memory-mapped .npy files in a per-user cache folder.

An entry is a folder, named after the sha256 of the files that it was decoded from.
The cache only saves time: where it cannot be written, arrays stay in memory.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mtl_jax.storage import disk

Arrays = dict[str, np.ndarray]

LAYOUT = "1"
"""Part of the key: change it whenever the same files are decoded differently."""
DIGESTS = "sha256.json"
WRITING = ".writing-"
"""Beginning of the names of folders that are being written."""

_log = logging.getLogger(__name__)


def folder() -> Path:
    """Return the folder of all entries."""
    return disk.cache_folder() / "data"


def sha256(path: Path) -> str:
    """Return the digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrays(name: str, sources: dict[str, str], build: Callable[[], Arrays]) -> Arrays:
    """Return what ``build()`` returned when the sources had these digests.

    Args:
      name: readable part of the entry's name.
      sources: sha256 of every source file, under its name.
      build: decodes the sources; called when the entry is missing or damaged.
    """
    key = hashlib.sha256(json.dumps([LAYOUT, sources], sort_keys=True).encode())
    cached = built = None
    try:
        entry = folder() / f"{name}-{key.hexdigest()[:16]}"
        cached = _read(entry)
        if cached is None:
            built = build()
            _write(entry, built)
            cached = _read(entry)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        _log.warning("%s; going on without the cache ($MTL_JAX_CACHE moves it)", error)
    return cached or built or build()


def _read(entry: Path) -> Arrays | None:
    """Map the arrays of an entry; None if it is missing or damaged."""
    try:
        digests = json.loads((entry / DIGESTS).read_text())
        # Reading all bytes costs less than decoding, and finds what a crash or a
        # full disk left behind; the size alone does not.
        if all(sha256(entry / file) == digest for file, digest in digests.items()):
            return {Path(file).stem: np.load(entry / file, "r") for file in digests}
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        pass
    return None


def _write(entry: Path, built: Arrays) -> None:
    """Write an entry in one step: other processes see all of it or nothing."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    _drop_left_over(entry.parent)
    temporary = Path(tempfile.mkdtemp(prefix=WRITING, dir=entry.parent))
    held = _lock(temporary)
    try:
        fresh = temporary / "fresh"
        fresh.mkdir()
        for name, array in built.items():
            np.save(fresh / f"{name}.npy", array)
        digests = {file.name: sha256(file) for file in sorted(fresh.iterdir())}
        (fresh / DIGESTS).write_text(json.dumps(digests))
        try:
            fresh.rename(entry)
        except OSError:  # there is one: of a process that was faster, or damaged
            if _read(entry) is None:
                _log.warning("%s was damaged and is built again", entry)
                entry.rename(temporary / "damaged")
                fresh.rename(entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if held is not None:
            os.close(held)


def _drop_left_over(folder: Path) -> None:
    """Delete what processes left that were killed while they wrote an entry."""
    for path in folder.glob(f"{WRITING}*"):
        held = _lock(path)
        if held is not None:  # nobody else holds it
            shutil.rmtree(path, ignore_errors=True)
            os.close(held)


def _lock(folder: Path) -> int | None:
    """Hold a folder as long as this process lives, or till the descriptor is closed.

    Returns:
      A descriptor; None where another process holds it, or locks are unknown.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # it is gone
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
