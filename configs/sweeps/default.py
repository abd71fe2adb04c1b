"""Fields of a study of one setting, with their defaults: the paper's protocol.

A sweep over learning rates, batch sizes and optimizers, the choice by validation, and
the training of what was chosen over several seeds, with everything measured. ``base``
is the config of the experiment, with all its fields (--config.base.steps=500); its
learning rates, batch size, optimizer, seeds and evaluated splits are the study's.
"""

from typing import Any

from ml_collections import ConfigDict

from mtl_jax.studies import search

# Values that are tried, around those that the methods' papers use.
OPTIONS: dict[str, dict[str, tuple]] = {
    "rlw": {"distribution": ("normal", "uniform")},
    "dwa": {"temperature": (1.0, 2.0, 5.0)},
    "stch": {"mu": (0.1, 1.0, 10.0)},
    "tchebycheff": {"mu": (0.01, 0.1, 1.0)},
    "cosmos": {"penalty": (0.1, 1.0, 8.0)},
    "pbi": {"theta": (1.0, 5.0)},
    "auto_lambda": {"learning_rate": (1e-4, 1e-3)},
    "pcd": {"tau": (0.02, 0.1, 0.5)},
    "gradnorm": {"alpha": (0.5, 1.5, 3.0)},
    "dbmtl": {"beta": (0.1, 0.5, 0.9)},
    "mgda": {"normaliser": ("none", "l2", "loss+")},
    "gradvac": {"beta": (0.01, 0.1)},
    "cagrad": {"c": (0.2, 0.4, 0.8)},
    "fairgrad": {"alpha": (1.0, 2.0, 5.0)},
    "sdmgrad": {"penalty": (0.1, 0.3, 1.0)},
    "moco": {"beta": (0.1, 0.5, 0.9)},
    "graddrop": {"leak": (0.0, 0.5)},
    "famo": {"learning_rate": (0.001, 0.025)},
    "excessmtl": {"step": (0.1, 1.0)},
    "fmtl": {"rho": (0.001, 0.05)},
    "samo": {"rho": (0.001, 0.05)},
    "cr_mogm": {"alpha": (0.5, 0.9)},
}


def get_config(base: ConfigDict) -> ConfigDict:
    config: Any = ConfigDict()
    config.base = base

    # The sweep. Assumption: the exponents of the paper's learning rates are damaged;
    # this is how we read them. All candidates train for base.steps.
    config.grid = ConfigDict()
    config.grid.learning_rates = (
        *(1e-1, 5e-2, 1e-2, 5e-3, 1e-3, 5e-4, 1e-4, 5e-5, 1e-5),
    )
    config.grid.batch_sizes = (4, 16, 32, 64, 128, 256)
    # One of them is chosen for all variants. The paper's are sgd, momentum and adam, of
    # which sgd was best nowhere; their options are those of base.optimizer.
    config.grid.optimizers = ("momentum", "adam")
    config.grid.seeds = (0,)
    config.grid.points = 10  # log-spaced steps at which validation is looked at
    # Values of options of multi-task optimizers. A candidate tries one combination, so
    # every variant has as many candidates as any other: grid.options.NAME.OPTION.
    config.grid.options = ConfigDict(OPTIONS)

    # Where the grid is too large, Optuna (extra optuna) draws candidates between its
    # ends: so many for every variant and optimizer; 0: the whole grid.
    config.search = ConfigDict(search.DEFAULTS)
    # config.search.at_once: drawn together, which an engine may train side by side
    # config.search.sampler: tpe | random
    # config.search.pruner: none | median | hyperband; ends trials that fall behind

    # The choice by validation. model: a multi-task run once for all its tasks, a
    # single-task run for its task. task: for every task the multi-task run that is best
    # for it, which trains up to as many multi-task models as there are tasks.
    config.select = ConfigDict()
    config.select.over = "task"
    config.select.by = ""  # a score, or loss; empty: the only score, otherwise the loss

    # What was chosen is trained anew, on seeds that the choice has not seen.
    config.final = ConfigDict()
    config.final.seeds = (1, 2, 3)
    return config
