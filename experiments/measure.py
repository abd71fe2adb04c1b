"""Measure factors afterwards, over the checkpoints that a training run has kept.

  python -m experiments.measure --workdir=runs/digits --config.factors.names=hessian

Without --config.factors.* the factors that the run's configuration names are measured.
Numbers are those that training would have found. Train with
--config.checkpoint.keep_points=True to keep the checkpoints of all trajectory points.
"""

from absl import flags
from ml_collections import config_flags
from rich.console import Console

from configs import default
from experiments import entry

CONFIG = config_flags.DEFINE_config_dict("config", default.get_config())
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a training run.")
flags.mark_flags_as_required(["workdir"])


def measure() -> None:
    """Measure the checkpoints of a workdir, and say what it cost."""
    from mtl_jax import replay, summary

    console = Console(markup=False, highlight=False, soft_wrap=True)
    changes = config_flags.get_override_values(flags.FLAGS["config"])
    seconds = replay.run(str(WORKDIR.value), changes, say=console.print)
    console.print(summary.costs(seconds))
    console.print(f"added to {WORKDIR.value}/records/ (Parquet)")


if __name__ == "__main__":
    entry.main(measure, str(__doc__), CONFIG)
