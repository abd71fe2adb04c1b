"""A variant's programs: training and evaluation over its runs, compiled."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import evaluate, stack
from mtl_jax.axis_map import AxisMap
from mtl_jax.evaluate import Rounds
from mtl_jax.settings import Setting
from mtl_jax.stack import Stack
from mtl_jax.train import Data, TrainState, init_state, train_chunk
from mtl_jax.types import Array, PyTree
from mtl_jax.variants import Variant


class Report(NamedTuple):
    """What the host reads of a chunk, apart from the state, which is donated."""

    losses: Array
    """Losses of the last step ``[R, T]``; NaN before the first."""
    lowest_loss: Array
    """``[R, T]``."""
    diverged: Array
    """``[R]``."""


class Programs(NamedTuple):
    """Compiled, each over all runs ``R`` of a variant."""

    spread: Callable[[TrainState], TrainState]
    """States ``[R, ...]`` to the devices, as the others take them."""
    collect: Callable[[PyTree], PyTree]
    """What the others return, to the host, leaves ``[R, ...]``."""
    chunk: Callable[[TrainState, np.ndarray, int], tuple[TrainState, Report]]
    """``(states, rows [R, S, T, B] or [R, S, B], count)``; the states are donated."""
    sums: Callable[[TrainState], PyTree]
    """What `evaluate.sums` returns, of every run."""


def init_states(setting: Setting, variant: Variant, run_map: AxisMap) -> TrainState:
    """Initial states of all runs, on the host, leaves ``[R, ...]``."""
    init = run_map(partial(init_state, setting, variant.method), (0, 0))
    return jax.device_get(jax.jit(init)(variant.seeds, variant.task_ids))


def report(states: TrainState) -> Report:
    """Report of states that no chunk has touched in this process."""
    losses = jnp.full_like(states.lowest_loss, jnp.nan)
    return Report(losses, jnp.copy(states.lowest_loss), jnp.copy(states.diverged))


def compile_all(
    setting: Setting,
    variants: list[Variant],
    states: list[TrainState],
    rounds: Rounds,
    run_map: AxisMap,
    rows_shapes: list[tuple[int, ...]],
) -> list[Programs]:
    """Compile the programs of all variants, several at a time.

    Args:
      setting: the setting; its data goes to the devices here.
      variants: of the experiment.
      states: of every variant, for their shapes.
      rounds: of the evaluation.
      run_map: how the runs of a device are mapped.
      rows_shapes: shape of the rows of a chunk, for every variant.
    """
    stacks = [stack.make(len(variant.seeds)) for variant in variants]
    examples: Any = setting.data.x, setting.data.y
    constants = {  # once a mesh: variants of as many runs share it
        mesh: stack.everywhere(runs, (Data(*examples), rounds.rows, rounds.mask))
        for mesh, runs in {runs.mesh: runs for runs in stacks}.items()
    }
    with ThreadPoolExecutor() as pool:
        return list(
            pool.map(
                partial(_compile, setting, run_map),
                variants,
                states,
                stacks,
                [constants[runs.mesh] for runs in stacks],
                rows_shapes,
            )
        )


def _compile(
    setting: Setting,
    run_map: AxisMap,
    variant: Variant,
    states: TrainState,
    runs: Stack,
    constants: tuple[Data, Array, Array],
    rows_shape: tuple[int, ...],
) -> Programs:
    spread = partial(stack.spread, runs)

    def chunk(states: TrainState, rows: Array, count: Array, rest: tuple) -> Any:
        one_chunk = partial(train_chunk, setting, variant.method)
        mapped = stack.over(runs, run_map, one_chunk, (0, 0, None, 0, 0, None))
        states, losses = mapped(states, rows, count, *rest)
        return states, Report(losses, states.lowest_loss, states.diverged)

    def sums(states: TrainState, task_ids: Array, constants: tuple) -> PyTree:
        one_sums = partial(evaluate.sums, setting, variant.method.task_map)
        mapped = stack.over(runs, run_map, one_sums, (0, None, None, 0, None))
        data, rows, mask = constants
        return mapped(states, rows, mask, task_ids, data)

    rates = variant.learning_rates.astype(np.float32)
    rates, task_ids = spread((rates, variant.task_ids))
    rest = (rates, task_ids, constants[0])
    rows = stack.shape(runs, rows_shape[1:], np.int32)
    count = stack.everywhere(runs, np.int32(0))
    states = spread(states)
    train = jax.jit(chunk, donate_argnums=0).lower(states, rows, count, rest).compile()
    look = jax.jit(sums).lower(states, task_ids, constants).compile()
    return Programs(
        spread=spread,
        collect=partial(stack.collect, runs),
        chunk=lambda states, rows, count: train(
            states, spread(rows), stack.everywhere(runs, np.int32(count)), rest
        ),
        sums=lambda states: look(states, task_ids, constants),
    )
