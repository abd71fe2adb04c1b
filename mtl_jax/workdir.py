"""A workdir: claimed by one process, bound to one configuration and its data.

Beside records and checkpoints it holds ``config.json`` (what was asked for),
``run.json`` (versions, devices, data, git revision, sessions) and ``splits.npz``
(the rows of every split and probe).
"""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtl_jax import checkpoint
from mtl_jax.types import Config, InputError

PACKAGES = ("mtl_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
FREE = ("checkpoint.every", "checkpoint.keep_last", "data.dir", "data.source")
"""Fields that may change when a run goes on, because they do not change the run."""


@contextlib.contextmanager
def claim(path: str | Path) -> Iterator[Path]:
    """Make the folder, and hold it against a second process.

    Raises:
      InputError: it cannot be made or written to, now or by what is done in it; or
        another process holds it.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(
            f"workdir {folder} cannot be written to: {error.strerror}; "
            f"choose another --workdir."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"workdir {folder} is in use by another process; wait for it or "
                f"choose another --workdir."
            ) from error
        try:
            yield folder
        except OSError as error:
            raise InputError(
                f"cannot write to workdir {folder}: {error.strerror or error}; free "
                f"space or mend the folder and give the same command again: it goes "
                f"on from its last checkpoint."
            ) from error


def bind(folder: Path, config: Config, data: dict[str, Any]) -> None:
    """Bind a new workdir to a configuration and its data, or check an old one's.

    Args:
      folder: claimed.
      config: of the run.
      data: ``checksum`` and whatever else says which data it is.

    Raises:
      InputError: the workdir belongs to another configuration or other data; the
        message names the first differences.
    """
    path, new = folder / "config.json", _flat(json.loads(config.to_json()))
    new["data (its contents)"] = data["checksum"]
    if (folder / checkpoint.FOLDER).is_file():
        raise InputError(
            f"{folder / checkpoint.FOLDER} is a file where a folder should be; "
            f"choose another --workdir."
        )
    if path.exists():
        try:
            old = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); choose another --workdir."
            ) from error
        differences = [
            f"{field} was {old.get(field)!r}, now {new.get(field)!r}"
            for field in sorted(old.keys() | new.keys())
            if old.get(field) != new.get(field) and not field.startswith(FREE)
        ]
        if differences:
            shown = "; ".join(differences[:5])
            raise InputError(
                f"workdir {folder} holds a run of another configuration: {shown}. "
                f"Choose another --workdir, or the old values to go on."
            )
    elif any((folder / checkpoint.FOLDER).glob("*")):
        raise InputError(
            f"workdir {folder} holds checkpoints that are not of this program (no "
            f"config.json beside them); choose another --workdir."
        )
    write_json(path, new)


def check_space(folder: Path, needed: int) -> None:
    """Raise an `InputError` if fewer than ``needed`` bytes are free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"workdir {folder} has {free / 2**20:.0f} MiB free, and this run needs "
            f"about {needed / 2**20:.0f} MiB; free some, or choose another --workdir."
        )


def add_session(folder: Path, step: int, data: dict[str, Any]) -> None:
    """Note in ``run.json`` what this process runs with, and from which step."""
    path = folder / "run.json"
    sessions = json.loads(path.read_text())["sessions"] if path.exists() else []
    session = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "from_step": step,
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "devices": [str(device.device_kind) for device in jax.devices()],
        "processor": _processor(),
        "git_revision": _git_revision(),
    }
    write_json(path, {"data": data, "sessions": [*sessions, session]})


def save_splits(folder: Path, splits: dict[str, tuple[np.ndarray, ...]]) -> None:
    """Store the rows of every split and task as ``splits.npz``: ``test/0``, ..."""
    arrays: dict[str, Any] = {
        f"{split}/{task}": rows
        for split, per_task in splits.items()
        for task, rows in enumerate(per_task)
    }
    unfinished = folder / "splits.unfinished.npz"
    np.savez_compressed(unfinished, **arrays)
    unfinished.replace(folder / "splits.npz")


def write_json(path: Path, content: Any) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.replace(path)


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Model of the CPU, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_revision() -> str | None:
    """Revision of the checkout that this code lies in, ``+`` if it was changed."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        revision, changes = (
            subprocess.run(
                [*git, *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("+" if changes else "")
