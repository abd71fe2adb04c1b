"""A trace of some steps: what host and devices did in them, by `jax.profiler`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from mtl_jax.types import InputError

FOLDER = "profile"
FORM = "write START:STOP, such as 100:200, or nothing for no trace"


def span(text: str, steps: int) -> tuple[int, ...]:
    """Return the first step of a trace and the one behind its last; () for no trace.

    >>> span("100:200", 1_000), span("", 1_000)
    ((100, 200), ())

    Args:
      text: ``profile`` of a configuration.
      steps: of the runs.

    Raises:
      InputError: no such steps.
    """
    if not text:
        return ()
    try:
        first, last = map(int, str(text).split(":"))
    except ValueError:
        raise InputError(f"profile is {text!r}; {FORM}.") from None
    if not 0 <= first < last <= steps:
        raise InputError(
            f"profile is {text!r}, and steps is {steps}; choose steps with "
            f"0 <= START < STOP <= {steps}."
        )
    return first, last


@contextmanager
def tracer(folder: Path, span: tuple[int, ...]) -> Iterator[Callable[[int, Any], None]]:
    """Yield what is to be called before every step that the host stops at.

    It takes the step and the states, which it waits for where the trace begins and
    ends. The trace lies in `FOLDER`, for XProf (TensorBoard's profile plugin).

    Args:
      folder: the workdir.
      span: of the steps, as `span` returns it.
    """
    running = False

    def at(step: int, states: Any) -> None:
        nonlocal running
        if step not in span:
            return
        jax.block_until_ready(states)
        if running:
            jax.profiler.stop_trace()
        elif step == span[0]:
            jax.profiler.start_trace(str(folder / FOLDER))
        running = step == span[0]

    try:
        yield at
    finally:
        if running:
            jax.profiler.stop_trace()
