"""Train targets of a training run by ForkMerge, beside what the run has trained.

  mtl-jax fork --workdir=runs/digits --targets=digits_0 --topk=0,1,2

Every target is trained in branches, alone and with the best of the other tasks, which
are merged every few epochs as far as they help it in validation. It joins the records
as the variant forkmerge:TARGET/all, and so tables and the report. Stopped or killed,
the same command goes on.
"""

from typing import Any

from absl import flags
from ml_collections import config_flags

from . import command_line, config_files, entry

CONFIG = command_line.define_fields("As in training.", config_files.default())
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a training run.")
TARGETS = flags.DEFINE_list("targets", [], "Tasks; all, one at a time, if unset.")
TOPK = flags.DEFINE_list(
    "topk", ["0", "3", "5"], "Numbers of auxiliary tasks, one a branch."
)
EPOCH_STEP = flags.DEFINE_float("epoch_step", 5.0, "Epochs from a merge to the next.")
RANKING_EPOCHS = flags.DEFINE_float(
    "ranking_epochs", 1.0, "Epochs after which auxiliary tasks are ranked."
)
command_line.require("workdir")


def fork() -> int:
    """Train targets of a workdir by ForkMerge, and print what comes of it."""
    from mtl_jax.report import terminal_table
    from mtl_jax.storage import records
    from mtl_jax.studies import fork as forkmerge

    console = entry.console(width=max(entry.console().width, 120))
    workdir = str(WORKDIR.value)
    topk: list[Any] = [int(k) if k.isdecimal() else k for k in TOPK.value]
    outcome = forkmerge.fork(
        workdir,
        TARGETS.value,
        topk=topk,
        epoch_step=EPOCH_STEP.value,
        ranking_epochs=RANKING_EPOCHS.value,
        changes=config_flags.get_override_values(flags.FLAGS["config"]),
        say=console.print,
    )
    if outcome.signal:
        console.print(
            f"stopped by signal {outcome.signal} at step {outcome.step}, all saved; "
            f"the same command goes on."
        )
        return 128 + outcome.signal
    console.print(terminal_table.table(records.read(workdir)))
    if outcome.seconds:
        console.print(terminal_table.costs(outcome.seconds))
        console.print(f"added to {workdir}/records/ (Parquet)")
    return 0


if __name__ == "__main__":
    entry.main(fork, str(__doc__))
