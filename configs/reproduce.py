"""The paper's experiment on every setting whose data are there, at three budgets.

  mtl-jax reproduce --config=reproduce:smoke --workdir=DIR
  mtl-jax reproduce --config=reproduce:small --config.data.dir=DATA --workdir=DIR

smoke: digits, minutes on 2 CPU cores. small: digits, Fashion MTL and MNISTS with a
coarse grid, Adam only and short training, an hour or two on 2 CPU cores. paper: the
paper's grid with its three optimizers, every setting as its config has it, and more
multi-task optimizers; for accelerators.

Fields of a study stand under its name:
--config.studies.mnists.base.data.partial=True (see configs/sweeps/default.py).
"""

from typing import Any

from ml_collections import ConfigDict

from mtl_jax.options import one_of

from .sweeps import (
    celeba,
    cifar100,
    cityscapes,
    digits,
    fashion_mtl,
    glue,
    mnists,
)

SMALL = {"digits": digits, "fashion_mtl": fashion_mtl, "mnists": mnists}
LARGE = {
    "cifar100": cifar100,
    "celeba": celeba,
    "cityscapes": cityscapes,
    "glue": glue,
}
FEW = ("single", "multi", "multi-pcgrad", "multi-cagrad")
MANY = (*FEW, "multi-uw", "multi-mgda", "multi-imtl", "multi-nash_mtl", "multi-famo")
MANY = (*MANY, "multi-fairgrad", "multi-aligned_mtl", "multi-upgrad", "multi-graddrop")


def get_config(budget: str = "small") -> ConfigDict:
    budgets = {
        "smoke": (_smoke, {"digits": digits}),
        "small": (_small, SMALL),
        "paper": (_paper, {**SMALL, **LARGE}),
    }
    change, studies = budgets[one_of("budget", budget, budgets)]
    config: Any = ConfigDict()
    config.data = ConfigDict({"dir": ""})  # of all studies; empty: each study's own
    config.studies = ConfigDict()
    for name, module in studies.items():
        study: Any = module.get_config()
        change(study)
        config.studies[name] = study
    return config


def _smoke(study: Any) -> None:
    study.base.variants = FEW
    study.base.steps = 200
    study.grid.optimizers = ("adam",)
    study.grid.learning_rates = (1e-2, 1e-3, 1e-4)
    study.grid.batch_sizes = (16, 64)
    study.grid.options.cagrad.c = (0.2, 0.8)


def _small(study: Any) -> None:
    study.base.variants = (*FEW, "multi-uw")
    study.base.steps = 1_000
    study.base.trajectory.dense = 2  # a CPU spends most of its time on looking
    study.base.trajectory.count = 14
    study.grid.optimizers = ("adam",)
    study.grid.learning_rates = (1e-2, 5e-3, 1e-3, 5e-4)
    study.grid.batch_sizes = (16, 64)
    study.grid.options.cagrad.c = (0.2, 0.8)


def _paper(study: Any) -> None:
    study.base.variants = MANY
    study.base.trajectory.count = 40
    study.grid.optimizers = ("sgd", "momentum", "adam")
