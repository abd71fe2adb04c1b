"""The paper's experiment: sweep, selection, trajectories, factors, claims, one report.

  mtl-jax reproduce --config=reproduce:smoke --workdir=DIR
  mtl-jax reproduce --config=paper/fashion:small --config.data.dir=DATA --workdir=DIR

The second one is a figure or table of the paper (configs/paper); DIR/tables has its
numbers.

The word behind the colon is the budget: smoke (digits, minutes
on two CPU cores), small (three settings, hours) or paper (all, on accelerators).
Settings whose data are not there are left out and named. The same
command again goes on from where it was stopped, at any stage.
"""

from absl import flags

from . import command_line, engines, entry

CONFIG = command_line.define_config("reproduce")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all studies.")
command_line.require("config", "workdir")


def reproduce() -> int:
    """Run the studies of the flags, and write their report."""
    from pathlib import Path

    from mtl_jax import report
    from mtl_jax.studies import reproduce as studies

    console = entry.console()
    folder = Path(str(WORKDIR.value))
    signal, done = studies.run(CONFIG.value, folder, engines.chosen(), console.print)
    if signal:
        console.print(
            f"stopped by signal {signal}, all saved; the same command goes on."
        )
        return 128 + signal
    if done and "experiments" in CONFIG.value:
        from mtl_jax.report import paper

        page = paper.write(done, CONFIG.value.experiments, folder)
        console.print(f"report: {page}, tables: {folder / paper.TABLES}")
    elif done:
        console.print(f"report: {report.write(done, folder / 'report')}")
    return 0


if __name__ == "__main__":
    entry.main(reproduce, str(__doc__))
