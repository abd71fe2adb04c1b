"""A workdir: claimed by one process, bound to one configuration and its data.

Beside records and checkpoints it holds ``config.json`` (what was asked for),
``run.json`` (see `provenance`) and ``splits.npz`` (the rows of every split and probe).
"""

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mtl_jax.devices import multihost
from mtl_jax.storage import checkpoint, disk, lock
from mtl_jax.storage.commands import CONFIG
from mtl_jax.storage.disk import write_json
from mtl_jax.storage.renames import new_name
from mtl_jax.types import Config, InputError

FREE = (
    *("checkpoint.every", "checkpoint.keep_last"),
    *("data.dir", "data.source", "data.stream"),
    *("profile", "log"),
)
"""Fields that may change when a run goes on, because they do not change the run."""
LENGTH = ("steps", "epochs", "stop_loss")
"""Fields that say where a run ends: they may change where nothing else goes by them."""
NOTHING: Mapping[str, Any] = {}
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
    if not multihost.is_primary():
        yield folder
        return
    _check_name(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise lock.unwritable(folder, error) from error
    with lock.hold(folder):
        try:
            yield folder
        except OSError as error:
            if not _is_within(error.filename, folder):
                raise  # it is about the data, say
            raise InputError(
                f"cannot write to workdir {folder}: {error.filename}: "
                f"{error.strerror or error}; free space or mend the folder and give "
                f"the same command again: it goes on from its last checkpoint."
            ) from error


def _check_name(folder: Path) -> None:
    """Refuse a path that Python and the libraries beneath it would spell in two ways.

    Those take names for UTF-8, Python for what the locale says.
    """
    path = str(folder.absolute())
    with contextlib.suppress(UnicodeEncodeError):
        if os.fsencode(path) == path.encode():
            return
    raise InputError(
        f"workdir {ascii(str(folder))} has letters that this locale does not write as "
        f"UTF-8; set PYTHONUTF8=1 (or LC_ALL=C.UTF-8), or choose another --workdir."
    )


def _is_within(path: Any, folder: Path) -> bool:
    """Tell whether a file that an error names is of this folder."""
    if not isinstance(path, str | os.PathLike):
        return False
    return Path(path).absolute().is_relative_to(folder.absolute())


def bind(
    folder: Path,
    config: Config,
    data: dict[str, Any],
    file: str = CONFIG,
    later: Mapping[str, Any] = NOTHING,
    free: tuple[str, ...] = FREE,
) -> None:
    """Bind a new workdir to a configuration and its data, or check an old one's.

    Args:
      folder: claimed.
      config: of the run.
      data: ``checksum`` and whatever else says which data it is.
      file: that holds the configuration.
      later: as in `check`.
      free: as in `check`.

    Raises:
      InputError: as `admit`.
    """
    admit(folder, config, data, file, later, free)
    if multihost.is_primary():
        write_json(folder / file, disk.sealed(identity(config, data)))


def admit(
    folder: Path,
    config: Config,
    data: dict[str, Any],
    file: str = CONFIG,
    later: Mapping[str, Any] = NOTHING,
    free: tuple[str, ...] = FREE,
) -> None:
    """Check that `bind` may bind a workdir, and change nothing.

    Raises:
      InputError: the workdir belongs to another configuration or other data; the
        message names the first differences. Or processes of a job differ in them.
    """
    fields = identity(config, data)
    if not multihost.agree(zlib.crc32(json.dumps(fields).encode()) >> 1):
        raise InputError(
            "the processes of this job have not the same configuration and data; give "
            "every one the same command and the same files."
        )
    if not multihost.is_primary():
        return
    if (folder / checkpoint.FOLDER).is_file():
        raise InputError(
            f"{folder / checkpoint.FOLDER} is a file where a folder should be; "
            f"choose another --workdir."
        )
    if (folder / file).exists():
        check(folder, config, data, free, file, later)
    elif any((folder / checkpoint.FOLDER).glob("[0-9]*")):
        raise InputError(
            f"workdir {folder} holds checkpoints that are not of this program (no "
            f"config.json beside them); choose another --workdir."
        )


def check(
    folder: Path,
    config: Config,
    data: dict[str, Any],
    free: tuple[str, ...] = FREE,
    file: str = CONFIG,
    later: Mapping[str, Any] = NOTHING,
) -> None:
    """Raise an `InputError` unless a workdir is of this configuration and data.

    Args:
      folder: holds a run.
      config: to compare with its own.
      data: as in `bind`.
      free: fields that may differ, as of `is_among`; of a study, of its base.
      file: that holds the configuration.
      later: defaults by dotted names. A field that an old configuration does not have
        had its default, whenever it was added.
    """
    old, damage = _stored(folder, file)
    new = identity(config, data)
    old = {**{k: v for k, v in _as_json(later).items() if k in new}, **old}
    differences = [
        f"{field} was {old.get(field)!r}, now {new.get(field)!r}"
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
        and not is_among(field.removeprefix("base."), free)
    ]
    if differences:
        shown = "; ".join(differences[:5])
        shown += f" ({folder / file}: {damage}; put a sound copy back)" * bool(damage)
        raise InputError(
            f"workdir {folder} holds a run of another configuration: {shown}. "
            f"Choose another --workdir, or the old values to go on."
        )


def is_among(field: str, names: tuple[str, ...]) -> bool:
    """Tell whether a field is named, or lies in a part that is, ``factors.``.

    >>> is_among("steps_per_dispatch", ("steps",)), is_among("data.dir", ("data.",))
    (False, True)
    """
    parts = tuple(name for name in names if name.endswith("."))
    return field in names or field.startswith(parts)


def config(folder: Path, later: Mapping[str, Any] = NOTHING) -> Config:
    """Read the configuration of the run that a workdir holds.

    Raises:
      InputError: it holds none.
    """
    fields, damage = _stored(folder)
    if damage or CONTENTS not in fields:
        raise InputError(
            f"{folder / CONFIG} cannot be read "
            f"({damage or 'it is not what a run leaves'}); put a sound copy back, or "
            f"give the training command again, which names what was changed."
        )
    del fields[CONTENTS]
    fields = {**_as_json(later), **fields}
    nested: dict[str, Any] = {}
    for field, value in fields.items():
        *parents, name = field.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = tuple(value) if isinstance(value, list) else value
    return ConfigDict(nested)


def _stored(folder: Path, file: str = CONFIG) -> tuple[dict[str, Any], str]:
    """Fields and values of a stored configuration, and how they are damaged."""
    path = folder / file
    try:
        content = disk.load_json(path)
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} holds no training run; name the --workdir of one."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); put a sound copy back, or choose "
            f"another --workdir."
        ) from error
    damage = ""
    try:
        content = disk.opened(content)
    except ValueError as error:
        content.pop(disk.SEAL)
        damage = str(error)
    return {new_name(name) or name: value for name, value in content.items()}, damage


