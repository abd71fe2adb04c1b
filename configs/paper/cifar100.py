"""Table 1 and figures 2 and 4 on CIFAR-100: the 20 superclasses together.

  mtl-jax reproduce --config=paper/cifar100:small --config.data.dir=DATA --workdir=DIR

Small budgets take what is there of the data, and a small CNN for the ResNet-18.
"""

from ml_collections import ConfigDict

from .. import cifar100
from . import protocol


def get_config(budget: str = "small") -> ConfigDict:
    base = cifar100.get_config()
    variants = ("single", "multi", *(protocol.OPTIMIZERS if budget == "paper" else ()))
    epochs, spacing = (200.0, 1.0) if budget == "paper" else (60.0, 3.0)
    study = protocol.study(base, budget, variants, epochs=epochs, spacing=spacing)
    if budget == "paper":
        base.stop_loss = 1e-6
    else:
        base.data.partial = True
        base.model.name = "cnn"
        protocol.one_candidate(study, "adam", 1e-3, 32)
    names = ("table_1", "figure_2", *(["figure_4"] if budget == "paper" else []))
    return protocol.experiment(names, {"cifar100": study})
