"""Compiled programs of a variant: training and evaluation over its runs."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.devices import flops, memory, run_axis
from mtl_jax.devices.axis_map import in_place
from mtl_jax.devices.run_axis import Stack
from mtl_jax.smto import SmtoState
from mtl_jax.training import evaluate
from mtl_jax.training.batches import IndexedPool, Loader
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import TrainState, init_state, told, train_chunk
from mtl_jax.training.variants import Variant
from mtl_jax.types import Array, PyTree


class ChunkReport(NamedTuple):
    """Arrays of a chunk for the host, apart from the state, which is donated."""

    losses: Array
    """Losses of the last step ``[R, T]``; NaN before the first."""
    lowest_loss: Array
    """``[R, T]``."""
    diverged: Array
    """``[R]``."""
    smto: SmtoState
    """Weights, norms and residuals of the last step, leaves ``[R, ...]``, without the
    methods' own states."""


@dataclass(frozen=True)
class TrainProgram:
    """A compiled chunk of training of all runs ``R`` of a variant."""

    runs: Stack
    compiled: Any
    flops: int
    """Operations of products, in a step of all runs of a device."""
    variant: Variant

    def __call__(
        self, states: TrainState, pool: IndexedPool, count: int, looked_at: bool = True
    ) -> tuple[TrainState, ChunkReport]:
        """Make ``count`` steps; the states are donated.

        Args:
          states: of all runs.
          pool: one of `Loader.train_chunks`.
          count: of steps.
          looked_at: whether somebody looks at the last one.
        """
        last = run_axis.replicate(self.runs, (np.int32(count), np.bool(looked_at)))
        return self.compiled(states, pool, last, self._rest)

    @property
    def task_ids(self) -> Array:
        """Tasks of the runs, on the devices."""
        return self._rest[1]

    @cached_property
    def _rest(self) -> tuple[Array, Array, dict[str, Array]]:
        return run_axis.shard(self.runs, self.variant.inputs)


@dataclass(frozen=True)
class EvalProgram:
    """A compiled evaluation of variants of as many runs and tasks."""

    compiled: Any

    def __call__(
        self, states: TrainState, task_ids: Array, pool: IndexedPool
    ) -> PyTree:
        """Return what `evaluate.sums` returns, of every run."""
        return self.compiled((states.params, states.model_state), task_ids, pool)


@dataclass(frozen=True)
class Programs:
    """The compiled programs of a variant, over all its runs ``R``."""

    train_program: TrainProgram
    eval_program: EvalProgram

    def shard(self, states: TrainState) -> TrainState:
        """Put states ``[R, ...]`` on the devices, as the programs take them."""
        return run_axis.shard(self.train_program.runs, states)

    def gather(self, tree: PyTree) -> PyTree:
        """Bring what the programs return to the host, leaves ``[R, ...]``."""
        return run_axis.gather(self.train_program.runs, tree)

    def train(
        self, states: TrainState, pool: IndexedPool, count: int, looked_at: bool = True
    ) -> tuple[TrainState, ChunkReport]:
        """Make steps of training; see `TrainProgram`."""
        return self.train_program(states, pool, count, looked_at)

    def evaluate(
        self, states: TrainState, pool: IndexedPool, shares: np.ndarray | None = None
    ) -> PyTree:
        """Return `evaluate.sums` of every run, for one of `Loader.eval_chunks`.

        Args:
          states: of all runs, on the devices.
          pool: the part.
          shares: preference ``[T]`` that the models are told, if there is one.
        """
        runs = self.train_program.runs
        place = partial(run_axis.replicate, runs, spec=run_axis.ROWS)
        states = told(states, shares, place)
        return self.eval_program(states, self.train_program.task_ids, pool)


def init_states(setting: Setting, variant: Variant) -> TrainState:
    """Draw initial states of all runs, on the host, leaves ``[R, ...]``."""
    init = jax.jit(_init(setting, variant))
    return jax.device_get(init(*_seeds(setting, variant)))


def state_shapes(setting: Setting, variant: Variant) -> TrainState:
    """Return shapes of what `init_states` draws."""
    return jax.eval_shape(_init(setting, variant), *_seeds(setting, variant))


def blank_states(setting: Setting, variant: Variant) -> TrainState:
    """Return zeros instead of what `init_states` draws, and compile nothing."""
    shapes = state_shapes(setting, variant)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def _init(setting: Setting, variant: Variant) -> Callable:
    def of_run(seed: Array, task_ids: Array, options: dict, start: PyTree) -> Any:
        return init_state(setting, variant.rule(options), seed, task_ids, start)

    return variant.run_map(of_run, (0, 0, 0, None))


def _seeds(setting: Setting, variant: Variant) -> tuple:
    """Return the arguments of `_init`."""
    _, task_ids, options = variant.inputs
    return variant.seeds, task_ids, options, setting.start


def report(states: TrainState) -> ChunkReport:
    """Report states that no chunk has touched in this process."""
    losses = jnp.full_like(states.lowest_loss, jnp.nan)
    return jax.tree.map(jnp.copy, _report(losses, states))


def _report(losses: Array, states: TrainState) -> ChunkReport:
    smto = states.smto._replace(method=())
    return ChunkReport(losses, states.lowest_loss, states.diverged, smto)


Trace = Callable[[], Any]
"""Traces a program for its shapes; what it returns has ``lower().compile()``."""


