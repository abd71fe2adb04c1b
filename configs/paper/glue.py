"""Table 1 and figure 2 on GLUE: eight tasks of language on RoBERTa-base.

  mtl-jax reproduce --config=paper/glue:paper --config.data.dir=DATA \\
      --config.studies.glue.base.model.weights=ROBERTA --workdir=DIR

Small budgets take the five small tasks, and an encoder of two layers from scratch with
a vocabulary of their own:

  mtl-jax vocabulary --data=DATA --out=VOCABULARY --size=8000
  mtl-jax reproduce --config=paper/glue:small --config.data.dir=DATA \\
      --config.studies.glue.base.data.vocabulary=VOCABULARY --workdir=DIR
"""

from ml_collections import ConfigDict

from .. import glue
from . import protocol


def get_config(budget: str = "small") -> ConfigDict:
    base = glue.get_config()
    epochs, spacing = (20.0, 1.0) if budget == "paper" else (0.5, 0.05)
    study = protocol.study(
        base, budget, ("single", "multi"), epochs=epochs, spacing=spacing
    )
    if budget != "paper":
        base.data.tasks = ("cola", "mrpc", "rte", "sst2", "stsb")
        base.data.length = 32
        base.model.roberta.width = 64
        base.model.roberta.layers = 2
        base.model.roberta.hidden = 256
        base.probe_size = 256
        protocol.one_candidate(study, "adam", 1e-3, 32)
    if budget == "smoke":
        base.epochs, base.trajectory.epochs = 0.02, 0.01
    return protocol.experiment(("table_1", "figure_2"), {"glue": study})
