"""Turn the records of a workdir into TensorBoard events, one curve a run and task.

  mtl-jax tensorboard --workdir=runs/digits --logdir=runs/digits/events
  tensorboard --logdir=runs/digits/events

Needs the extra `tensorboard`. The records stay as they are. Values that are not finite,
such as those of runs that diverged, have no place in a curve and are left out.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from mtl_jax.storage import commands, records
from mtl_jax.types import InputError

from . import command_line, entry

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
LOGDIR = flags.DEFINE_string("logdir", None, "Folder for the events; must be new.")
command_line.require("workdir", "logdir")


def tensorboard() -> None:
    """Write ``split/task/name`` curves of every run over steps."""
    workdir, logdir = str(WORKDIR.value), Path(str(LOGDIR.value))
    commands.check_run(workdir)
    if find_spec("tensorboardX") is None:
        raise InputError("tensorboardX is missing: pip install 'mtl_jax[tensorboard]'.")
    df: Any = records.read(workdir)
    try:
        logdir.mkdir(parents=True)
    except FileExistsError as error:
        raise InputError(
            f"logdir {logdir} exists already; choose a new one."
        ) from error
    except OSError as error:
        raise InputError(
            f"logdir {logdir} cannot be made: {error.strerror}; choose another one."
        ) from error
    from tensorboardX import SummaryWriter

    finite = np.isfinite(df["value"])
    for (variant, run), rows in df[finite].groupby(["variant", "run"]):
        with SummaryWriter(str(logdir / f"{variant}-{run}")) as writer:
            for row in rows.itertuples():
                tag = f"{row.split}/{row.task}/{row.name}"
                writer.add_scalar(tag, row.value, row.step)
    if not finite.all():
        print(f"left out: {(~finite).sum()} of {len(df)} values, which are not finite")
    print(f"written to {logdir}")


if __name__ == "__main__":
    entry.main(tensorboard, str(__doc__))
