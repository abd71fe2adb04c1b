"""The compilation cache of the commands: a folder per user, mended where it is damaged.

It only saves time: without a home, or where it cannot be written, commands go on
without one.
"""

import functools
import glob
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

DAMAGED = re.compile(
    r"Error reading persistent compilation cache entry for '(?P<program>[^']+)'"
)
"""Beginning of JAX's warning. It compiles then, but never writes over the entry."""


def folder() -> Path | None:
    """Make the folder, and return it: under $XDG_CACHE_HOME, else ~/.cache."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        path = root / "mtl_jax" / "xla"
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None
    return path if os.access(path, os.W_OK) else None


def mend(folder: Path) -> None:
    """Delete entries that JAX warns of, from now on: it writes them again.

    Its warning names the program, of which there may be entries of several forms. All
    go.
    """
    warnings.showwarning = functools.partial(_show, folder, warnings.showwarning)


def _show(folder: Path, show: Any, message: Any, *where: Any, **more: Any) -> None:
    damaged = DAMAGED.match(str(message))
    if damaged is None:
        show(message, *where, **more)
        return
    name = damaged["program"]
    for path in folder.glob(f"{glob.escape(name)}-*"):
        path.unlink(missing_ok=True)
    print(f"{name} is compiled again: its cache was damaged", file=sys.stderr)
