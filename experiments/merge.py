"""Merge the single-task runs of a training run, and evaluate what comes of it.

  mtl-jax merge --workdir=runs/digits --methods=average,ties,adamerging

Without --methods all are tried that fit the tasks. Merged models join the records as
variants merged-NAME, and so tables and the report. All steps are merged of which the
run has kept a checkpoint: train with --config.checkpoint.keep_points=True for a
trajectory.
"""

from absl import flags
from ml_collections import config_flags

from . import command_line, config_files, entry

CONFIG = command_line.define_fields("As in training.", config_files.default())
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a training run.")
METHODS = flags.DEFINE_list("methods", [], "Ways to merge; all if unset.")
STEPS = flags.DEFINE_integer("steps", 500, "Of methods that learn coefficients.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Examples of a task in each.")
UNLABELLED = flags.DEFINE_string(
    "unlabelled", "validation", "Split whose inputs are learned from: or test."
)
command_line.require("workdir")


def merge() -> None:
    """Merge the checkpoints of a workdir, and print what they are worth."""
    from mtl_jax.report import terminal_table
    from mtl_jax.storage import records
    from mtl_jax.studies import merge as merging

    console = entry.console(width=max(entry.console().width, 120))
    seconds = merging.merge(
        str(WORKDIR.value),
        METHODS.value,
        steps=STEPS.value,
        batch_size=BATCH_SIZE.value,
        unlabelled=UNLABELLED.value,
        changes=config_flags.get_override_values(flags.FLAGS["config"]),
        say=console.print,
    )
    console.print(terminal_table.table(records.read(str(WORKDIR.value))))
    console.print(terminal_table.costs(seconds))
    console.print(f"added to {WORKDIR.value}/records/ (Parquet)")


if __name__ == "__main__":
    entry.main(merge, str(__doc__))
