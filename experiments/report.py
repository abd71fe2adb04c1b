"""Write the report of a training run, finished or not: one page, and its figures.

  mtl-jax report --workdir=runs/digits
  mtl-jax report --workdir=runs/digits,runs/mnists --out=runs/report

Of one workdir the page is WORKDIR/report/index.html. Several make one page with a
section each. It opens from disk; nothing is trained or measured. With --figures=pdf
(or svg, png) every figure is written beside it, for a paper. With --watch=10 it is
written again every 10 seconds as long as the run goes on, and an open page follows.
"""

import contextlib

from absl import flags

from . import command_line, entry

WORKDIR = flags.DEFINE_list("workdir", None, "Folders of runs, separated by commas.")
OUT = flags.DEFINE_string("out", None, "Folder of the report; WORKDIR/report if unset.")
WATCH = flags.DEFINE_float(
    "watch", None, "Write it again while a run goes on, every so many seconds."
)
FIGURES = flags.DEFINE_list("figures", [], "Formats of figures: svg, png, pdf.")
command_line.require("workdir")


def report() -> None:
    """Write the report of the flags, and say where it is."""
    from mtl_jax import report
    from mtl_jax.types import InputError

    workdirs = [path for path in WORKDIR.value or () if path]
    if not workdirs:
        raise InputError("--workdir is needed, see --help.")
    if WATCH.value is not None:
        if not 1 <= WATCH.value < 86_400:
            raise InputError(
                f"--watch is {WATCH.value:g} seconds; choose at least 1, at most a day."
            )
        if FIGURES.value:
            raise InputError("--figures is for a report that stays; leave out --watch.")
        with contextlib.suppress(KeyboardInterrupt):
            report.watch(workdirs, OUT.value, seconds=WATCH.value)
        return
    print(f"written to {report.write(workdirs, OUT.value, FIGURES.value)}")


if __name__ == "__main__":
    entry.main(report, str(__doc__))
