"""Measure training steps against what users would otherwise run, interleaved.

  mtl-jax benchmark --workloads=W1,W2,W3,W4,W5,solvers --rounds=7
  mtl-jax benchmark --workloads=W2 --methods=mgda,upgrad --tasks=3,10,40

W1: a step of 3 tasks with own 28x28 batches of 128, LeNet, summed loss, Adam.
W2: W1 with per-task gradients and a multi-task optimizer, for every one of `--methods`
    and 3 tasks, or as many as `--tasks` says; more than 10 have batches of 32.
W3: the Gramian of 40 binary tasks' trunk gradients on one 64x64x3 batch of 64, ResNet
    of widths 16-32-64-128 with a stem of stride 2; time and memory of temporaries.
W4: factors of one W1 task on 2,048 examples: (a) one-step sharpness in batches of 128,
    (b) 20 Hessian-vector products, (c) Fisher trace, (d) cosines of 16 batch gradients
    and m-coherence; the values found are printed beside those of the peers.
W5: 3 seeds x 4 learning rates x (3 single-task runs + 1 multi-task run) of W1, 200
    steps, compilation included, per block (all four runs of one seed and rate).
W6: a step of AdamW of a RoBERTa encoder on 8 tasks of GLUE's kinds, 8 sequences of 64
    tokens each (4 layers of 256; on a GPU RoBERTa-base, 16 of 128): the summed loss,
    and the gradients of all tasks by both paths; peers need `transformers`.
solvers: the solvers of mgda, cagrad, nash_mtl, fairgrad, upgrad and dualproj alone, on
    Gramians of 3, 10, 40 and 64 tasks: time and residual (see `solver_workloads`);
    `--methods` and `--tasks` choose among them.

Peers come with the extra `bench`; those not installed are named as missing. Machines
drift, so only ratios within one table mean something. Times are per step, in ms.
"""

import platform
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from mtl_jax import models
from mtl_jax.data import Dataset
from mtl_jax.devices import axis_map, run_axis
from mtl_jax.options import some_of
from mtl_jax.training import variants
from mtl_jax.training.batches import Part
from mtl_jax.training.compile import compile_chunk, init_states
from mtl_jax.training.setting import Setting, from_dataset
from mtl_jax.training.step import data_pool
from mtl_jax.types import InputError

from . import (
    config_files,
    entry,
    factor_workloads,
    language_workloads,
    solver_workloads,
)
from .ways import HEADER, Way
from .ways import rows as ways_rows

TASKS, BATCH, SMALL_BATCH, POOL = 3, 128, 32, 2_000
TASK_COUNTS = (3, 10, 40, 64)
METHODS = (
    *("mgda", "pcgrad", "gradvac", "cagrad", "imtl_g", "nash_mtl", "fairgrad"),
    *("aligned_mtl", "upgrad", "dualproj", "config"),
    *("gradnorm", "dbmtl", "moco", "excessmtl", "graddrop"),
)
OPTIONS = {"cagrad": {"c": 0.5}, "fairgrad": {"alpha": 2.0}, "gradvac": {"beta": 0.5}}
"""Where ours, LibMTL and TorchJD have other defaults, one value for all."""
CHUNK = 20
W5_SEEDS, W5_RATES, W5_STEPS = (0, 1, 2), (1e-2, 3e-3, 1e-3, 3e-4), 200
W5_SLICE = 10
"""Steps of W5 that a round really runs; the rest is the same again."""

WORKLOADS = flags.DEFINE_list(
    "workloads", ["W1", "W2", "W3", "W4", "W5"], "Which to run."
)
METHODS_FLAG = flags.DEFINE_list("methods", list(METHODS), "Of W2 and solvers.")
TASKS_FLAG = flags.DEFINE_list(
    "tasks", None, "Numbers of tasks of W2 and solvers, of 3,10,40,64."
)
ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds; every way runs once in each.")
MARKDOWN = flags.DEFINE_string("markdown", None, "File to write the tables to.")

Say = Callable[[str], None]
Rows = list[tuple[str, ...]]


