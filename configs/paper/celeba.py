"""Table 1 and figure 2 on CelebA: 40 attributes of one image, scored by F1.

  mtl-jax reproduce --config=paper/celeba:paper --config.data.dir=DATA --workdir=DIR

Small budgets take four attributes and a small CNN on 32x32 pixels.
"""

from ml_collections import ConfigDict

from .. import celeba
from . import protocol

FEW = ("Blurry", "Eyeglasses", "Double_Chin", "Gray_Hair")
"""Those that the paper's table has."""


def get_config(budget: str = "small") -> ConfigDict:
    base = celeba.get_config()
    epochs = 40.0 if budget == "paper" else 4.0
    study = protocol.study(
        base, budget, ("single", "multi"), epochs=epochs, spacing=1.0
    )
    if budget == "paper":
        base.stop_loss = 1e-4
    else:
        base.data.attributes = FEW
        base.data.size = 32
        base.model.name = "cnn"
        protocol.one_candidate(study, "adam", 1e-3, 128)
    return protocol.experiment(("table_1", "figure_2"), {"celeba": study})
