"""The paper's protocol, which all of its experiments share.

Mueller et al. (2024): points at every epoch, the loss over all training data of a task,
similarity of gradients on 200 random batches, three seeds. Budgets: smoke shows that
everything runs, in minutes; small is for 2 CPU cores, one candidate instead of a sweep
and short training; paper has the paper's grid and length, for accelerators.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from mtl_jax.options import one_of

from ..sweeps import default as sweeps

BUDGETS = ("smoke", "small", "paper")
OPTIMIZERS = ("multi-mgda", "multi-pcgrad", "multi-gradnorm")
"""Those that the paper holds against the sum of losses."""


def study(
    base: Any, budget: str, variants: tuple[str, ...], *, epochs: float, spacing: float
) -> Any:
    """Make a study of a setting.

    Args:
      base: config of the setting.
      budget: one of `BUDGETS`.
      variants: of the study.
      epochs: of training, but for smoke: 2.
      spacing: epochs from point to point.
    """
    one_of("budget", budget, BUDGETS)
    base.variants = variants
    base.epochs = epochs
    base.trajectory.dense = 0
    base.trajectory.count = 0
    base.trajectory.epochs = spacing
    base.evaluate = ("train", "validation", "test")
    base.factors.names = (*base.factors.names, "distance_from_start", "logit_norm")
    made: Any = sweeps.get_config(base)
    made.grid.optimizers = ("sgd", "momentum", "adam")
    if budget == "paper":
        base.factors.names = (*base.factors.names, "top_eigenvalue")
        base.factors.gradient_similarity.batches = 200
        return made
    made.grid.options = ConfigDict()
    if budget == "smoke":
        base.epochs, base.trajectory.epochs = 2.0, 1.0
        base.probe_size = 256
        base.factors.gradient_similarity.batches = 4
        made.final.seeds = (1, 2)
    return made


def one_candidate(made: Any, optimizer: str, rate: float, batch_size: int) -> None:
    """Let a study train one candidate, without a sweep."""
    made.grid.optimizers = (optimizer,)
    made.grid.learning_rates = (rate,)
    made.grid.batch_sizes = (batch_size,)


def experiment(names: tuple[str, ...], studies: Mapping[str, Any]) -> ConfigDict:
    """Make the configuration of ``mtl-jax reproduce``.

    Args:
      names: figures and tables of the paper that the report begins with.
      studies: by their names.
    """
    config: Any = ConfigDict()
    config.data = ConfigDict({"dir": ""})  # of all studies; empty: each study's own
    config.experiments = names
    config.studies = ConfigDict(dict(studies))
    return config