class Built(NamedTuple):
    """A compiled program."""

    compiled: Any
    flops: int
    """Operations of its products on a device, as `flops.count` of a program that
    nobody looks at."""


def build(traces: Mapping[Any, Trace]) -> dict[Any, Built]:
    """Compile programs, several at a time, by their keys."""

    def compile_one(trace: Trace) -> Built:
        traced = trace()
        return Built(traced.lower().compile(), flops.count(traced.jaxpr, min))

    with ThreadPoolExecutor() as threads:
        return dict(zip(traces, threads.map(compile_one, traces.values()), strict=True))


def program_traces(
    setting: Setting,
    variants: list[Variant],
    states: list[TrainState],
    loader: Loader,
) -> dict[tuple, Trace]:
    """Return what is to be compiled for training and evaluation.

    Args:
      setting: the setting.
      variants: of the experiment.
      states: of every variant, or their shapes.
      loader: of the same variants.

    Returns:
      Of the training of a variant by ``("training", place)``, of an evaluation by
      `evaluation_key`.
    """
    evaluations = {
        evaluation_key(variant, runs): partial(
            _trace_evaluation, setting, variant, state, runs, like
        )
        for variant, state, runs, like in zip(
            variants, states, loader.stacks, loader.eval_like, strict=True
        )
    }
    chunks = {
        ("training", place): partial(trace_chunk, setting, *of_variant)
        for place, of_variant in enumerate(
            zip(variants, states, loader.stacks, loader.train_like, strict=True)
        )
    }
    return {**evaluations, **chunks}


def evaluation_key(variant: Variant, runs: Stack) -> tuple:
    """Return the key of an evaluation: it does not depend on how a run was trained.

    Variants of as many runs and tasks have one program.
    """
    return "evaluation", runs, variant.task_ids.shape[1]


def compile_programs(
    setting: Setting,
    variants: list[Variant],
    states: list[TrainState],
    loader: Loader,
) -> list[Programs]:
    """Compile the programs of all variants, several at a time.

    Args:
      setting: as in `program_traces`.
      variants: as in `program_traces`.
      states: as in `program_traces`.
      loader: as in `program_traces`.

    Raises:
      InputError: data, states and temporaries exceed the memory of a device.
    """
    kept = held(states, loader)
    memory.check(kept)  # before any of it goes there
    built = build(program_traces(setting, variants, states, loader))
    temporaries = max(memory.temporaries(each.compiled) for each in built.values())
    memory.check({**kept, "temporaries": temporaries})
    return [
        Programs(
            TrainProgram(runs, *built["training", place], variant),
            EvalProgram(built[evaluation_key(variant, runs)].compiled),
        )
        for place, (variant, runs) in enumerate(
            zip(variants, loader.stacks, strict=True)
        )
    ]


def held(states: list[TrainState], loader: Loader) -> dict[str, int]:
    """Return bytes that lie on a device while programs run, by what they hold."""
    size = sum(map(_bytes_each, states, loader.stacks))
    return {"data": loader.bytes, "states": size}


def trace_chunk(
    setting: Setting,
    variant: Variant,
    states: TrainState,
    runs: Stack,
    like: IndexedPool,
) -> Any:
    """Trace the training of a variant.

    Args:
      setting: the setting.
      variant: the variant.
      states: of its runs, or their shapes.
      runs: where they lie.
      like: one of `Loader.train_chunks`, or its shapes.
    """

    platform = runs.mesh.devices.flat[0].platform

    def chunk(states: TrainState, pool: IndexedPool, last: tuple, rest: tuple) -> Any:
        def of_run(state, rows, count, rate, tasks, options, *rest) -> Any:
            method = variant.rule(options)
            return train_chunk(setting, method, state, rows, count, rate, tasks, *rest)

        axes = (0, 0, None, 0, 0, 0, None, None)
        # On a CPU memory is no limit, and a run alone has the bits of one in a stack.
        run_map = in_place(variant.run_map) if platform != "cpu" else variant.run_map
        mapped = run_axis.map_runs(runs, run_map, of_run, axes)
        count, looked_at = last
        states, losses = mapped(states, pool.rows, count, *rest, pool.data, looked_at)
        return states, _report(losses, states)

    donated = jax.jit(chunk, donate_argnums=0, out_shardings=run_axis.place(runs))
    return donated.trace(
        run_axis.sharded_like(runs, states),
        like,
        run_axis.like(runs, (np.int32(0), np.bool(True))),
        run_axis.sharded_like(runs, variant.inputs),
    )


def _trace_evaluation(
    setting: Setting,
    variant: Variant,
    states: TrainState,
    runs: Stack,
    like: IndexedPool,
) -> Any:
    """Trace the evaluation of all variants like this; see `trace_chunk`."""

    def sums(models: tuple, task_ids: Array, pool: IndexedPool) -> PyTree:
        of_run = partial(evaluate.sums, setting, variant.method.task_map)
        mapped = run_axis.map_runs(
            runs, variant.run_map, of_run, (0, 0, None, None, 0, None)
        )
        return mapped(*models, pool.rows, pool.mask, task_ids, pool.data)

    models = states.params, states.model_state
    return jax.jit(sums).trace(
        *run_axis.sharded_like(runs, (models, variant.task_ids)), like
    )


def _bytes_each(states: TrainState, runs: Stack) -> int:
    """Bytes of states on a device."""
    rows = runs.mesh.shape["rows"]
    return memory.size(states) * run_axis.padded(runs) // (runs.size * rows)
