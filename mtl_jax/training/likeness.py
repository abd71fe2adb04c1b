"""Likeness of the tasks of a workdir: their inputs, and what their trunks see in them.

Predictors of who helps whom that records do not hold; see `analysis.grouping`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from mtl_jax.analysis.grouping import covariance_similarity, overlap, tabulate
from mtl_jax.metrics import pairwise_cka
from mtl_jax.storage import checkpoint, commands, workdir
from mtl_jax.training.compile import blank_states
from mtl_jax.training.config import fields
from mtl_jax.training.resolve import PROBE, Experiment, resolve
from mtl_jax.types import Array, PyTree

EXAMPLES = 500
"""Inputs of a task whose covariance is taken."""
POOLED = 1_000
"""Inputs, of all tasks together, on which trunks are compared."""


def likeness(path: str | Path, say: Callable[[str], None] = print) -> pd.DataFrame:
    """Measure how alike the tasks of a workdir are, by data and by trained trunks.

    - ``covariance``: similarity of the covariances of 500 training inputs a task;
    - ``overlap``: share of a task's training inputs that the auxiliary has, too;
    - ``cka``: linear CKA between the trunks of single-task runs of a seed, at the last
      checkpoint, on 1,000 inputs of all tasks.

    Args:
      path: the workdir of a training run.
      say: told, in a sentence, what is not there, or means little.

    Returns:
      Rows as `grouping.tabulate` makes them.

    Raises:
      InputError: no training run is there, or its data is missing or another.
    """
    commands.check_run(path)
    with workdir.claim(path) as folder:
        config = workdir.config(folder, fields())
        made = resolve(config)
        workdir.check(folder, config, made.data, later=fields())
        tables = [*_of_inputs(made, say), *_of_trunks(made, folder, say)]
    return pd.concat(tables, ignore_index=True)


def _of_inputs(made: Experiment, say: Callable[[str], None]) -> list[pd.DataFrame]:
    data, tasks, name = made.setting.data, made.setting.tasks, made.setting.name
    if data.one_input:
        say("covariance, overlap: all tasks have the same inputs, which tells none.")
        return [tabulate(np.ones((len(tasks),) * 2), tasks, "overlap", name)]
    shares = overlap([data.x[rows] for rows in data.rows["train"]])
    tables = [tabulate(shares, tasks, "overlap", name)]
    if not (shares - np.eye(len(tasks))).any():
        say(
            "overlap: no two tasks share an input; affinity and cosines of gradients "
            "mean little."
        )
    if data.x.dtype != np.uint8 and not np.issubdtype(data.x.dtype, np.floating):
        say("covariance: inputs are tokens, whose numbers have no covariance.")
        return tables
    probes = [data.x[rows[:EXAMPLES]] for rows in made.splits[PROBE]]
    similar = covariance_similarity(probes)
    return [tabulate(similar, tasks, "covariance", name), *tables]


def _of_trunks(
    made: Experiment, folder: Path, say: Callable[[str], None]
) -> list[pd.DataFrame]:
    """Compare the trunks of single-task runs, seed by seed."""
    setting, count = made.setting, len(made.setting.tasks)
    sizes = [variant.task_ids.shape[1] for variant in made.variants]
    restored = _last_states(made, folder, say) if 1 in sizes else None
    if restored is None:
        say("cka: no checkpoint of single-task runs; train the variant single.")
        return []
    state, variant = restored[sizes.index(1)], made.variants[sizes.index(1)]
    trunks = state.model_state.trunk
    if not setting.data.one_input:
        trunks = jax.tree.map(lambda leaf: leaf[:, 0], trunks)
    x: Any = setting.data.x[_pool(made)]

    @jax.jit
    def compare(shared: PyTree, trunk: PyTree) -> Array:
        def features(run: tuple[PyTree, PyTree]) -> Array:
            leaves = jax.tree.leaves(setting.embed(*run, x))
            return jnp.concatenate([z.reshape(len(x), -1) for z in leaves], axis=1)

        return pairwise_cka(jax.lax.map(features, (shared, trunk)))

    tables = []
    for seed in dict.fromkeys(variant.seeds.tolist()):
        runs = np.flatnonzero((variant.seeds == seed) & (state.diverged < 0))
        order = runs[np.argsort(variant.task_ids[runs, 0])]
        if variant.task_ids[order, 0].tolist() != [*range(count)]:
            say(f"cka: seed {seed} has not one sound run of every task alone.")
            continue
        alike = compare(*_of_runs((state.params.shared, trunks), order))
        table = tabulate(np.asarray(alike), setting.tasks, "cka", setting.name, seed)
        tables.append(table)
    return tables


def _of_runs(trees: PyTree, runs: np.ndarray) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[runs], trees)


def _last_states(
    made: Experiment, folder: Path, say: Callable[[str], None]
) -> list[Any] | None:
    like = [blank_states(made.setting, variant) for variant in made.variants]
    with checkpoint.open_manager(folder, made.config.checkpoint.keep_last) as saved:
        steps = saved.all_steps()
        return checkpoint.read(saved, max(steps), like, say) if steps else None


def _pool(made: Experiment) -> np.ndarray:
    """Rows of inputs of all tasks, as many of each."""
    probes = made.splits[PROBE]
    each = max(4, POOLED // len(probes))
    return np.unique(np.concatenate([rows[:each] for rows in probes]))
