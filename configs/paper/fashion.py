"""Figures 1 and 3: a task with one auxiliary task that helps, and one that harms.

  mtl-jax reproduce --config=paper/fashion:small --config.data.dir=DATA --workdir=DIR

Test score and factors of fashion_1 against its training loss, alone and with one other
task, under momentum and under Adam. Until the loss is 1e-4 with the budget paper.
"""

from ml_collections import ConfigDict

from .. import fashion_mtl
from . import protocol

RATES = {"momentum": 1e-2, "adam": 1e-3}
"""Rates of small budgets, chosen by validation after 15 epochs."""
VARIANTS = ("single:fashion_1", "multi:fashion_1/each")


def get_config(budget: str = "small") -> ConfigDict:
    studies = {}
    for optimizer, rate in RATES.items():
        base = fashion_mtl.get_config()
        epochs = 300.0 if budget == "paper" else 24.0
        study = protocol.study(base, budget, VARIANTS, epochs=epochs, spacing=1.0)
        if budget == "paper":
            study.grid.optimizers = (optimizer,)
            base.stop_loss = 1e-4
        else:
            protocol.one_candidate(study, optimizer, rate, 128)
        studies[optimizer] = study
    return protocol.experiment(("figure_1", "figure_3", "table_1"), studies)