def benchmark() -> int:
    """Run the chosen workloads and print their tables."""
    # W5 counts compilation, which must not come out of a cache.
    jax.config.update("jax_enable_compilation_cache", False)
    some_of("--workloads", WORKLOADS.value, MAKERS)
    some_of("--methods", METHODS_FLAG.value, METHODS)
    some_of("--tasks", TASKS_FLAG.value or (), map(str, TASK_COUNTS))
    if ROUNDS.value < 1:
        raise InputError(f"rounds is {ROUNDS.value}; run at least 1.")
    _check_writable(MARKDOWN.value)
    console = Console(emoji=False)
    tables: dict[tuple[str, ...], Rows] = {}
    for workload in WORKLOADS.value:
        header, rows = MAKERS[workload](console.print)
        tables.setdefault(header, []).extend(rows)
    for header, rows in tables.items():
        console.print(_table(header, rows))
    if MARKDOWN.value:
        Path(MARKDOWN.value).write_text(_markdown(tables), "utf-8")
    return 0


def _check_writable(path: str | None) -> None:
    """Raise an `InputError` where the tables could not be written in the end."""
    if path:
        try:
            Path(path).open("a").close()
        except OSError as error:
            raise InputError(
                f"--markdown={path} cannot be written: {error.strerror}; name another."
            ) from error


def _hardware() -> str:
    device = jax.devices()[0]
    kind = device.device_kind if device.platform != "cpu" else platform.machine()
    return f"{device.platform} ({kind}), jax {jax.__version__}"


def _table(header: tuple[str, ...], rows: Rows) -> Table:
    table = Table(*header, title=_hardware())
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(tables: dict[tuple[str, ...], Rows]) -> str:
    parts = [_hardware()]
    for header, rows in tables.items():
        lines = [header, ["---"] * len(header), *rows]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _batch_size(tasks: int) -> int:
    """Of every task; smaller where there are many, for a round to take seconds."""
    return BATCH if tasks <= 10 else SMALL_BATCH


def _pool(tasks: int) -> Dataset:
    """Random images: what is timed does not depend on what they show."""
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
    """Our training of variants, ``steps`` at a call, and the seconds to compile it."""
    setting, size = _setting(tasks), _batch_size(tasks)
    config: Any = config_files.default()
    config.seeds, config.learning_rates = seeds, rates
    for method, options in OPTIONS.items():
        config.smto[method].update(options)
    every = [
        variants.make(name, config, setting.tasks, [POOL] * tasks) for name in names
    ]
    run_map = axis_map.make("auto")
    rng = np.random.default_rng(1)
    shapes = [(len(v.seeds), steps, v.task_ids.shape[1], size) for v in every]
    rows = [rng.integers(0, POOL, shape).astype(np.int32) for shape in shapes]
    states = [init_states(setting, v, run_map) for v in every]
    stacks = [run_axis.make(len(v.seeds)) for v in every]
    began = time.perf_counter()
    split = run_axis.split(4, first="rows")
    parts = [
        Part(
            run_axis.replicate(runs, data_pool(setting)),
            run_axis.shard(runs, own, split),
        )
        for runs, own in zip(stacks, rows, strict=True)
    ]
    with ThreadPoolExecutor() as threads:  # as `compile.compile_programs` does
        compile_one = partial(compile_chunk, setting, run_map)
        chunks = list(threads.map(compile_one, every, states, stacks, parts))
    seconds = time.perf_counter() - began

    states = [
        run_axis.shard(runs, own) for runs, own in zip(stacks, states, strict=True)
    ]

    def run() -> None:
        for i, part in enumerate(parts):
            states[i], _ = chunks[i].run(states[i], part, steps)
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


def _peers(say: Say) -> Any:
    """The torch side, or None where torch is missing."""
    if find_spec("torch") is None:
        say("missing: torch and all peers (pip install 'mtl_jax[bench]')")
        return None
    from . import peers

    return peers


def _factor_peers(say: Say) -> Any:
    """The torch side of W3 and W4, or None where torch is missing."""
    if _peers(say) is None:
        return None
    from . import factor_peers

    return factor_peers


