"""Trackers: a run's curves in a dashboard of somebody else, while it trains.

The records have everything; a tracker gets what a person follows: of every look the
means over seeds. One that fails is said, and left; training goes on.
"""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.devices import multihost
from mtl_jax.options import some_of
from mtl_jax.storage import disk
from mtl_jax.storage.records import Row
from mtl_jax.types import InputError

Log = Callable[[int, Mapping[str, float]], None]
"""``(step, values by name)``."""
Opener = Callable[[Path, Mapping[str, Any], int, ExitStack], Log]
"""``(workdir, configuration, step it goes on from, what is closed at the end) -> log``;
looks after that step are made again, and at 0 all of them."""
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "trackio": "trackio"}
PROJECT = "mtl_jax"


def means(rows: Sequence[Row]) -> dict[str, float]:
    """Return the means over seeds, by ``split/task/name/variant``.

    Where there are several learning rates the variant has its own behind a comma; where
    a factor has a scope its name has that. Values that are not finite are left out.

    >>> row = Row("s", "multi", 0, 0, 0.1, 8, "sum", 5, 1.0, "test", "a", "loss", 1.5)
    >>> means([row, row._replace(seed=1, value=2.5)])
    {'test/a/loss/multi': 2.0}
    """
    several = len({row.learning_rate for row in rows}) > 1
    values: dict[str, list[float]] = {}
    for row in rows:
        if math.isfinite(row.value):
            name = f"{row.name}.{row.scope}" if row.scope else row.name
            variant = row.variant + f",{row.learning_rate:g}" * several
            key = "/".join(filter(None, (row.split, row.task, name, variant)))
            values.setdefault(key, []).append(row.value)
    return {key: float(np.mean(each)) for key, each in values.items()}


@contextmanager
def follow(
    chosen: str | Sequence[str],
    folder: Path,
    config: Mapping[str, Any],
    first: int,
    say: Callable[[str], None],
) -> Iterator[Callable[[int, Sequence[Row]], None]]:
    """Open trackers, and yield what takes the rows of a look.

    Args:
      chosen: names in `TRACKERS`.
      folder: the workdir.
      config: fields by their dotted names.
      first: step from which the run goes on; 0: it begins.
      say: told of a tracker that fails.

    Raises:
      InputError: an unknown tracker, or one whose package is not there.
    """
    names = some_of("log", chosen, TRACKERS)
    for name in names:
        if find_spec(PACKAGES.get(name, "csv")) is None:
            raise InputError(
                f"log names {name}, and {PACKAGES[name]} is missing: "
                f"pip install {PACKAGES[name]}, or leave it out."
            )
    with ExitStack() as stack:
        active = {
            name: TRACKERS[name](folder, config, first, stack)
            for name in names
            if multihost.is_primary()
        }

        def log(step: int, rows: Sequence[Row]) -> None:
            values = means(rows) if active else {}
            for name in tuple(active):
                try:
                    active[name](step, values)
                except Exception as error:  # a dashboard is not worth a run
                    del active[name]
                    say(
                        f"{name} failed ({type(error).__name__}: {error}) and gets no "
                        f"more; the records have everything"
                    )

        yield log


def _csv(folder: Path, config: Mapping[str, Any], first: int, stack: ExitStack) -> Log:
    del config
    path = folder / "log.csv"
    kept = _until(first, path) if first else []
    with disk.whole(path) as anew:
        anew.write("".join(["step,name,value\r\n", *kept]).encode())
    file = stack.enter_context(path.open("a", newline=""))
    writer = csv.writer(file)

    def log(step: int, values: Mapping[str, float]) -> None:
        writer.writerows((step, name, value) for name, value in values.items())
        file.flush()

    return log


def _until(last: int, path: Path) -> list[str]:
    """Return the lines of a file of steps up to one; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        lines = [line for line in file if line.endswith("\n")]  # a kill may cut one
    steps = [line.partition(",")[0] for line in lines]
    return [
        line
        for line, step in zip(lines, steps, strict=True)
        if step.isdecimal() and int(step) <= last
    ]


def _tensorboard(
    folder: Path, config: Mapping[str, Any], first: int, stack: ExitStack
) -> Log:
    del config
    from tensorboardX import SummaryWriter

    again = first + 1 if first else 0  # TensorBoard hides what it has from there on
    events = SummaryWriter(str(folder / "events"), purge_step=again)
    writer = stack.enter_context(events)

    def log(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return log


def _wandb(
    folder: Path, config: Mapping[str, Any], first: int, stack: ExitStack
) -> Log:
    del first
    import wandb

    run = wandb.init(
        project=PROJECT, name=folder.name, dir=str(folder), config=dict(config)
    )
    stack.callback(run.finish)
    return lambda step, values: run.log(dict(values), step=step)


def _trackio(
    folder: Path, config: Mapping[str, Any], first: int, stack: ExitStack
) -> Log:
    del first
    import trackio

    trackio.init(project=PROJECT, name=folder.name, config=dict(config), resume="allow")
    stack.callback(trackio.finish)
    return lambda step, values: trackio.log(dict(values), step=step)


TRACKERS: dict[str, Opener] = {
    "csv": _csv,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}
"""Trackers by name: ``csv`` writes ``WORKDIR/log.csv``, ``tensorboard`` events."""
