"""The program ``mtl-jax``: the name of a command, then its flags."""

import ast
import importlib
import sys
from pathlib import Path

import mtl_jax
from mtl_jax.options import one_of
from mtl_jax.types import InputError

from . import entry, help

COMMANDS = (
    *("train", "sweep", "reproduce", "measure", "merge", "fork", "group", "report"),
    *("compile", "toy", "vocabulary", "tensorboard", "benchmark"),
)
"""Modules and packages beside this one; each has a function of its own name."""
HEAD = """usage: mtl-jax COMMAND --FLAG=VALUE ...

  mtl-jax train --config=digits --workdir=runs/digits

Commands:"""
FOOT = """
mtl-jax COMMAND --help explains a command, mtl-jax --version says the version."""


def main() -> None:
    """Run the command that the command line names, and exit with its number."""
    program, *words = sys.argv
    name = words[0] if words else "--help"
    if name in help.WORDS | {"help"}:
        print(usage())
    elif name == "--version":
        print(f"mtl-jax {mtl_jax.__version__}")
    else:
        run(name, [f"{program} {name}", *words[1:]])


def run(name: str, argv: list[str]) -> None:
    """Run a command, and exit with its number.

    Args:
      name: of the command.
      argv: its command line.
    """
    try:
        one_of("command", name, COMMANDS)
    except InputError as error:
        entry.fail(str(error))
    sys.argv = argv
    # Modules of the current folder can be imported, as after `python -m`; they come
    # last, so that none of them stands in for a package.
    sys.path.append(str(Path.cwd()))
    module = importlib.import_module(f"{__package__}.{name}")
    entry.main(getattr(module, name), str(module.__doc__))


def usage() -> str:
    """Return the list of all commands, one line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary(name)}" for name in COMMANDS]
    return "\n".join([HEAD, *lines, FOOT])


def summary(name: str) -> str:
    """Return the first line of a command's docstring, without importing it.

    >>> summary("report")
    'Write the report of a training run, finished or not: one page, and its figures.'
    """
    folder = Path(__file__).parent
    paths = folder / f"{name}.py", folder / name / "__init__.py"
    source = next(path for path in paths if path.is_file()).read_text("utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