def _timed(
    make: Callable[[Say], Iterable[tuple[str, list[Way]]]], say: Say
) -> tuple[tuple[str, ...], Rows]:
    """Table of a workload's times."""
    rows = []
    for label, ways in make(say):
        rows += ways_rows(label, ways, ROUNDS.value)
        say(f"{label}: measured {', '.join(way.name for way in ways)}")
    return HEADER, rows


def _w1(say: Say) -> Iterable[tuple[str, list[Way]]]:
    ours, _ = _our_step(TASKS, ("multi",), (0,), (1e-3,), CHUNK)
    ways = [Way("mtl_jax", ours, CHUNK)]
    if peers := _peers(say):
        batch = _batch(TASKS)
        ways += [
            _repeat(way, peers.w1_step(way, *batch), CHUNK) for way in peers.W1_WAYS
        ]
    yield "W1", ways


def _w2(say: Say) -> Iterable[tuple[str, list[Way]]]:
    peers = _peers(say)
    for tasks in map(int, TASKS_FLAG.value or (TASKS,)):
        batch, steps = _batch(tasks), max(2, CHUNK * TASKS // tasks)
        for method in METHODS_FLAG.value:
            label = f"W2 {method} K={tasks}"
            ours, _ = _our_step(tasks, (f"multi-{method}",), (0,), (1e-3,), steps)
            ways = [Way("mtl_jax", ours, steps)]
            for name in peers.W2_WAYS if peers else ():
                if lacks := peers.w2_missing(name, method):
                    say(f"missing for {label}, {name}: {', '.join(lacks)}")
                    continue
                step = peers.w2_step(name, method, *batch)
                try:
                    step()
                except (ArithmeticError, RuntimeError, ValueError) as error:
                    say(f"{label}, {name} fails: {' '.join(str(error).split())}")
                    continue
                ways.append(_repeat(name, step, steps))
            yield label, ways


def _repeat(name: str, step: Callable[[], Any], steps: int) -> Way:
    """A peer's step, repeated to as many as ours does in a call."""

    def run() -> None:
        for _ in range(steps):
            step()

    return Way(name, run, steps)


def _w3(say: Say) -> Iterable[tuple[str, list[Way]]]:
    return factor_workloads.w3(say, _factor_peers(say))


def _w4(say: Say) -> Iterable[tuple[str, list[Way]]]:
    return factor_workloads.w4(say, _factor_peers(say))


def _w5(say: Say) -> Iterable[tuple[str, list[Way]]]:
    blocks = len(W5_SEEDS) * len(W5_RATES)
    ours, compiling = _our_step(
        TASKS, ("single", "multi"), W5_SEEDS, W5_RATES, W5_SLICE
    )
    say(f"W5: compiled in {compiling:.1f} s")
    share = compiling / (blocks * W5_STEPS)
    ways = [Way("mtl_jax", ours, blocks * W5_SLICE, share)]
    if peers := _peers(say):
        data = _pool(TASKS)
        for way in peers.W5_WAYS:
            x = np.stack([data.x] * TASKS)
            y = np.stack([data.y] * TASKS)
            run = peers.w5_run(way, x, y, W5_SLICE, W5_SEEDS, W5_RATES)
            ways.append(Way(way, run, blocks * W5_SLICE))
    yield "W5", ways


def _solvers(say: Say) -> tuple[tuple[str, ...], Rows]:
    sizes = [int(tasks) for tasks in TASKS_FLAG.value or TASK_COUNTS]
    found = solver_workloads.rows(
        say, _peers(say), METHODS_FLAG.value, sizes, ROUNDS.value
    )
    return solver_workloads.HEADER, found


MAKERS = {
    "W1": partial(_timed, _w1),
    "W2": partial(_timed, _w2),
    "W3": partial(_timed, _w3),
    "W4": partial(_timed, _w4),
    "W5": partial(_timed, _w5),
    "W6": partial(_timed, language_workloads.w6),
    "solvers": _solvers,
}


if __name__ == "__main__":
    entry.main(benchmark, str(__doc__))
