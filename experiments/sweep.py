"""Study one setting: sweep, choose by validation, train what was chosen, report.

  mtl-jax sweep --config=digits --workdir=studies/digits

Every variant tries the same learning rates and batch sizes (and the values of its
optimizer's options); learning rates and seeds are stacked in one program. Validation
chooses; the choice is trained over several seeds with all factors. The same command
again goes on from where it was stopped.
"""

from absl import flags

from . import command_line, engines, entry

CONFIG = command_line.define_config("sweep")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this study.")
REPORT = flags.DEFINE_boolean("report", True, "Write the report at the end.")
command_line.require("config", "workdir")


def sweep() -> int:
    """Run the study of the flags, and write its report."""
    from pathlib import Path

    from mtl_jax.studies import study

    console = entry.console()
    folder = Path(str(WORKDIR.value))
    signal = study.run(CONFIG.value, folder, engines.chosen(), say=console.print)
    if signal:
        console.print(
            f"stopped by signal {signal}, all saved; the same command goes on."
        )
        return 128 + signal
    selected = folder / study.SELECTED
    if REPORT.value and selected.exists():
        from mtl_jax import report

        console.print(f"report: {report.write(selected, folder / 'report')}")
    return 0


if __name__ == "__main__":
    entry.main(sweep, str(__doc__))
