"""Tell which tasks should train together, and how well that can be predicted.

  mtl-jax train --config=digits --config.variants=single,multi,multi:pairs \\
      --config.factors.names=affinity,conflict --workdir=runs/pairs
  mtl-jax group --workdir=runs/pairs --budget=2

The first table ranks: how well does the order in which a predictor puts the company of
a task agree with the transfer that was measured, and what does the predictor cost? The
second has the best groups by every predictor for so many models, and their measured
transfer where these groups were trained. What the records lack is said, a line each.
Nothing is trained.
"""

from absl import flags

from . import command_line, entry

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a training run.")
BUDGET = flags.DEFINE_integer("budget", 2, "Models, at most.", lower_bound=1)
BY = flags.DEFINE_list("by", [], "Predictors, such as hoa,tag; all if unset.")
command_line.require("workdir")


def group() -> None:
    """Print the tables of the flags."""
    from mtl_jax.analysis import select
    from mtl_jax.analysis.grouping import PREDICTORS
    from mtl_jax.options import some_of
    from mtl_jax.report import grouping
    from mtl_jax.storage import commands, records
    from mtl_jax.training.likeness import likeness
    from mtl_jax.types import InputError

    console = entry.console(width=max(entry.console().width, 140))
    path = str(WORKDIR.value)
    commands.check_run(path)
    chosen = some_of("predictor", BY.value or (), [*PREDICTORS, *grouping.DATA])
    df = select(records.read(path))
    data = None
    if not chosen or set(chosen) & set(grouping.DATA):
        try:
            data = likeness(path, console.print)
        except InputError as error:  # the records say enough without
            console.print(f"{', '.join(grouping.DATA)}: {error}")
    for part in grouping.told(df, data, BUDGET.value, chosen):
        console.print(part)


if __name__ == "__main__":
    entry.main(group, str(__doc__))
