"""The paper's experiment: sweep, selection, trajectories, factors, claims, one report.

  python -m experiments.reproduce --config=configs/reproduce.py:smoke --workdir=DIR

The word behind the colon is the budget: smoke, small or paper; configs/reproduce.py
says what each means. Settings whose data are not there are left out and named. The same
command again goes on from where it was stopped, at any stage.
"""

from absl import flags
from ml_collections import config_flags
from rich.console import Console

from experiments import engines, entry

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/reproduce.py:BUDGET.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all studies.")
flags.mark_flags_as_required(["config", "workdir"])


def reproduce() -> int:
    """Run the studies of the flags, and write their report."""
    from pathlib import Path

    from mtl_jax import report
    from mtl_jax import reproduce as studies

    console = Console(markup=False, highlight=False, soft_wrap=True)
    folder = Path(str(WORKDIR.value))
    signal, done = studies.run(CONFIG.value, folder, engines.chosen(), console.print)
    if signal:
        console.print(
            f"stopped by signal {signal}, all saved; the same command goes on."
        )
        return 128 + signal
    if done:
        console.print(f"report: {report.write(done, folder / 'report')}")
    return 0


if __name__ == "__main__":
    entry.main(reproduce, str(__doc__), CONFIG)
