"""Figures 5 and 6: a target task of CIFAR-100 with random sets of auxiliary tasks.

  mtl-jax reproduce --config=paper/auxiliary:small --config.data.dir=DATA --workdir=DIR

Of three targets up to ten sets each, of 1, 4, 9 and 19 auxiliary tasks: factors and
test score against the similarity of the target's gradient with the sum of all.
"""

from ml_collections import ConfigDict

from .. import cifar100
from . import protocol

TARGETS = ("flowers", "vehicles_2", "fish")
UNSEEN = ("conflict",)
"""Factors of all tasks of a set, in no figure here and dear: not of small budgets."""


def get_config(budget: str = "small") -> ConfigDict:
    base = cifar100.get_config()
    variants = tuple(f"single:{target}" for target in TARGETS)
    variants += tuple(f"multi:{target}/random" for target in TARGETS)
    epochs, spacing = (200.0, 1.0) if budget == "paper" else (20.0, 2.5)
    study = protocol.study(base, budget, variants, epochs=epochs, spacing=spacing)
    if budget != "paper":
        base.data.partial = True
        base.groups.sets = 2
        base.model.name = "cnn"
        base.factors.names = tuple(n for n in base.factors.names if n not in UNSEEN)
        protocol.one_candidate(study, "adam", 1e-3, 32)
    if budget == "smoke":
        base.groups.sizes = (1, 4)
        base.groups.sets = 1
    return protocol.experiment(("figures_5_6", "table_1"), {"auxiliary": study})
