"""Compile an experiment for devices that need not be there, and say what it costs.

  mtl-jax compile --config=celeba --target=h200
  mtl-jax compile --config=cifar100 --target=v5e:2x2 --config.seeds=0,1,2,3

Every program (training of each variant, evaluation, factors) is compiled from shapes:
no device is needed, and no data where a setting's official data is known. Printed are
memory, arithmetic, bytes moved and rearranged, kernels, and the least time that each
needs; whether all fits; and what the whole experiment takes. Times are bounds from
below: nobody's kernels reach all of a device's arithmetic and bandwidth at once.

Targets: h200, h100 (pip install 'mtl_jax[gpu-compile]'), v5e, v5p, v6e
('mtl_jax[tpu-compile]'), several as h200:8 or v5e:2x2, and cpu, of which no time is
known.
"""

import json
from pathlib import Path

from absl import flags

from . import command_line, entry

CONFIG = command_line.define_config("compile")
TARGET = flags.DEFINE_string("target", None, "Devices, such as v5e:2x2, h200 or cpu.")
PLAIN = flags.DEFINE_boolean("plain", False, "Beside it a plain step of one run.")
JSON = flags.DEFINE_string("json", None, "File for the same as JSON.")
command_line.require("config", "target")


def compile() -> None:
    """Compile the experiment of the flags, and print its costs."""
    import jax

    from mtl_jax.devices import target
    from mtl_jax.report import preview_table
    from mtl_jax.training import ahead
    from mtl_jax.types import InputError

    jax.config.update("jax_platforms", "cpu")  # compilers need no device
    jax.config.update("jax_enable_compilation_cache", False)  # not of these devices
    path = Path(JSON.value).absolute() if JSON.value else None
    if path and not path.parent.is_dir():
        raise InputError(f"--json is {path}, and there is no folder {path.parent}")
    console = entry.console(width=max(entry.console().width, 140))
    made = ahead.experiment(CONFIG.value, target.make(str(TARGET.value)))
    preview = ahead.preview(
        made,
        lambda cost, done, of: console.print(
            f"compiled {done} of {of}: {cost.name} ({cost.compilation:.0f} s)"
        ),
        plain=PLAIN.value,
    )
    console.print(preview_table.table(preview))
    for line in preview_table.words(preview):
        console.print(line)
    if path:
        path.write_text(json.dumps(preview_table.as_json(preview), indent=1) + "\n")


if __name__ == "__main__":
    entry.main(compile, str(__doc__))
