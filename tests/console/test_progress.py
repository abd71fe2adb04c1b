import errno
import io
import time

import pytest
from rich.console import Console

from mtl_jax.console.progress import ProgressBar


class Terminal(io.StringIO):
    """It is lost with an error."""

    def __init__(self, error, *, is_lost):
        super().__init__()
        self.error, self.is_lost = error, is_lost

    def write(self, text):
        if self.is_lost:
            raise self.error
        return super().write(text)

    def isatty(self):
        return True


@pytest.mark.parametrize("is_lost", [True, False])
@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), BrokenPipeError(errno.EPIPE, "pipe")],
)
def test_terminal_that_is_lost_does_not_end_a_run(error, is_lost, monkeypatch):
    terminal = Terminal(error, is_lost=is_lost)
    monkeypatch.setattr("sys.stderr", terminal)
    with ProgressBar(9, 0) as live:
        live.show(1, {"multi": 2.0}, True)
        terminal.is_lost = True
        live.show(2, {"multi": 1.0}, True)
        time.sleep(0.2)  # the bar is drawn from a thread of its own


def test_log_has_a_line_a_point():
    log = io.StringIO()
    with ProgressBar(9, 0, console=Console(file=log, force_terminal=False)) as live:
        live.show(1, {"multi": 2.0}, True)
        live.show(2, {"multi": 1.0}, False)
    assert log.getvalue() == "step 1/9  loss multi 2.000\n"
