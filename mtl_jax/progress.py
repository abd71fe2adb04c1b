"""The live line over a run: steps, time left, and the current losses."""

from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mtl_jax import hosts


class Live:
    """Progress bar over steps; in a log file, one line a trajectory point."""

    def __init__(self, steps: int, done: int, console: Console | None = None) -> None:
        quiet = not hosts.is_first()
        plain = Console(stderr=True, quiet=quiet, markup=False, emoji=False)
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
            disable=not self._console.is_terminal,
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
