"""The live line over a run: steps, time left, and the current losses."""

import contextlib
import sys
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mtl_jax.devices import multihost


class Screen:
    """A stream that may be lost, as a terminal is: a run goes on, and saves."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError):
            self._stream.flush()


class ProgressBar:
    """Progress bar over steps; in a log file, one line a trajectory point."""

    def __init__(
        self,
        steps: int,
        done: int,
        shown: bool = True,
        console: Console | None = None,
    ) -> None:
        screen: Any = Screen(sys.stderr)
        quiet = not shown or not multihost.is_primary()
        plain = Console(file=screen, quiet=quiet, markup=False, emoji=False)
        self._console = console or plain
        self._steps = steps
        self._losses: dict[str, float] = {}
        self._bar = Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("compiling", total=steps, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def show(self, step: int, losses: dict[str, float], is_point: bool) -> None:
        """Show the mean training losses of the variants after a step."""
        known = [f"{name} {loss:.3f}" for name, loss in losses.items() if loss == loss]
        text = "loss " + "  ".join(known) if known else "before the first step"
        self._bar.update(self._task, completed=step, description=text)
        if is_point and not self._console.is_terminal:
            self._console.print(f"step {step}/{self._steps}  {text}", soft_wrap=True)
