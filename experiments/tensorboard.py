"""Turn the records of a workdir into TensorBoard events, one curve a run and task.

  python -m experiments.tensorboard --workdir=runs/digits --logdir=runs/digits/events
  tensorboard --logdir=runs/digits/events

Needs the extra `tensorboard`. The records stay as they are.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from absl import flags

from experiments import entry
from mtl_jax import records
from mtl_jax.types import InputError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
LOGDIR = flags.DEFINE_string("logdir", None, "Folder for the events; must be new.")


def export() -> None:
    """Write ``split/task/name`` curves of every run over steps."""
    if find_spec("tensorboardX") is None:
        raise InputError("tensorboardX is missing: pip install 'mtl_jax[tensorboard]'.")
    if not WORKDIR.value or not LOGDIR.value:
        raise InputError("--workdir and --logdir are both needed, see --help.")
    if Path(LOGDIR.value).exists():
        raise InputError(f"logdir {LOGDIR.value} exists already; choose a new one.")
    from tensorboardX import SummaryWriter

    df: Any = records.read(WORKDIR.value)
    for (variant, run), rows in df.groupby(["variant", "run"]):
        with SummaryWriter(str(Path(LOGDIR.value) / f"{variant}-{run}")) as writer:
            for row in rows.itertuples():
                tag = f"{row.split}/{row.task}/{row.name}"
                writer.add_scalar(tag, row.value, row.step)
    print(f"written to {LOGDIR.value}")


if __name__ == "__main__":
    entry.main(export, str(__doc__))
