"""Branches of a run: trainings of one target from common parameters, side by side.

A run is of a target, a seed and a learning rate. Its branches differ in the auxiliary
tasks that train with the target, and in their weights; all branches of all runs are one
stack, hence one program. Their models have leaves ``[R B, ...]`` there, ``[R, B, ...]``
where they are compared.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import jax
import numpy as np

from mtl_jax.devices import run_axis
from mtl_jax.devices.run_axis import Stack
from mtl_jax.training import evaluate
from mtl_jax.training.batches import IndexedPool, Loader
from mtl_jax.training.compile import (
    Trace,
    TrainProgram,
    build,
    program_traces,
    state_shapes,
)
from mtl_jax.training.groups import SINGLE
from mtl_jax.training.loop import evaluation_of, loader_of
from mtl_jax.training.resolve import Experiment, another_variant
from mtl_jax.training.step import TrainState
from mtl_jax.training.variants import Variant
from mtl_jax.types import GROUP, JOIN, ModelState, Params

Model = tuple[Params, ModelState]
"""Parameters and model state."""
Chunk = Callable[[TrainState], TrainState]
"""Some steps of training, on the devices; the states are donated."""


def runs_of(made: Experiment, targets: Sequence[str]) -> Variant:
    """Return the runs: every target alone, for every seed and learning rate."""
    return another_variant(made, f"{SINGLE}{GROUP}{JOIN.join(targets)}")


def branched(
    made: Experiment, runs: Variant, tasks: np.ndarray, weights: np.ndarray
) -> Variant:
    """Return the branches of runs as one stack.

    Args:
      made: the experiment.
      runs: as `runs_of` makes them.
      tasks: of every run and branch, the target first, ``[R, B, T]``.
      weights: of their losses ``[B, T]``.
    """
    (count, branches, size), text = tasks.shape, "/".join(["1"] * tasks.shape[2])
    group = JOIN.join(made.setting.tasks[:size])
    stack = another_variant(made, f"multi-fixed@weights={text}{GROUP}{group}")
    return stack._replace(
        name="branches",
        task_ids=tasks.reshape(-1, size).astype(np.int32),
        seeds=runs.seeds.repeat(branches),
        learning_rates=runs.learning_rates.repeat(branches),
        labels=tuple(label for label in runs.labels for _ in range(branches)),
        options={"weights": np.tile(weights, (count, 1)).astype(np.float32)},
    )


@dataclass(frozen=True)
class Trainer:
    """Training of a stack of branches."""

    loader: Loader
    program: TrainProgram

    @property
    def stack(self) -> Stack:
        """Return where the branches lie on the devices."""
        return self.loader.stacks[0]

    def shard(self, states: TrainState) -> TrainState:
        """Put states ``[R B, ...]`` on the devices."""
        return run_axis.shard(self.stack, states)

    def gather(self, states: TrainState) -> TrainState:
        """Bring states to the host."""
        return run_axis.gather(self.stack, states)

    def chunks(self, bounds: Sequence[int]) -> Iterator[tuple[int, Chunk]]:
        """Yield the training from a bound to the next: its last step, and itself."""
        spans = list(pairwise(bounds))
        pools = self.loader.train_chunks(spans)
        for (begin, end), (pool,) in zip(spans, pools, strict=True):
            yield end, partial(self._train, pool, end - begin)

    def _train(self, pool: IndexedPool, count: int, states: TrainState) -> TrainState:
        return self.program(states, pool, count, looked_at=False)[0]


def trainer(made: Experiment, variant: Variant) -> Trainer:
    """Compile the training of a stack."""
    loader, traces = traced(made, variant)
    key = "training", 0
    built = build({key: traces[key]})[key]
    return Trainer(loader, TrainProgram(loader.stacks[0], *built, variant))


def traced(made: Experiment, variant: Variant) -> tuple[Loader, dict[tuple, Trace]]:
    """Return the loader of one variant, and its programs before compilation."""
    batches = evaluate.labelled(evaluation_of(made), made.setting)
    loader = loader_of(replace(made, variants=[variant]), batches)
    shapes = [state_shapes(made.setting, variant)]
    return loader, program_traces(made.setting, [variant], shapes, loader)


def models(states: TrainState, runs: int) -> Model:
    """Return the models of branches on the host, leaves ``[R, B, ...]``.

    Args:
      states: of all branches ``[R B, ...]``.
      runs: ``R``.
    """
    stacked = states.params, states.model_state
    return jax.tree.map(lambda x: x.reshape(runs, -1, *x.shape[1:]), stacked)


def forked(states: TrainState, merged: Model) -> TrainState:
    """Let all branches go on from the model of their run.

    Each keeps the state of its optimizer.

    Args:
      states: of all branches ``[R B, ...]``.
      merged: models of the runs, leaves ``[R, ...]``.
    """
    branches = len(states.step) // len(jax.tree.leaves(merged)[0])
    repeated = jax.tree.map(lambda leaf: np.repeat(leaf, branches, axis=0), merged)
    params, model_state = repeated
    return states._replace(params=params, model_state=model_state)
