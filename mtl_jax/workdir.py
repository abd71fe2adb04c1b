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
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mtl_jax import checkpoint, hosts
from mtl_jax.types import Config, InputError

PACKAGES = ("mtl_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
FREE = (
    *("checkpoint.every", "checkpoint.keep_last"),
    *("data.dir", "data.source", "data.stream"),
)
"""Fields that may change when a run goes on, because they do not change the run."""
CONFIG = "config.json"
CONTENTS = "data (its contents)"


@contextlib.contextmanager
def claim(path: str | Path) -> Iterator[Path]:
    """Make the folder, and hold it against a second process.

    Of several processes of a job the first one does that for all.

    Raises:
      InputError: it cannot be made or written to, now or by what is done in it; or
        another process holds it.
    """
    folder = Path(path)
    if not hosts.is_first():
        yield folder
        return
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


def bind(
    folder: Path, config: Config, data: dict[str, Any], file: str = CONFIG
) -> None:
    """Bind a new workdir to a configuration and its data, or check an old one's.

    Args:
      folder: claimed.
      config: of the run.
      data: ``checksum`` and whatever else says which data it is.
      file: that holds the configuration.

    Raises:
      InputError: the workdir belongs to another configuration or other data; the
        message names the first differences. Or processes of a job differ in them.
    """
    own = identity(config, data)
    if not hosts.agree(zlib.crc32(json.dumps(own).encode()) >> 1):
        raise InputError(
            "the processes of this job have not the same configuration and data; give "
            "every one the same command and the same files."
        )
    if not hosts.is_first():
        return
    if (folder / checkpoint.FOLDER).is_file():
        raise InputError(
            f"{folder / checkpoint.FOLDER} is a file where a folder should be; "
            f"choose another --workdir."
        )
    if (folder / file).exists():
        check(folder, config, data, file=file)
    elif any((folder / checkpoint.FOLDER).glob("*")):
        raise InputError(
            f"workdir {folder} holds checkpoints that are not of this program (no "
            f"config.json beside them); choose another --workdir."
        )
    write_json(folder / file, own)


def check(
    folder: Path,
    config: Config,
    data: dict[str, Any],
    free: tuple[str, ...] = FREE,
    file: str = CONFIG,
) -> None:
    """Raise an `InputError` unless a workdir is of this configuration and data.

    Args:
      folder: holds a run.
      config: to compare with its own.
      data: as in `bind`.
      free: beginnings of the fields that may differ; of a study, of its base.
      file: that holds the configuration.
    """
    old, new = _stored(folder, file), identity(config, data)
    differences = [
        f"{field} was {old.get(field)!r}, now {new.get(field)!r}"
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
        and not field.removeprefix("base.").startswith(free)
    ]
    if differences:
        shown = "; ".join(differences[:5])
        raise InputError(
            f"workdir {folder} holds a run of another configuration: {shown}. "
            f"Choose another --workdir, or the old values to go on."
        )


def config(folder: Path) -> Config:
    """Configuration of the run that a workdir holds.

    Raises:
      InputError: it holds none.
    """
    fields = _stored(folder)
    del fields[CONTENTS]
    nested: dict[str, Any] = {}
    for field, value in fields.items():
        *parents, name = field.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = tuple(value) if isinstance(value, list) else value
    return ConfigDict(nested)


def _stored(folder: Path, file: str = CONFIG) -> dict[str, Any]:
    """Fields and values of a stored configuration."""
    path = folder / file
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} holds no training run; name the --workdir of one."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); choose another --workdir."
        ) from error


def identity(config: Config, data: dict[str, Any]) -> dict[str, Any]:
    """Fields and values that say what a run is: configuration and data."""
    fields = json.loads(json.dumps(flat(config)))  # tuples as JSON has them
    return {**fields, CONTENTS: data["checksum"]}


def flat(config: Config, prefix: str = "") -> dict[str, Any]:
    """Fields of a configuration by their dotted names."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            fields.update(flat(value, f"{prefix}{name}."))
        else:
            fields[prefix + name] = value
    return fields


@hosts.by_first
def check_space(folder: Path, needed: int) -> None:
    """Raise an `InputError` if fewer than ``needed`` bytes are free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"workdir {folder} has {free / 2**20:.0f} MiB free, and this run needs "
            f"about {needed / 2**20:.0f} MiB; free some, or choose another --workdir."
        )


@hosts.by_first
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


@hosts.by_first
def set_seconds(folder: Path, seconds: dict[str, float]) -> None:
    """Note in ``run.json`` where the wall time of this process went so far."""
    path = folder / "run.json"
    content = json.loads(path.read_text())
    content["sessions"][-1]["seconds"] = {k: round(v, 3) for k, v in seconds.items()}
    write_json(path, content)


@hosts.by_first
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
