"""Command lines: parsed, or refused with one message that says what was meant."""

import os
import re
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mtl_jax.options import closest
from mtl_jax.storage import commands, reason
from mtl_jax.types import InputError

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "tuple": "a list: a,b",
}
"""What flags take, by the words of absl and of Python."""
PREFIX = re.compile(r"flag --(\S+?)=(.*?): ", re.DOTALL)
"""What absl puts before a message: name and value of the flag."""
SHOWN = 3
"""Flags that a message proposes, at most."""
_argv: list[str] = []
"""What ml_collections takes for the command line; empty until `parse`."""


def define_config(about: str, config: ConfigDict | None = None) -> Any:
    """Define ``--config``, and ``--config.FIELD`` for all of its fields.

    Args:
      about: what it is, for the help.
      config: where it is no file, but this one.

    Returns:
      The holder of the flag.
    """
    # Else ml_collections would look at sys.argv here, where no error is caught.
    if config is None:
        return config_flags.DEFINE_config_file("config", None, about, sys_argv=_argv)
    return config_flags.DEFINE_config_dict("config", config, about, sys_argv=_argv)


def require(*names: str) -> None:
    """Let flags be needed, and not empty."""
    for name in names:
        flags.register_validator(name, bool, f"--{name} is needed, see --help.")