def identity(config: Config, data: dict[str, Any]) -> dict[str, Any]:
    """Collect fields and values that say what a run is: configuration and data."""
    return {**_as_json(flat(config)), CONTENTS: data["checksum"]}


def _as_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(fields)))  # tuples as JSON has them


def flat(config: Config, prefix: str = "") -> dict[str, Any]:
    """Flatten a configuration to fields by their dotted names."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            fields.update(flat(value, f"{prefix}{name}."))
        else:
            fields[prefix + name] = value
    return fields


@multihost.on_primary_host
def check_space(folder: Path, needed: int) -> None:
    """Raise an `InputError` if fewer than ``needed`` bytes are free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"workdir {folder} has {free / 2**20:.0f} MiB free, and this run needs "
            f"about {needed / 2**20:.0f} MiB; free some, or choose another --workdir."
        )


@multihost.on_primary_host
def save_splits(folder: Path, splits: dict[str, tuple[np.ndarray, ...]]) -> None:
    """Store the rows of every split and task as ``splits.npz``: ``test/0``, ..."""
    arrays: dict[str, Any] = {
        f"{split}/{task}": rows
        for split, per_task in splits.items()
        for task, rows in enumerate(per_task)
    }
    with disk.whole(folder / "splits.npz") as file:
        np.savez_compressed(file, **arrays)
