"""W1, W2 and W5 of the benchmark: training on images, ours beside torch's."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np

from mtl_jax import models
from mtl_jax.data import Dataset
from mtl_jax.devices import run_axis
from mtl_jax.training import variants
from mtl_jax.training.batches import IndexedPool
from mtl_jax.training.compile import TrainProgram, build, init_states, trace_chunk
from mtl_jax.training.setting import Setting, from_dataset
from mtl_jax.training.step import data_pool

from .. import config_files
from .ways import Say, Way

TASKS, BATCH, SMALL_BATCH, POOL = 3, 128, 32, 2_000
TASK_COUNTS = (3, 10, 40, 64)
METHODS = (
    *("mgda", "pcgrad", "gradvac", "cagrad", "imtl_g", "nash_mtl", "fairgrad"),
    *("aligned_mtl", "upgrad", "dualproj", "config"),
    *("gradnorm", "dbmtl", "moco", "excessmtl", "graddrop"),
)
OPTIONS = {"cagrad": {"c": 0.5}, "fairgrad": {"alpha": 2.0}, "gradvac": {"beta": 0.5}}
"""Values for all tools, where ours, LibMTL and TorchJD differ in their defaults."""
CHUNK = 20
W5_SEEDS, W5_RATES, W5_STEPS = (0, 1, 2), (1e-2, 3e-3, 1e-3, 3e-4), 200
W5_SLICE = 10
"""Steps of W5 that a round really runs; the rest is the same again."""


def w1(say: Say, peers: bool) -> Iterable[tuple[str, list[Way]]]:
    """Time a step on the summed loss with Adam."""
    del say
    ours, _ = _our_step(TASKS, ("multi",), (0,), (1e-3,), CHUNK)
    ways = [Way("mtl_jax", ours, CHUNK)]
    if peers:
        from . import training_peers

        batch = _batch(TASKS)
        ways += [
            _repeat(way, training_peers.w1_step(way, *batch), CHUNK)
            for way in training_peers.W1_WAYS
        ]
    yield "W1", ways


def w2(
    say: Say, peers: bool, methods: list[str], task_counts: list[int]
) -> Iterable[tuple[str, list[Way]]]:
    """Time a step by each of the multi-task optimizers, for numbers of tasks."""
    for tasks in task_counts:
        steps = max(2, CHUNK * TASKS // tasks)
        for method in methods:
            label = f"W2 {method} K={tasks}"
            ours, _ = _our_step(tasks, (f"multi-{method}",), (0,), (1e-3,), steps)
            ways = [Way("mtl_jax", ours, steps)]
            if peers:
                ways += _w2_peers(say, label, method, tasks, steps)
            yield label, ways


def _w2_peers(
    say: Say, label: str, method: str, tasks: int, steps: int
) -> Iterable[Way]:
    """Yield the peers' ways that have the method and survive its first step."""
    from . import gradient_peers

    batch = _batch(tasks)
    for name in gradient_peers.W2_WAYS:
        if lacks := gradient_peers.w2_missing(name, method):
            say(f"missing for {label}, {name}: {', '.join(lacks)}")
            continue
        step = gradient_peers.w2_step(name, method, *batch)
        try:
            step()
        except (ArithmeticError, RuntimeError, ValueError) as error:
            say(f"{label}, {name} fails: {' '.join(str(error).split())}")
            continue
        yield _repeat(name, step, steps)


def w5(say: Say, peers: bool) -> Iterable[tuple[str, list[Way]]]:
    """Time single-task and multi-task runs side by side, compilation included."""
    blocks = len(W5_SEEDS) * len(W5_RATES)
    ours, compiling = _our_step(
        TASKS, ("single", "multi"), W5_SEEDS, W5_RATES, W5_SLICE
    )
    say(f"W5: compiled in {compiling:.1f} s")
    share = compiling / (blocks * W5_STEPS)
    ways = [Way("mtl_jax", ours, blocks * W5_SLICE, share)]
    if peers:
        from . import training_peers

        data = _pool(TASKS)
        for way in training_peers.W5_WAYS:
            x = np.stack([data.x] * TASKS)
            y = np.stack([data.y] * TASKS)
            run = training_peers.w5_run(way, x, y, W5_SLICE, W5_SEEDS, W5_RATES)
            ways.append(Way(way, run, blocks * W5_SLICE))
    yield "W5", ways


