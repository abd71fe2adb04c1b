"""A workbench for models that no training has led to: their parts, and their worth.

It holds the single-task and multi-task models of an experiment, seed by seed, merges
them, and evaluates what comes of it by the program of all other variants.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import merging
from mtl_jax.devices import run_axis
from mtl_jax.devices.run_axis import Stack
from mtl_jax.studies import connections
from mtl_jax.studies.connections import Solution
from mtl_jax.studies.mergers import FISHER_EXAMPLES, MERGERS, Merged, Problem, Rows
from mtl_jax.studies.statistics import BATCHES, averaged, refreshed
from mtl_jax.training import evaluate, probes
from mtl_jax.training.batches import Loader, make_loader
from mtl_jax.training.compile import (
    build,
    evaluation_key,
    init_states,
    program_traces,
    state_shapes,
)
from mtl_jax.training.evaluate import EvalBatches
from mtl_jax.training.groups import SINGLE
from mtl_jax.training.loop import evaluation_of
from mtl_jax.training.resolve import PROBE, Experiment, another_variant
from mtl_jax.training.step import Data, TrainState, data_pool
from mtl_jax.training.variants import Variant
from mtl_jax.types import ONE_INPUT, Batch, InputError, ModelState, Params, PyTree

MULTI = "multi"
EXAMPLES = 512
"""Examples of the probe that barriers are measured on."""


class Solutions(NamedTuple):
    """Models of all tasks of every seed, leaves ``[S, T, ...]``."""

    params: Params
    states: ModelState


@dataclass(frozen=True, eq=False)
class Bench:
    """Programs and data, the same at all steps."""

    made: Experiment
    variant: Variant
    """A run of all tasks for every seed, as merged models are evaluated."""
    starts: TrainState
    """Its states before the first step."""
    loader: Loader
    batches: EvalBatches
    program: Any
    """Evaluation of such runs."""
    singles: tuple[int, np.ndarray]
    """Number of the variant of single-task runs, and of the run of every seed and task
    ``[S, T]``."""
    multi: tuple[int, np.ndarray] | None
    """The same of multi-task runs ``[S]``, if there are any."""
    data: Data
    rows: Rows
    probe: Batch

    @property
    def runs(self) -> Stack:
        """Return where runs lie on the devices."""
        return self.loader.stacks[0]

    @property
    def one_input(self) -> bool:
        """Tell whether tasks label one input."""
        return self.made.setting.batch_axes == ONE_INPUT

    def of_single(self, states: list[TrainState]) -> Solutions:
        """Return the single-task models, from the states of all variants."""
        number, index = self.singles
        state = states[number]

        def head(leaf: np.ndarray) -> np.ndarray:
            return leaf[index][:, :, 0]

        def trunk(leaf: np.ndarray) -> np.ndarray:
            return leaf[index]

        of_trunk = trunk if self.one_input else head
        return Solutions(
            Params(
                jax.tree.map(trunk, state.params.shared),
                jax.tree.map(head, state.params.heads),
            ),
            ModelState(
                jax.tree.map(of_trunk, state.model_state.trunk),
                jax.tree.map(head, state.model_state.heads),
            ),
        )

    def of_multi(self, states: list[TrainState]) -> Solutions | None:
        """Return the multi-task models of the same seeds, a copy for every task."""
        if self.multi is None:
            return None
        number, index = self.multi
        state = jax.tree.map(lambda leaf: leaf[index], states[number])
        return self.per_task(state.params, state.model_state)

    def per_task(self, params: Params, states: ModelState) -> Solutions:
        """Return runs of all tasks as models of a task each ``[S, T, ...]``."""
        count = len(self.made.setting.tasks)

        def repeated(leaf: Any) -> Any:
            return jnp.repeat(jnp.asarray(leaf)[:, None], count, axis=1)

        trunk = jax.tree.map(repeated, states.trunk) if self.one_input else states.trunk
        return Solutions(
            Params(jax.tree.map(repeated, params.shared), params.heads),
            ModelState(trunk, states.heads),
        )

    def merge(
        self, name: str, singles: Solutions, scale: float = 1.0
    ) -> tuple[Merged, ModelState]:
        """Merge the single-task models of all seeds, leaves ``[S, ...]``."""
        keys = jax.vmap(jax.random.key)(self.variant.seeds)
        return self._merging(name)(
            self.starts.params.shared, singles, keys, jnp.float32(scale),
            self.data, self.rows,
        )  # fmt: skip

    @cache  # noqa: B019 - a bench lives as long as the process
    def _merging(self, name: str) -> Callable[..., Any]:
        setting, view_map = self.made.setting, self.made.view_map

        @jax.jit
        def of_all(start, singles, keys, scale, data, rows) -> Any:
            def of_seed(start: PyTree, singles: Solutions, key: Any) -> Any:
                problem = Problem(start, *singles, data, rows, key)
                merged = MERGERS[name].merge(setting, problem, scale)
                fresh = partial(refreshed, setting, merged.params.shared)
                trunk: Any = singles.states.trunk
                if self.one_input:
                    trunk = fresh(averaged(trunk), data, rows.statistics[0])
                else:
                    pairs = trunk, rows.statistics
                    trunk = jax.lax.map(
                        lambda pair: fresh(pair[0], data, pair[1]), pairs
                    )
                return merged, ModelState(trunk, singles.states.heads)

            return view_map(of_seed, (0, 0, 0))(start, singles, keys)

        return of_all

    def vectors(self, singles: Solutions, together: Solutions | None) -> Any:
        """Return lengths ``[S, T]`` of task vectors, the cosines between them
        ``[S, T, T]``, and those with the way of multi ``[S, T]``, where there is one.
        """
        trunks = singles.params.shared
        multi = trunks if together is None else together.params.shared
        starts = self.starts.params.shared
        return jax.device_get(self._vectors(starts, trunks, multi))

    @cached_property
    def _vectors(self) -> Callable[..., Any]:
        def of_seed(start: PyTree, trunks: PyTree, multi: PyTree) -> tuple:
            vectors = merging.task_vectors(start, trunks)
            whole = jax.tree.map(lambda leaf, first: leaf[0] - first, multi, start)
            cosines = merging.cosines(vectors), merging.cosines_to(vectors, whole)
            return merging.lengths(vectors), *cosines

        return jax.jit(jax.vmap(of_seed))

    def evaluate(self, params: Params, states: ModelState) -> PyTree:
        """Return `evaluate.sums` of runs of all tasks, on the host."""
        models = run_axis.shard(self.runs, jax.device_get((params, states)))
        task_ids = run_axis.shard(self.runs, self.variant.task_ids)
        parts = [
            run_axis.gather(self.runs, self.program(models, task_ids, pools[0]))
            for pools in self.loader.eval_chunks()
        ]
        return evaluate.join(parts, self.batches)

    def barriers(self, first: Solutions, second: Solutions) -> np.ndarray:
        """Return the barriers of all seeds and tasks ``[S, T]``, nats."""
        return np.asarray(
            self._connecting(first, second, self.data, self.probe, self.rows)
        )

    @cached_property
    def _connecting(self) -> Callable[..., Any]:
        setting, view_map = self.made.setting, self.made.view_map

        @jax.jit
        def of_all(first, second, data, probe, rows) -> Any:
            def of_seed(first: Solutions, second: Solutions) -> Any:
                ends = Solution(*first), Solution(*second)
                return connections.barriers(
                    setting, *ends, data, probe, rows.statistics
                )

            return view_map(of_seed, (0, 0))(first, second)

        return of_all


def make_bench(
    made: Experiment, rates: dict[tuple[str, str], float], steps: int, size: int,
    unlabelled: str,
) -> Bench:  # fmt: skip
    """Make the bench of an experiment.

    Args:
      made: the experiment.
      rates: learning rate of every variant and task whose models are taken.
      steps: of methods that learn.
      size: examples of a task in each of them.
      unlabelled: split that they look at without labels.

    Raises:
      InputError: no seed has single-task runs of all tasks.
    """
    setting = made.setting
    tasks = range(len(setting.tasks))
    runs = {
        (label.variant, int(seed), int(ids[0]), float(rate)): (number, run)
        for number, variant in enumerate(made.variants)
        for run, (label, seed, ids, rate) in enumerate(
            zip(
                variant.labels, variant.seeds, variant.task_ids,
                variant.learning_rates, strict=True,
            )
        )
    }  # fmt: skip

    def of(variant: str, seed: int, task: int) -> tuple[int, int] | None:
        rate = rates.get((variant, setting.tasks[task]))
        first = task if variant == SINGLE else 0
        return runs.get((variant, seed, first, rate)) if rate else None

    seeds = [s for s in made.config.seeds if all(of(SINGLE, s, t) for t in tasks)]
    if not seeds:
        raise InputError(
            f"no seed has single-task runs of all of {', '.join(setting.tasks)}; train "
            f"--config.variants=single."
        )
    singles = np.array([[of(SINGLE, seed, task) for task in tasks] for seed in seeds])
    together = [of(MULTI, seed, 0) for seed in seeds]
    multi = np.array(together) if all(together) else None
    rate = rates[SINGLE, setting.tasks[0]]
    variant = another_variant(made, MULTI, seeds=tuple(seeds), learning_rates=(rate,))
    batches = evaluate.labelled(evaluation_of(made), setting)
    train, devices = made.splits["train"], made.target.devices
    loader = make_loader(
        setting, [variant], train, made.config.batch_size, 1, batches, devices
    )
    shapes = [state_shapes(setting, variant)]
    traces = program_traces(setting, [variant], shapes, loader)
    key = evaluation_key(variant, loader.stacks[0])
    seed = made.config.data.seed
    probe = probes.probe_batch(setting, made.splits[PROBE], seed)
    return Bench(
        made=made,
        variant=variant,
        starts=init_states(setting, variant),
        loader=loader,
        batches=batches,
        program=build({key: traces[key]})[key].compiled,
        singles=(int(singles[0, 0, 0]), singles[:, :, 1]),
        multi=None if multi is None else (int(multi[0, 0]), multi[:, 1]),
        data=jax.device_put(data_pool(setting)),
        rows=_rows(made, steps, size, unlabelled),
        probe=_cut(probe, setting.batch_axes == ONE_INPUT),
    )


def _rows(made: Experiment, steps: int, size: int, unlabelled: str) -> Rows:
    """Draw the rows that methods look at; a function of the data's seed."""
    config, is_shared = made.config, made.setting.batch_axes == ONE_INPUT
    rng = np.random.default_rng(
        np.random.SeedSequence(config.data.seed, spawn_key=(2,))
    )

    def drawn(split: str, count: int, size: int) -> np.ndarray:  # [count, T, size]
        parts = made.splits[split][:1] if is_shared else made.splits[split]
        rows = np.stack([rng.choice(part, (count, size)) for part in parts], axis=1)
        return (rows[:, 0] if is_shared else rows).astype(np.int32)

    def per_task(
        rows: np.ndarray,
    ) -> np.ndarray:  # [count, T, size] to [T, count, size]
        count = len(made.setting.tasks)
        return np.stack([rows] * count) if is_shared else rows.swapaxes(0, 1)

    key = jax.random.key(config.data.seed)
    return Rows(
        unlabelled=jnp.asarray(drawn(unlabelled, steps, size)),
        labelled=jnp.asarray(drawn("validation", steps, size)),
        fisher=jnp.asarray(per_task(drawn("train", 1, FISHER_EXAMPLES))[:, 0]),
        visits=merging.visits(key, len(made.setting.tasks), steps),
        statistics=jnp.asarray(per_task(drawn("train", BATCHES, config.batch_size))),
    )


def _cut(probe: Batch, one_input: bool) -> Batch:
    x = probe.x[:EXAMPLES] if one_input else probe.x[:, :EXAMPLES]
    return Batch(x, jax.tree.map(lambda leaf: leaf[:, :EXAMPLES], probe.y))
