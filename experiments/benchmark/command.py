"""The command ``benchmark``: workloads by name, timed, and their tables."""

import platform
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import jax
from absl import flags
from rich.console import Console
from rich.table import Table

from mtl_jax.options import some_of
from mtl_jax.types import InputError

from . import (
    factor_workloads,
    language_workloads,
    solver_workloads,
    training_workloads,
)
from .training_workloads import METHODS, TASK_COUNTS, TASKS
from .ways import HEADER, Rows, Say, Way
from .ways import rows as rows_of

WORKLOADS = flags.DEFINE_list(
    "workloads", ["W1", "W2", "W3", "W4", "W5"], "Which to run."
)
METHODS_FLAG = flags.DEFINE_list("methods", list(METHODS), "Of W2 and solvers.")
TASKS_FLAG = flags.DEFINE_list(
    "tasks", None, "Numbers of tasks of W2 and solvers, of 3,10,40,64."
)
ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds; every way runs once in each.")
MARKDOWN = flags.DEFINE_string("markdown", None, "File to write the tables to.")


def benchmark() -> int:
    """Run the chosen workloads and print their tables."""
    # W5 counts compilation, which must not come out of a cache.
    jax.config.update("jax_enable_compilation_cache", False)
    some_of("--workloads", WORKLOADS.value, MAKERS)
    some_of("--methods", METHODS_FLAG.value, METHODS)
    some_of("--tasks", TASKS_FLAG.value or (), map(str, TASK_COUNTS))
    if ROUNDS.value < 1:
        raise InputError(f"rounds is {ROUNDS.value}; run at least 1.")
    _check_writable(MARKDOWN.value)
    console = Console(emoji=False)
    tables: dict[tuple[str, ...], Rows] = {}
    for workload in WORKLOADS.value:
        header, rows = MAKERS[workload](console.print)
        tables.setdefault(header, []).extend(rows)
    for header, rows in tables.items():
        console.print(_table(header, rows))
    if MARKDOWN.value:
        Path(MARKDOWN.value).write_text(_markdown(tables), "utf-8")
    return 0


def _check_writable(path: str | None) -> None:
    """Raise an `InputError` where the tables could not be written in the end."""
    if path:
        try:
            Path(path).open("a").close()
        except OSError as error:
            raise InputError(
                f"--markdown={path} cannot be written: {error.strerror}; name another."
            ) from error


def _hardware() -> str:
    device = jax.devices()[0]
    kind = device.device_kind if device.platform != "cpu" else platform.machine()
    return f"{device.platform} ({kind}), jax {jax.__version__}"


def _table(header: tuple[str, ...], rows: Rows) -> Table:
    table = Table(*header, title=_hardware())
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(tables: dict[tuple[str, ...], Rows]) -> str:
    parts = [_hardware()]
    for header, rows in tables.items():
        lines = [header, ["---"] * len(header), *rows]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _timed(
    make: Callable[[Say, bool], Iterable[tuple[str, list[Way]]]], say: Say
) -> tuple[tuple[str, ...], Rows]:
    """Return the table of a workload's times."""
    rows = []
    for label, ways in make(say, _has_torch(say)):
        rows += rows_of(label, ways, ROUNDS.value)
        say(f"{label}: measured {', '.join(way.name for way in ways)}")
    return HEADER, rows


def _has_torch(say: Say) -> bool:
    """Tell whether torch is installed, without which there are no peers."""
    if find_spec("torch") is not None:
        return True
    say("missing: torch and all peers (pip install 'mtl_jax[bench]')")
    return False


def _task_counts(default: Iterable[int]) -> list[int]:
    return [int(count) for count in TASKS_FLAG.value or default]


def _w2(say: Say, peers: bool) -> Iterable[tuple[str, list[Way]]]:
    counts = _task_counts([TASKS])
    return training_workloads.w2(say, peers, METHODS_FLAG.value, counts)


def _solvers(say: Say) -> tuple[tuple[str, ...], Rows]:
    counts = _task_counts(TASK_COUNTS)
    rows = solver_workloads.rows(
        say, _has_torch(say), METHODS_FLAG.value, counts, ROUNDS.value
    )
    return solver_workloads.HEADER, rows


MAKERS: dict[str, Callable[[Say], tuple[tuple[str, ...], Rows]]] = {
    "W1": partial(_timed, training_workloads.w1),
    "W2": partial(_timed, _w2),
    "W3": partial(_timed, factor_workloads.w3),
    "W4": partial(_timed, factor_workloads.w4),
    "W5": partial(_timed, training_workloads.w5),
    "W6": partial(_timed, language_workloads.w6),
    "solvers": _solvers,
}
