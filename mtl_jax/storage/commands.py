"""Commands: what configuration each of them takes, and what its folder holds."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from mtl_jax.storage.renames import RENAMED
from mtl_jax.types import InputError

CONFIG = "config.json"
"""Configuration of a training run, in its folder."""
STUDY = "study.json"
SWEEP = "sweep"
"""Folder of a study with a training run per candidate."""
SELECTED = "selected"
"""Folder of a study that reads like that of a training run."""


class Command(NamedTuple):
    """Command that takes a configuration, as `experiments` names it."""

    field: str
    """Field that only its configurations have."""
    config: str
    """An example of one."""


OF_A_RUN = Command("setting", "configs/digits.py")
COMMANDS = {
    "train": OF_A_RUN,
    "sweep": Command("grid", "configs/sweeps/digits.py"),
    "reproduce": Command("studies", "configs/reproduce.py:smoke"),
    "compile": OF_A_RUN,
}


def check_config(name: str, config: Any) -> None:
    """Raise an `InputError` unless a configuration is one for a command."""
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"a configuration for {name} is a ConfigDict, and this is a "
            f"{type(config).__name__}; let get_config return one as "
            f"{COMMANDS[name].config} does."
        )
    groups: dict[str, Any] = {"": config, "base.": config.get("base", ())}
    for group, fields in groups.items():
        for field in RENAMED.keys() & set(fields):
            raise InputError(
                f"{group}{field} is called {group}{RENAMED[field]} now; rename it in "
                f"the configuration."
            )
    kinds = [other for other in COMMANDS if COMMANDS[other].field in config]
    if name not in kinds:
        kind = kinds[0] if kinds else "none of them"
        instead = f"give it to mtl-jax {kind}, or " if kinds else ""
        raise InputError(
            f"this is a configuration for {kind}, not for {name}: {instead}{name} one "
            f"like {COMMANDS[name].config}."
        )


def check_folder(name: str, path: str | Path) -> None:
    """Raise an `InputError` where a command would write into what is another's.

    Args:
      name: of the command.
      path: its workdir, which need not be there.
    """
    folder = Path(path)
    if os.path.exists(folder) and not folder.is_dir():
        raise InputError(
            f"workdir {folder} cannot be written to: it is a file; choose another "
            f"--workdir."
        )
    holds = _holds(folder)
    if holds and holds != name:
        raise InputError(
            f"workdir {folder} is one of {holds}, not of {name}; choose another "
            f"--workdir."
        )


def check_run(path: str | Path) -> None:
    """Raise an `InputError` for what cannot be the folder of a training run."""
    folder = Path(path)
    if not os.path.isdir(folder):
        what = "it is a file" if os.path.exists(folder) else "it is not there"
        raise InputError(
            f"{folder} holds no records, {what}; name the --workdir of a training run."
        )
    kind = _holds(folder)
    chosen = {"sweep": SELECTED, "reproduce": f"*/{SELECTED}"}.get(kind)
    if chosen:
        there = ",".join(map(str, sorted(folder.glob(chosen))))
        raise InputError(
            f"workdir {folder} is one of {kind}, not of a training run; "
            + (f"what it chose is in {there}." if there else "it has chosen none yet.")
        )


def _holds(folder: Path) -> str:
    """Return the command whose folder this is; empty for a new one."""
    files = {"train": CONFIG, "sweep": STUDY, "reproduce": f"*/{STUDY}"}
    try:
        return next((name for name in files if any(folder.glob(files[name]))), "")
    except OSError:  # what cannot be looked into will be told by who needs it
        return ""
