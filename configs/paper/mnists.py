"""Figure 4 on MNISTS: what specialized optimizers change against the sum of losses.

  mtl-jax reproduce --config=paper/mnists:small --config.data.dir=DATA --workdir=DIR

Where only one of a task's two files is there, it is divided.
"""

from ml_collections import ConfigDict

from .. import mnists
from . import protocol

VARIANTS = ("single", "multi", *protocol.OPTIMIZERS)


def get_config(budget: str = "small") -> ConfigDict:
    base = mnists.get_config()
    base.data.partial = True
    epochs = 100.0 if budget == "paper" else 8.0
    study = protocol.study(base, budget, VARIANTS, epochs=epochs, spacing=1.0)
    if budget != "paper":
        protocol.one_candidate(study, "adam", 1e-3, 128)
    return protocol.experiment(("figure_4", "table_1"), {"mnists": study})
