"""A variant's programs: training and evaluation over its runs, compiled."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.devices import memory, run_axis
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.devices.run_axis import Stack
from mtl_jax.smto import SmtoState
from mtl_jax.training import evaluate
from mtl_jax.training.batches import Feed, Part
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import TrainState, init_state, train_chunk
from mtl_jax.training.variants import Variant
from mtl_jax.types import Array, PyTree


class Report(NamedTuple):
    """What the host reads of a chunk, apart from the state, which is donated."""

    losses: Array
    """Losses of the last step ``[R, T]``; NaN before the first."""
    lowest_loss: Array
    """``[R, T]``."""
    diverged: Array
    """``[R]``."""
    smto: SmtoState
    """What the multi-task optimizers did at the last step, leaves ``[R, ...]``, without
    the methods' own states."""


class Program(NamedTuple):
    """A compiled program."""

    run: Callable[..., Any]
    temporaries: int
    """Bytes of its temporaries on a device."""


class Programs(NamedTuple):
    """Compiled, each over all runs ``R`` of a variant."""

    spread: Callable[[TrainState], TrainState]
    """States ``[R, ...]`` to the devices, as the others take them."""
    collect: Callable[[PyTree], PyTree]
    """What the others return, to the host, leaves ``[R, ...]``."""
    chunk: Callable[..., tuple[TrainState, Report]]
    """``(states, part, count, looked_at=True)``, of one of `Feed.chunks`, whose last
    step somebody looks at or nobody; the states are donated."""
    sums: Callable[[TrainState, Part], PyTree]
    """What `evaluate.sums` returns, of every run, for one of `Feed.pieces`."""


def init_states(setting: Setting, variant: Variant, run_map: AxisMap) -> TrainState:
    """Initial states of all runs, on the host, leaves ``[R, ...]``."""
    init = run_map(partial(init_state, setting, variant.method), (0, 0, None))
    found = jax.jit(init)(variant.seeds, variant.task_ids, setting.start)
    return jax.device_get(found)


def report(states: TrainState) -> Report:
    """Report of states that no chunk has touched in this process."""
    losses = jnp.full_like(states.lowest_loss, jnp.nan)
    return jax.tree.map(jnp.copy, _report(losses, states))


def _report(losses: Array, states: TrainState) -> Report:
    smto = states.smto._replace(method=())
    return Report(losses, states.lowest_loss, states.diverged, smto)


def compile_programs(
    setting: Setting,
    variants: list[Variant],
    states: list[TrainState],
    feed: Feed,
    run_map: AxisMap,
) -> list[Programs]:
    """Compile the programs of all variants, several at a time.

    Args:
      setting: the setting.
      variants: of the experiment.
      states: of every variant, for their shapes.
      feed: of the same variants.
      run_map: how the runs of a device are mapped.

    Raises:
      InputError: data, states and temporaries exceed the memory of a device.
    """
    kept = held(states, feed)
    memory.check(kept)  # before any of it goes there
    every = list(zip(variants, states, feed.stacks, strict=True))
    # What is evaluated does not depend on how it was trained: variants of as many runs
    # and tasks have one program.
    alike = {
        (runs, variant.task_ids.shape[1]): (variant, own, runs, like)
        for (variant, own, runs), like in zip(every, feed.piece_like, strict=True)
    }
    with ThreadPoolExecutor() as threads:
        looks = {
            key: threads.submit(_compile_look, setting, run_map, *one)
            for key, one in alike.items()
        }
        chunks = [
            threads.submit(compile_chunk, setting, run_map, *one, like)
            for one, like in zip(every, feed.chunk_like, strict=True)
        ]

    temporaries = [one.result().temporaries for one in (*looks.values(), *chunks)]
    memory.check({**kept, "temporaries": max(temporaries)})

    def programs(chunk: Any, variant: Variant, runs: Stack) -> Programs:
        look = looks[runs, variant.task_ids.shape[1]].result()
        return Programs(
            spread=partial(run_axis.shard, runs),
            collect=partial(run_axis.gather, runs),
            chunk=chunk.result().run,
            sums=partial(look.run, run_axis.shard(runs, variant.task_ids)),
        )

    return [
        programs(chunk, variant, runs)
        for chunk, (variant, _, runs) in zip(chunks, every, strict=True)
    ]


def held(states: list[TrainState], feed: Feed) -> dict[str, int]:
    """Bytes that lie on a device while programs run, by what they hold."""
    return {"data": feed.bytes, "states": sum(map(_bytes_each, states, feed.stacks))}


def compile_chunk(
    setting: Setting,
    run_map: AxisMap,
    variant: Variant,
    states: TrainState,
    runs: Stack,
    like: Part,
) -> Program:
    """`Programs.chunk` of a variant.

    Args:
      setting: the setting.
      run_map: how the runs of a device are mapped.
      variant: the variant.
      states: of its runs, for their shapes.
      runs: where they lie.
      like: the part of a chunk, or its shapes.
    """

    def chunk(states: TrainState, part: Part, last: tuple, rest: tuple) -> Any:
        one_chunk = partial(train_chunk, setting, variant.method)
        mapped = run_axis.map_runs(
            runs, run_map, one_chunk, (0, 0, None, 0, 0, None, None)
        )
        count, looked_at = last
        states, losses = mapped(states, part.rows, count, *rest, part.data, looked_at)
        return states, _report(losses, states)

    def last(count: int, looked_at: bool) -> tuple:
        return run_axis.replicate(runs, (np.int32(count), np.bool(looked_at)))

    spread = partial(run_axis.shard, runs)
    rates = variant.learning_rates.astype(np.float32)
    rest = spread((rates, variant.task_ids))
    donated = jax.jit(chunk, donate_argnums=0, out_shardings=run_axis.place(runs))
    train = donated.lower(spread(states), like, last(0, True), rest).compile()

    def run(states: TrainState, part: Part, count: int, looked_at: bool = True) -> Any:
        return train(states, part, last(count, looked_at), rest)

    return Program(run, memory.temporaries(train))


def _compile_look(
    setting: Setting,
    run_map: AxisMap,
    variant: Variant,
    states: TrainState,
    runs: Stack,
    like: Part,
) -> Program:
    """`Programs.sums` of all variants like this: ``(task_ids, states, part) -> sums``.

    Arguments as in `compile_chunk`.
    """

    def sums(models: tuple, task_ids: Array, part: Part) -> PyTree:
        one_sums = partial(evaluate.sums, setting, variant.method.task_map)
        mapped = run_axis.map_runs(runs, run_map, one_sums, (0, 0, None, None, 0, None))
        return mapped(*models, part.rows, part.mask, task_ids, part.data)

    spread = partial(run_axis.shard, runs)
    ids = spread(variant.task_ids)
    models = spread((states.params, states.model_state))
    look = jax.jit(sums).lower(models, ids, like).compile()

    def of_states(task_ids: Array, states: TrainState, part: Part) -> PyTree:
        return look((states.params, states.model_state), task_ids, part)

    return Program(of_states, memory.temporaries(look))


def _bytes_each(states: TrainState, runs: Stack) -> int:
    """Bytes of states on a device."""
    rows = runs.mesh.shape["rows"]
    return memory.size(states) * run_axis.padded(runs) // (runs.size * rows)
