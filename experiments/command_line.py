"""Command lines: parsed, or refused with one message that says what was meant."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mtl_jax.options import closest
from mtl_jax.storage import commands, reason, renames
from mtl_jax.types import InputError

from . import config_files

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "tuple": "a list: a,b",
}
"""Words for types that flags take, by the words of absl and of Python."""
PREFIX = re.compile(r"flag --(\S+?)=(.*?): ", re.DOTALL)
"""Beginning of absl's messages: name and value of the flag."""
UNQUOTED = re.compile(r"""(--config\.[\w.]+)=([^\s'"()\[\]]*[:@][^\s'"()\[\]]*)""")
"""A flag with names of groups or options, of which Python makes no list by itself."""
SHOWN = 3
"""Flags that a message proposes, at most."""
_argv: list[str] = []
"""The command line that ml_collections looks at; empty until `parse`."""


class ConfigParser(flags.ArgumentParser):
    """Parser of ``--config``, the name or the path of a config file."""

    def __init__(self, command: str) -> None:
        self.command = command

    def parse(self, argument: str) -> Any:
        """Load the configuration, and lock it against unknown fields."""
        config = config_files.load(argument, self.command)
        if isinstance(config, ConfigDict):
            config.lock()
        return config

    def flag_type(self) -> str:
        """Return what the flag takes, for messages."""
        return "config"


def define_config(command: str) -> Any:
    """Define ``--config`` of a command, and ``--config.FIELD`` for all of its fields.

    Returns:
      The holder of the flag.
    """
    names = ", ".join(config_files.shipped(command))
    about = f"Name of a configuration ({names}), or a file that has a get_config."
    # Else ml_collections would look at sys.argv here, where no error is caught.
    holder = config_flags.DEFINE_config_file("config", None, about, sys_argv=_argv)
    flags.FLAGS["config"].parser = ConfigParser(command)
    return holder


def define_fields(about: str, config: ConfigDict) -> Any:
    """Define ``--config.FIELD`` for all fields of a configuration that no file makes.

    Returns:
      The holder of the flag.
    """
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
    argv = [_quoted(argument) for argument in argv]
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


def _quoted(argument: str) -> str:
    """Quote names of a list: ``--config.variants=single:a,multi-cagrad@c=0.2:a/b``."""
    match = UNQUOTED.fullmatch(argument)
    if match is None or "," not in match[2]:
        return argument
    names = [name for name in match[2].split(",") if name]
    return f"{match[1]}={tuple(names)!r}"


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
        config = flags.FLAGS["config"].parser.parse(path)
        commands.check_config(command, config)
    if not isinstance(config, ConfigDict):
        return {}
    from mtl_jax.storage import workdir  # a quarter of a second

    fields = workdir.flat(config)
    for name in _overrides(argv):
        if now := renames.new_name(name):
            raise InputError(f"--config.{name} is called --config.{now} now.")
        if name not in fields and not _group(name, fields):
            raise InputError(
                f"the config has no such field: {name}, see --help{_hint(name, fields)}"
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
