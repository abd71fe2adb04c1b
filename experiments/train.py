"""Train single-task and multi-task variants side by side.

  mtl-jax train --config=digits --workdir=runs/digits
  mtl-jax train --config=my_config.py --workdir=runs/mine

A config is the name of one that comes with the package, or a file: one whose get_config
changes fields of ``mtl_jax.configs.default.get_config()``. In a checkout the command is
``python -m experiments.train --config=configs/digits.py``, too. The command line sets
fields as --config.FIELD=VALUE, for example --config.seeds=0,1
--config.smto.name=pcgrad; below is every field. The same command again goes on from
where the workdir left off.

Runs are spread over all devices of the machine. Several machines (or processes) make
one job of theirs when each is given the same command with --distributed: under SLURM,
Open MPI or on TPUs JAX finds the others by itself. Elsewhere say where they meet:

  ... --coordinator=HOST:PORT --process_count=2 --process_id=0   (and 1 on the other)

The first process writes records, checkpoints and report; the workdir must be on a disk
that all of them see. A signal to one of them stops all at the same step. If one dies,
all end, and the same commands go on from the last checkpoint.
"""

from absl import flags

from . import command_line, entry

CONFIG = command_line.define_config("train")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of this run: records, checkpoints, config."
)
REPORT = flags.DEFINE_boolean("report", True, "Write the report at the end.")
DISTRIBUTED = flags.DEFINE_boolean("distributed", False, "Be one process of a job.")
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of the first process of a job, if JAX must be told."
)
PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "Processes of that job.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this one, from 0.")
command_line.require("config", "workdir")


def train() -> int:
    """Run the experiment of the flags, print its closing table, write its report."""
    job = COORDINATOR.value, PROCESS_COUNT.value, PROCESS_ID.value
    from mtl_jax.devices import multihost

    if DISTRIBUTED.value or any(value is not None for value in job):
        multihost.join(*job)  # before JAX looks for devices
    from mtl_jax.report import terminal_table
    from mtl_jax.report.text import throughput
    from mtl_jax.storage import records
    from mtl_jax.training.loop import run

    width = max(entry.console().width, 120)
    console = entry.console(width=width, quiet=not multihost.is_primary())
    workdir: str = WORKDIR.value  # type: ignore[assignment]
    outcome = run(CONFIG.value, workdir, say=console.print)
    start = entry.elapsed() - sum(outcome.seconds.values())
    if outcome.signal:
        console.print(
            f"stopped by signal {outcome.signal} at step {outcome.step}, all saved; "
            f"the same command goes on."
        )
        return 128 + outcome.signal
    if not multihost.is_primary():
        return 0
    console.print(terminal_table.table(records.read(workdir)))
    if outcome.throughput:
        console.print(throughput(outcome.throughput._asdict()))
    console.print(
        f"written to {workdir}: records/ (Parquet), checkpoints/ (Orbax), "
        f"config.json, run.json, splits.npz"
    )
    if REPORT.value:
        from mtl_jax import report

        console.print(f"report: {report.write(workdir)}")
    if outcome.seconds:
        spent = {"start": start, **outcome.seconds}
        rest = entry.elapsed() - sum(spent.values())
        console.print(terminal_table.costs({**spent, "table and report": rest}))
    return 0


if __name__ == "__main__":
    entry.main(train, str(__doc__))
