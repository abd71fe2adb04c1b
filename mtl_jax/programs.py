"""A variant's programs: training and evaluation, mapped over its runs and compiled."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import evaluate
from mtl_jax.axis_map import AxisMap
from mtl_jax.evaluate import Rounds
from mtl_jax.settings import Setting
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

    chunk: Callable[[TrainState, np.ndarray, int], tuple[TrainState, Report]]
    """``(states, rows [R, S, T, B] or [R, S, B], count)``; the states are donated."""
    sums: Callable[[TrainState], PyTree]
    """What `evaluate.sums` returns, with a leading ``R``."""


def init_states(setting: Setting, variant: Variant, run_map: AxisMap) -> TrainState:
    """Initial states of all runs, leaves ``[R, ...]``."""
    init = run_map(partial(init_state, setting, variant.method), (0, 0))
    return jax.jit(init)(variant.seeds, variant.task_ids)


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
      setting: the setting; its data goes to the device here.
      variants: of the experiment.
      states: of every variant, for their shapes.
      rounds: of the evaluation.
      run_map: how runs are mapped.
      rows_shapes: shape of the rows of a chunk, for every variant.
    """
    data = Data(*jax.device_put((setting.data.x, setting.data.y)))
    tables = jax.device_put((rounds.rows, rounds.mask))
    with ThreadPoolExecutor() as pool:
        compiled = [
            pool.submit(_compile, setting, variant, state, data, tables, run_map, shape)
            for variant, state, shape in zip(variants, states, rows_shapes, strict=True)
        ]
        return [future.result() for future in compiled]


def _compile(
    setting: Setting,
    variant: Variant,
    states: TrainState,
    data: Data,
    tables: tuple[Array, Array],
    run_map: AxisMap,
    rows_shape: tuple[int, ...],
) -> Programs:
    rates = variant.learning_rates.astype(np.float32)
    rates, task_ids = jax.device_put((rates, variant.task_ids))
    one_chunk = partial(train_chunk, setting, variant.method)
    one_sums = partial(evaluate.sums, setting, variant.method.task_map)

    def chunk(states: TrainState, rows: Array, count: Array, rest: Any):
        mapped = run_map(one_chunk, (0, 0, None, 0, 0, None))
        states, losses = mapped(states, rows, count, *rest)
        return states, Report(losses, states.lowest_loss, states.diverged)

    def sums(states: TrainState, tables: Any, task_ids: Array, data: Data) -> PyTree:
        mapped = run_map(one_sums, (0, None, None, 0, None))
        return mapped(states, *tables, task_ids, data)

    rest = (rates, task_ids, data)
    rows = jax.ShapeDtypeStruct(rows_shape, jnp.int32)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    train = jax.jit(chunk, donate_argnums=0).lower(states, rows, count, rest).compile()
    look = jax.jit(sums).lower(states, tables, task_ids, data).compile()
    return Programs(
        chunk=lambda states, rows, count: train(
            states, *jax.device_put((rows, np.int32(count))), rest
        ),
        sums=lambda states: look(states, tables, task_ids, data),
    )