def _batch_size(tasks: int) -> int:
    """Return examples a task: fewer of many tasks, so that rounds take seconds."""
    return BATCH if tasks <= 10 else SMALL_BATCH


def _pool(tasks: int) -> Dataset:
    """Return random images: times do not depend on what they show."""
    rng = np.random.default_rng(0)
    rows = tuple(np.arange(POOL, dtype=np.int32) for _ in range(tasks))
    return Dataset(
        tasks=tuple(f"task_{t}" for t in range(tasks)),
        x=rng.random((POOL, 28, 28, 1), np.float32),
        y=rng.integers(0, 10, POOL, dtype=np.int32),
        rows={"train": rows},
        objectives=("softmax",) * tasks,
        widths=(10,) * tasks,
        provenance={},
    )


def _our_step(
    tasks: int,
    names: tuple[str, ...],
    seeds: tuple[int, ...],
    rates: tuple[float, ...],
    steps: int,
) -> tuple[Callable[[], None], float]:
    """Return our training of variants, ``steps`` a call, and seconds to compile it."""
    setting, size = _setting(tasks), _batch_size(tasks)
    config: Any = config_files.default()
    config.seeds, config.learning_rates = seeds, rates
    for method, options in OPTIONS.items():
        config.smto[method].update(options)
    members = [
        variants.make(name, config, setting.tasks, [POOL] * tasks) for name in names
    ]
    rng = np.random.default_rng(1)
    shapes = [(len(v.seeds), steps, v.task_ids.shape[1], size) for v in members]
    rows = [rng.integers(0, POOL, shape).astype(np.int32) for shape in shapes]
    states = [init_states(setting, v) for v in members]
    stacks = [run_axis.make(len(v.seeds), jax.devices()) for v in members]
    began = time.perf_counter()
    split = run_axis.split(4, first="rows")
    parts = [
        IndexedPool(
            run_axis.replicate(runs, data_pool(setting)),
            run_axis.shard(runs, indices, split),
        )
        for runs, indices in zip(stacks, rows, strict=True)
    ]
    traces = [
        partial(trace_chunk, setting, *each)
        for each in zip(members, states, stacks, parts, strict=True)
    ]
    built = build(dict(enumerate(traces)))
    chunks = [
        TrainProgram(runs, *built[number], variant)
        for number, (runs, variant) in enumerate(zip(stacks, members, strict=True))
    ]
    seconds = time.perf_counter() - began

    states = [
        run_axis.shard(runs, state) for runs, state in zip(stacks, states, strict=True)
    ]

    def run() -> None:
        for i, part in enumerate(parts):
            states[i], _ = chunks[i](states[i], part, steps)
        jax.block_until_ready(states)

    return run, seconds


def _setting(tasks: int) -> Setting:
    trunk = models.make(
        "cnn", channels=(10, 20), kernel_size=5, padding="valid", hidden=50
    )
    return from_dataset("benchmark", _pool(tasks), trunk)


def _batch(tasks: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    size = _batch_size(tasks)
    x = rng.random((tasks, size, 28, 28, 1), np.float32)
    return x, rng.integers(0, 10, (tasks, size), dtype=np.int32)


def _repeat(name: str, step: Callable[[], Any], steps: int) -> Way:
    """Repeat a peer's step as often as ours is done in a call."""

    def run() -> None:
        for _ in range(steps):
            step()

    return Way(name, run, steps)
