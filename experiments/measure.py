"""Measure factors afterwards, over the checkpoints that a training run has kept.

  mtl-jax measure --workdir=runs/digits --config.factors.names=hessian

Without --config.factors.* the factors that the run's configuration names are measured.
Numbers are those that training would have found. Train with
--config.checkpoint.keep_points=True to keep the checkpoints of all trajectory points.
"""

from absl import flags
from ml_collections import config_flags

from . import command_line, config_files, entry

CONFIG = command_line.define_fields("As in training.", config_files.default())
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a training run.")
command_line.require("workdir")


def measure() -> None:
    """Measure the checkpoints of a workdir, and say what it cost."""
    from mtl_jax.report import terminal_table
    from mtl_jax.training.remeasure import remeasure

    console = entry.console()
    changes = config_flags.get_override_values(flags.FLAGS["config"])
    seconds = remeasure(str(WORKDIR.value), changes, say=console.print)
    console.print(terminal_table.costs(seconds))
    console.print(f"added to {WORKDIR.value}/records/ (Parquet)")


if __name__ == "__main__":
    entry.main(measure, str(__doc__))
