"""A variant's programs: training and evaluation, over its runs and devices, compiled.

Runs are split evenly over the local devices and mapped within each. Where they do not
divide, the last one is repeated, and what the copies find is dropped.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mtl_jax import evaluate
from mtl_jax.axis_map import AxisMap
from mtl_jax.evaluate import Rounds
from mtl_jax.settings import Setting
from mtl_jax.train import Data, TrainState, init_state, train_chunk
from mtl_jax.types import Array, PyTree
from mtl_jax.variants import Variant

RUNS = P("runs")


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
      setting: the setting; its data goes to the devices here.
      variants: of the experiment.
      states: of every variant, for their shapes.
      rounds: of the evaluation.
      run_map: how the runs of a device are mapped.
      rows_shapes: shape of the rows of a chunk, for every variant.
    """
    meshes = [_mesh(len(variant.seeds)) for variant in variants]
    examples: Any = setting.data.x, setting.data.y
    constants = {  # once a mesh: variants of as many runs share it
        mesh: jax.device_put(
            (Data(*examples), rounds.rows, rounds.mask), NamedSharding(mesh, P())
        )
        for mesh in dict.fromkeys(meshes)
    }
    compile_one = partial(_compile, setting, run_map)
    with ThreadPoolExecutor() as pool:
        return list(
            pool.map(
                compile_one,
                variants,
                states,
                meshes,
                [constants[mesh] for mesh in meshes],
                rows_shapes,
            )
        )


def _mesh(runs: int) -> Mesh:
    """As many devices as have something to do, in one row."""
    devices = jax.local_devices()
    per_device = -(-runs // len(devices))
    used = devices[: -(-runs // per_device)]
    return jax.make_mesh(
        (len(used),), ("runs",), axis_types=(AxisType.Auto,), devices=used
    )


def _compile(
    setting: Setting,
    run_map: AxisMap,
    variant: Variant,
    states: TrainState,
    mesh: Mesh,
    constants: tuple[Data, Array, Array],
    rows_shape: tuple[int, ...],
) -> Programs:
    runs = len(variant.seeds)
    repeats = -runs % mesh.size
    sharding = NamedSharding(mesh, RUNS)

    def spread(tree: PyTree) -> PyTree:
        def pad(leaf: np.ndarray) -> np.ndarray:
            return np.concatenate([leaf, np.repeat(leaf[-1:], repeats, axis=0)])

        tree = jax.tree.map(pad, jax.device_get(tree)) if repeats else tree
        return jax.device_put(tree, sharding)

    def collect(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[:runs], jax.device_get(tree))

    def over_runs(f: Callable, in_axes: tuple) -> Callable:
        specs = tuple(P() if axis is None else RUNS for axis in in_axes)
        return jax.shard_map(
            run_map(f, in_axes), mesh=mesh, in_specs=specs, out_specs=RUNS,
            check_vma=False,
        )  # fmt: skip

    def chunk(states: TrainState, rows: Array, count: Array, rest: tuple) -> Any:
        one_chunk = partial(train_chunk, setting, variant.method)
        mapped = over_runs(one_chunk, (0, 0, None, 0, 0, None))
        states, losses = mapped(states, rows, count, *rest)
        return states, Report(losses, states.lowest_loss, states.diverged)

    def sums(states: TrainState, task_ids: Array, constants: tuple) -> PyTree:
        one_sums = partial(evaluate.sums, setting, variant.method.task_map)
        mapped = over_runs(one_sums, (0, None, None, 0, None))
        data, rows, mask = constants
        return mapped(states, rows, mask, task_ids, data)

    rates = variant.learning_rates.astype(np.float32)
    rates, task_ids = spread((rates, variant.task_ids))
    rest = (rates, task_ids, constants[0])
    padded = (runs + repeats, *rows_shape[1:])
    rows = jax.ShapeDtypeStruct(padded, jnp.int32, sharding=sharding)
    everywhere = NamedSharding(mesh, P())
    count = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    states = spread(states)
    train = jax.jit(chunk, donate_argnums=0).lower(states, rows, count, rest).compile()
    look = jax.jit(sums).lower(states, task_ids, constants).compile()
    return Programs(
        spread=spread,
        collect=collect,
        chunk=lambda states, rows, count: train(
            states, spread(rows), jax.device_put(np.int32(count), everywhere), rest
        ),
        sums=lambda states: look(states, task_ids, constants),
    )
