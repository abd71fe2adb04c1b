"""Help: a command's flags, and its configuration as the command line resolves it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

import mtl_jax

from . import command_line
from .config_files import ROOT, example, shown

WORDS = {"--help", "-help", "-h", "--helpfull", "--helpshort", "-?"}
"""Words by which help is asked for."""
EXPLAINED = (
    Path(mtl_jax.__path__[0]) / "training" / "config.py",
    ROOT / "configs" / "sweeps" / "default.py",
)
"""Files whose comments explain the fields."""
ASSIGNED = re.compile(r"\s+config\.([\w.]+)(?:\[.*?\])? = .*?(?:  # (.*))?$")
COMMENT = re.compile(r"\s+# (.*)$")
INSIDE = re.compile(r"^(?:studies\.\w+\.)?base\.")
"""Beginning of the name of a field of an experiment in the configuration of a study."""


class Comment(NamedTuple):
    """The comments of a config file on a field."""

    above: list[str]
    behind: str


def text(argv: Sequence[str], command: str, doc: str) -> str:
    """Return a docstring, the flags, and every field of the configuration.

    The fields have the values that the command line gives them, or else the config file
    that it names, or an example of one.

    Raises:
      InputError: a mistake in the command line, or in the config file.
    """
    defined = command_line.defined_flags()
    lines = [doc, "Flags:"]
    lines += [
        f"  --{flag.name}: {flag.help}"
        + f" (default: {flag.default})" * _has_default(flag)
        for flag in defined
    ]
    if "config" in flags.FLAGS:
        argv = [word for word in argv if word not in WORDS]
        given = {word.lstrip("-").partition("=")[0] for word in argv}
        file = ""
        for flag in defined:
            if flag.name not in given and flag.validators:
                value = "-"
                if flag.name == "config":
                    value = file = example(command)
                argv.insert(1, f"--{flag.name}={value}")
        command_line.parse(argv, command)
        of = f" of {shown(file)}" if file else ""
        lines += ["", f"Fields of the configuration{of}, --config.FIELD=VALUE:"]
        lines += _fields(flags.FLAGS.config)
    return "\n".join(lines)


def _has_default(flag: Any) -> bool:
    return flag.default is not None and not isinstance(flag.default, ConfigDict)


def _fields(config: ConfigDict) -> Iterator[str]:
    """Yield the fields with their values, each explained where it is met first."""
    from mtl_jax.storage import workdir  # a quarter of a second

    fields = workdir.flat(config)
    settings = {value for name, value in fields.items() if name.endswith("setting")}
    files = [*EXPLAINED]
    if len(settings) == 1:  # several may mean several things by one field
        files += [ROOT / "configs" / f"{name}.py" for name in settings]
    comments = _comments(file for file in files if file.is_file())
    order = {name: number for number, name in enumerate(comments)}
    for name, value in sorted(
        fields.items(), key=lambda field: _place(field[0], order)
    ):
        groups = _groups(INSIDE.sub("", name))
        for group in groups[:-1]:
            yield from _above(comments.pop(group, Comment([], "")))
        comment = comments.pop(groups[-1], Comment([], ""))
        yield from _above(comment)
        yield f"  {name}={value!r}" + f"  # {comment.behind}" * bool(comment.behind)


def _above(comment: Comment) -> Iterator[str]:
    return (f"  # {line}" for line in comment.above)


def _groups(name: str) -> list[str]:
    """Return the groups that a field is of, the largest first, and the field."""
    words = name.split(".")
    return [".".join(words[:n]) for n in range(1, len(words) + 1)]


def _place(name: str, order: dict[str, int]) -> tuple[str, int, str]:
    """Return where a field stands among all: by its file, or last of its group."""
    inside, groups = INSIDE.match(name), _groups(INSIDE.sub("", name))
    number = order.get(groups[-1], len(order))
    for group in groups[:-1]:
        if groups[-1] not in order:
            near = [n for f, n in order.items() if f.startswith(f"{group}.")]
            number = max(near, default=order.get(group, number))
    return inside[0] if inside else "", number, name


def _comments(files: Iterable[Path]) -> dict[str, Comment]:
    """Return what config files say of fields and of groups of them, in their order."""
    comments: dict[str, Comment] = {}
    for file in files:
        above: list[str] = []
        for line in file.read_text("utf-8").splitlines():
            if match := COMMENT.match(line):
                above.append(match[1])
            elif match := ASSIGNED.match(line):
                known = comments.get(match[1], Comment([], ""))
                behind = match[2] or known.behind
                comments[match[1]] = Comment([*known.above, *above], behind)
                above = []
    return comments
