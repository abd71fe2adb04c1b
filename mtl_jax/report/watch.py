"""Reports of runs that go on: written again whenever there is something new."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mtl_jax.report.page import write
from mtl_jax.storage import lock, records


def watch(
    workdirs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    seconds: float,
    say: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Write the report of runs again and again, as long as a process works on them.

    The page loads itself anew meanwhile, and no more when the last run has ended.
    Nothing of the runs is touched: training does not wait for a report.

    Args:
      workdirs: of training runs; one may have no records yet.
      out: folder of the report, as of `write`.
      seconds: from one look at the records to the next.
      say: told where the page is, and when it is the last one.
      sleep: how to wait.

    Returns:
      The page.

    Raises:
      InputError: as `write`; a run that nobody works on holds no records.
    """
    folders, written = [Path(path) for path in workdirs], None
    while True:
        goes_on = any(map(lock.is_held, folders))
        there = [tuple(records.steps(folder)) for folder in folders]
        if not goes_on:  # then nothing comes after what is there
            page = write(workdirs, out)
            say(f"written to {page}; nobody works on it any more")
            return page
        if all(there) and there != written:
            page = write(workdirs, out, refresh=seconds)
            if written is None:
                say(f"{page} is written anew every {seconds:g} s, until Ctrl-C")
            written = there
        sleep(seconds)
