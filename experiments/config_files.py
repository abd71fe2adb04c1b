"""Config files: the shipped ones by name, and anybody's by path."""

import importlib
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from mtl_jax.options import closest, one_of
from mtl_jax.storage import commands, reason
from mtl_jax.types import InputError

ROOT = Path(__file__).parent.parent
"""Folder that holds the folder ``configs``: a checkout, or the installed package."""
CONFIGS = __name__.replace("experiments.config_files", "configs")
"""Name of the package of the shipped configs, which lies beside this one."""
# A config file starts from ours by this name, be it read in a checkout or not.
sys.modules.setdefault("mtl_jax.configs", importlib.import_module(CONFIGS))

OF_A_RUN = (("*.py",), {"default", "reproduce"})
SHIPPED = {
    "train": OF_A_RUN,
    "sweep": (("sweeps/*.py",), {"default"}),
    "reproduce": (("reproduce.py", "paper/*.py"), {"protocol"}),
    "compile": OF_A_RUN,
}
"""Patterns of a command's files in ``configs``, and stems that are none of them."""


def shipped(command: str) -> dict[str, Path]:
    """Return the shipped config files of a command by their names.

    >>> list(shipped("reproduce"))[:2]
    ['reproduce', 'paper/auxiliary']
    """
    patterns, others = SHIPPED[command]
    folder = ROOT / "configs"
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    return {
        _name(path, command): path
        for path in paths
        if path.stem not in {"__init__", *others}
    }


def _name(path: Path, command: str) -> str:
    """Name a shipped file: by its place below that of the command's first ones."""
    folder = (ROOT / "configs" / SHIPPED[command][0][0]).parent
    return path.relative_to(folder).with_suffix("").as_posix()


def load(value: str, command: str) -> Any:
    """Load the configuration that a value of ``--config`` stands for.

    Args:
      value: NAME or FILE, or either with ``:WORD`` behind it, which its ``get_config``
        is passed.
      command: takes the configuration.

    Raises:
      InputError: there is no such file, or it cannot be loaded.
    """
    name, colon, word = value.partition(":")
    path = _path(name, command)
    try:
        get_config = _module(path, command).get_config
        return get_config(word) if colon else get_config()
    except InputError:
        raise
    except Exception as error:
        passed = f" (get_config was passed {word!r})" if word else ""
        raise InputError(
            f"the config file cannot be loaded: {path}{_line(error, path)}: "
            f"{reason.of(error)}{passed}."
        ) from error


def default() -> Any:
    """Return every field of an experiment with its default."""
    return importlib.import_module(f"{CONFIGS}.default").get_config()


def example(command: str) -> str:
    """Return a value of ``--config`` that a command takes."""
    return str(ROOT / commands.COMMANDS[command].config)


def shown(path: str | Path) -> str:
    """Return a path as messages show it: short where it is below the current folder."""
    path, here = Path(path), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _path(name: str, command: str) -> Path:
    """Return the file that is meant by a name or a path."""
    files = shipped(command)
    if name in files:
        return files[name]
    if not os.path.exists(name) and name == Path(name).stem:
        one_of("--config: there is no such file, and", name, files)
    if not os.path.isfile(name):
        raise InputError(f"the config file cannot be loaded: {_absence(name, command)}")
    return Path(name)


def _absence(file: str, command: str) -> str:
    """Say that a config file is not there, and which one may be meant."""
    files = shipped(command)
    close = closest(Path(file).stem, files)
    what = "is a folder" if os.path.isdir(file) else "is not there"
    return f"{file} {what}" + (
        f"; did you mean {_choice(files[close])}?"
        if close
        else f"; one is {_choice(Path(example(command).partition(':')[0]))}."
    )


def _choice(file: Path) -> str:
    """Return what ``--config`` takes for a shipped file: a short path, or its name."""
    path = shown(file)
    return file.stem if os.path.isabs(path) else path


def _module(path: Path, command: str) -> ModuleType:
    """Execute a config file; one from elsewhere as if it lay beside its command's.

    So ``from . import default`` means the same in a shipped file and in a copy of it.
    """
    folder, shipped_folder = path.resolve().parent, (ROOT / "configs").resolve()
    if not folder.is_relative_to(shipped_folder):
        folder = (shipped_folder / SHIPPED[command][0][0]).parent
    parts = folder.relative_to(shipped_folder).parts
    name = ".".join([CONFIGS, *parts, "config_file"])
    importlib.import_module(name.rpartition(".")[0])
    loader = SourceFileLoader(name, str(path))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def _line(error: BaseException, file: Path) -> str:
    """Return the line of a config file in which an error was raised."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    here = file.resolve()
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == here]
    return f", line {lines[-1]}" if lines else ""