def parse(argv: Sequence[str], command: str) -> None:
    """Parse flags, and the configuration that one of them names.

    Args:
      argv: the command line.
      command: its name.

    Raises:
      InputError: a mistake in the flags, in the config file, or a configuration that is
        one for another command.
    """
    try:
        argv = flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)
    except flags.Error as error:
        text = reason.text(error).removeprefix("ERROR:: ")
        raise InputError(f"{text}; see --help.") from error
    fields = _fields(argv, command)
    try:
        _argv[:] = argv
        config = flags.FLAGS["config"].default if fields else None
        if isinstance(config, ConfigDict):
            flags.FLAGS.set_default("config", config)  # now it looks at _argv
        rest = flags.FLAGS(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        hint = _hint(error.flagname, fields, [f.name for f in defined_flags()])
        raise InputError(
            f"unknown flag --{error.flagname}, see --help{hint}"
        ) from error
    except flags.IllegalFlagValueError as error:
        messages = {_illegal(line, fields): None for line in _split(str(error))}
        raise InputError(" ".join(messages)) from error
    except flags.Error as error:
        raise InputError(f"{reason.text(error)}; see --help.") from error
    if rest:
        raise InputError(
            f"unknown argument {rest[0]!r}; flags begin with --, see --help."
        )


def _fields(argv: Sequence[str], command: str) -> dict[str, Any]:
    """Return fields and values of the configuration as its file has it.

    Raises:
      InputError: it cannot be loaded, it is one for another command, or the command
        line sets a field that it does not have.
    """
    if "config" not in flags.FLAGS:
        return {}
    path, config = _config_path(argv), flags.FLAGS["config"].default
    if isinstance(config, ConfigDict) and path is not None:
        raise InputError(
            f"--config={path}: {command} takes the configuration of its workdir; only "
            f"--config.FIELD=VALUE changes it."
        )
    if path:
        config = _load(path, command)
        commands.check_config(command, config)
    if not isinstance(config, ConfigDict):
        return {}
    from mtl_jax.storage import workdir  # a quarter of a second

    fields = workdir.flat(config)
    for name in _overrides(argv):
        if now := commands.new_name(name):
            raise InputError(f"--config.{name} is called --config.{now} now.")
        if name not in fields and not _group(name, fields):
            raise InputError(
                f"the config has no such field: {name}, see configs/default.py"
                f"{_hint(name, fields)}"
            )
    return fields


def _config_path(argv: Sequence[str]) -> str | None:
    """Return what ``--config`` names, with what stands behind a colon; None without."""
    path = None
    for word, following in zip(argv, [*argv[1:], None], strict=True):
        name, given, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "config":
            path = value if given else following
    return path


def _load(path: str, command: str) -> Any:
    """Load what a config file has, without what the command line changes."""
    file, _, word = path.partition(":")
    if not os.path.isfile(file):
        raise InputError(f"the config file cannot be loaded: {_absence(file, command)}")
    try:
        return flags.FLAGS["config"].parser.parse(path)
    except Exception as error:
        # Of some kinds ml_collections makes others, with a traceback as their text.
        is_plain = "whilst parsing config file" not in str(error)
        cause = error if is_plain else error.__context__ or error
        if isinstance(cause, InputError):
            raise InputError(str(cause)) from error
        passed = f" (get_config was passed {word!r})" if word else ""
        raise InputError(
            f"the config file cannot be loaded: {file}{_line(cause, file)}: "
            f"{reason.of(cause)}{passed}."
        ) from error


def _absence(file: str, command: str) -> str:
    """Say that a config file is not there, and which one may be meant."""
    example = Path(commands.COMMANDS[command].config.partition(":")[0])
    known = {path.stem: str(path) for path in example.parent.glob("[!_]*.py")}
    close = closest(Path(file).stem, known)
    what = "is a folder" if os.path.isdir(file) else "is not there"
    return f"{file} {what}" + (
        f"; did you mean {known[close]}?" if close else f"; one is {example}."
    )


def _line(error: BaseException, file: str) -> str:
    """Return the line of a config file in which an error was raised."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    here = Path(file).resolve()
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == here]
    return f", line {lines[-1]}" if lines else ""


def _overrides(argv: Sequence[str]) -> list[str]:
    """Return the fields that a command line sets."""
    words = (word.partition("=")[0] for word in argv)
    matches = (re.fullmatch(r"--?(?:no)?config\.(.*)", word) for word in words)
    return [match[1] for match in matches if match]


def _group(name: str, fields: Iterable[str]) -> list[str]:
    """Return the fields of a group of them, by its name."""
    return [field for field in fields if field.startswith(f"{name}.")]


def defined_flags() -> list[flags.Flag]:
    """Return this command's flags."""
    return [
        flag
        for module, defined in flags.FLAGS.flags_by_module_dict().items()
        if not module.startswith(("absl", "ml_collections"))
        for flag in defined
        if "." not in flag.name
    ]


def _hint(name: str, fields: Iterable[str], names: Iterable[str] = ()) -> str:
    """Return the end of a message about an unknown flag or field."""
    name, fields = name.replace("-", "_").removeprefix("config."), list(fields)
    last = name.rpartition(".")[2]
    same = [field for field in fields if field.rpartition(".")[2] == last]
    close = closest(name, [*names, *fields])
    if close and ("." in name or not same):
        meant = [f"--config.{close}" if close in fields else f"--{close}"]
    else:
        depth = min((field.count(".") for field in same), default=0)
        meant = [f"--config.{field}" for field in same if field.count(".") == depth]
    return f"; did you mean {' or '.join(meant[:SHOWN])}?" if meant else "."


def _split(text: str) -> list[str]:
    """Split absl's text into its messages; values may have lines of their own."""
    return re.split(r"\n(?=flag --)", text)


def _illegal(text: str, fields: dict[str, Any]) -> str:
    """Return what to say of a value that a flag does not take."""
    match = PREFIX.match(text)
    if not match:
        return " ".join(text.split())
    name, value = match.groups()
    field = name.removeprefix("config.")
    if group := _group(field, fields):
        few = ", ".join(f"--config.{member}" for member in group[:SHOWN])
        return f"--{name} is a group of fields; set one of them: {few}, ..."
    kind = KINDS.get(type(fields[field]).__name__) if field in fields else None
    kind = kind or KINDS.get(flags.FLAGS[name].flag_type())
    said = " ".join(PREFIX.sub("", text).split())
    if said.startswith("--"):  # as `require` says it
        return said
    return f"--{name}={value} must be {kind}." if kind else f"--{name}={value}: {said}."
