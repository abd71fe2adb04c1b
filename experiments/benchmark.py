"""Measure training steps against what users would otherwise run, interleaved.

  python -m experiments.benchmark --workloads=W1,W2,W3,W4,W5 --rounds=7

W1: a step of 3 tasks with own 28x28 batches of 128, LeNet, summed loss, Adam.
W2: W1 with per-task gradients and a multi-task optimizer.
W3: the Gramian of 40 binary tasks' trunk gradients on one 64x64x3 batch of 64, ResNet
    of widths 16-32-64-128 with a stem of stride 2; time and memory of temporaries.
W4: factors of one W1 task on 2,048 examples: (a) one-step sharpness in batches of 128,
    (b) 20 Hessian-vector products, (c) Fisher trace, (d) cosines of 16 batch gradients
    and m-coherence; the values found are printed beside those of the peers.
W5: 3 seeds x 4 learning rates x (3 single-task runs + 1 multi-task run) of W1, 200
    steps, compilation included, per block (all four runs of one seed and rate).

Peers come with the extra `bench`; those not installed are named as missing. Machines
drift, so only ratios within one table mean something. Times are per step, in ms.
"""

import platform
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from configs import default
from experiments import entry, factor_workloads
from experiments.ways import HEADER, Way
from experiments.ways import rows as ways_rows
from mtl_jax import axis_map, evaluate, models, programs, settings, variants
from mtl_jax.data import Dataset
from mtl_jax.types import InputError

WORKLOADS = flags.DEFINE_list(
    "workloads", ["W1", "W2", "W3", "W4", "W5"], "Which to run."
)
ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds; every way runs once in each.")
MARKDOWN = flags.DEFINE_string("markdown", None, "File to write the table to.")

TASKS, BATCH, POOL = 3, 128, 2_000
CHUNK = 20
W5_SEEDS, W5_RATES, W5_STEPS = (0, 1, 2), (1e-2, 3e-3, 1e-3, 3e-4), 200
W5_SLICE = 10
"""Steps of W5 that a round really runs; the rest is the same again."""
W2_METHODS = ("pcgrad", "mgda", "cagrad")


def main() -> int:
    """Run the chosen workloads and print their table."""
    makers = {"W1": _w1, "W2": _w2, "W3": _w3, "W4": _w4, "W5": _w5}
    if unknown := set(WORKLOADS.value) - set(makers):
        raise InputError(f"workloads {sorted(unknown)} are not in {sorted(makers)}.")
    if ROUNDS.value < 1:
        raise InputError(f"rounds is {ROUNDS.value}; run at least 1.")
    console = Console()
    rows = []
    for workload in WORKLOADS.value:
        for label, ways in makers[workload](console.print):
            rows += ways_rows(label, ways, ROUNDS.value)
            console.print(f"{label}: measured {', '.join(way.name for way in ways)}")
    console.print(_table(rows))
    if MARKDOWN.value:
        with open(MARKDOWN.value, "w") as file:
            file.write(_markdown(rows))
    return 0


def _hardware() -> str:
    device = jax.devices()[0]
    kind = device.device_kind if device.platform != "cpu" else platform.machine()
    return f"{device.platform} ({kind}), jax {jax.__version__}"


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table(*HEADER, title=_hardware())
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(rows: list[tuple[str, ...]]) -> str:
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{_hardware()}\n\n{body}\n"


def _pool() -> Dataset:
    """Random images: what is timed does not depend on what they show."""
    rng = np.random.default_rng(0)
    rows = tuple(np.arange(POOL, dtype=np.int32) for _ in range(TASKS))
    return Dataset(
        tasks=tuple(f"task_{t}" for t in range(TASKS)),
        x=rng.random((POOL, 28, 28, 1), np.float32),
        y=rng.integers(0, 10, POOL, dtype=np.int32),
        rows={"train": rows},
        num_classes=(10,) * TASKS,
        provenance={},
    )


def _our_step(
    setting: settings.Setting,
    names: tuple[str, ...],
    seeds: tuple[int, ...],
    rates: tuple[float, ...],
    steps: int,
) -> tuple[Callable[[], None], float]:
    """Our training of variants, ``steps`` at a call, and the seconds to compile it."""
    config: Any = default.get_config()
    config.seeds, config.learning_rates = seeds, rates
    config.smto.cagrad.c = 0.5
    every = [variants.make(name, config, TASKS) for name in names]
    run_map = axis_map.make("auto")
    rng = np.random.default_rng(1)
    shapes = [(len(v.seeds), steps, v.task_ids.shape[1], BATCH) for v in every]
    rows = [rng.integers(0, POOL, shape).astype(np.int32) for shape in shapes]
    states = [programs.init_states(setting, v, run_map) for v in every]
    rounds = evaluate.rounds({"train": setting.data.rows["train"]}, BATCH)
    began = time.perf_counter()
    compiled = programs.compile_all(setting, every, states, rounds, run_map, shapes)
    seconds = time.perf_counter() - began

    states = [p.spread(own) for p, own in zip(compiled, states, strict=True)]

    def run() -> None:
        for i, own in enumerate(rows):
            states[i], _ = compiled[i].chunk(states[i], own, steps)
        jax.block_until_ready(states)

    return run, seconds


def _setting() -> settings.Setting:
    trunk = models.make(
        "cnn", channels=(10, 20), kernel_size=5, padding="valid", hidden=50
    )
    return settings.from_dataset("benchmark", _pool(), trunk)


def _peers(say: Callable[[str], None]) -> Any:
    """The torch side, or None where torch is missing."""
    if find_spec("torch") is None:
        say("missing: torch and all peers (pip install 'mtl_jax[bench]')")
        return None
    from experiments import peers

    return peers


def _batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.random((TASKS, BATCH, 28, 28, 1), np.float32)
    return x, rng.integers(0, 10, (TASKS, BATCH), dtype=np.int32)


def _w1(say: Callable[[str], None]) -> list[tuple[str, list[Way]]]:
    ours, _ = _our_step(_setting(), ("multi",), (0,), (1e-3,), CHUNK)
    ways = [Way("mtl_jax", ours, CHUNK)]
    if peers := _peers(say):
        ways += [Way(way, peers.w1_step(way, *_batch()), 1) for way in peers.W1_WAYS]
    return [("W1", _repeat(ways))]


def _w2(say: Callable[[str], None]) -> list[tuple[str, list[Way]]]:
    peers = _peers(say)
    found = []
    for method in W2_METHODS:
        ours, _ = _our_step(_setting(), (f"multi-{method}",), (0,), (1e-3,), CHUNK)
        ways = [Way("mtl_jax", ours, CHUNK)]
        for name in peers.W2_WAYS if peers else ():
            solver = peers.W2_SOLVERS[method][name != "libmtl"]
            if lacks := peers.missing(peers.WAYS[name], solver):
                say(f"missing for {name} {method}: {', '.join(lacks)}")
                continue
            ways.append(Way(name, peers.w2_step(name, method, *_batch()), 1))
        found.append((f"W2 {method}", _repeat(ways)))
    return found


def _w3(say: Callable[[str], None]) -> list[tuple[str, list[Way]]]:
    return factor_workloads.w3(say, _factor_peers(say))


def _w4(say: Callable[[str], None]) -> list[tuple[str, list[Way]]]:
    return factor_workloads.w4(say, _factor_peers(say))


def _factor_peers(say: Callable[[str], None]) -> Any:
    """The torch side of W3 and W4, or None where torch is missing."""
    if _peers(say) is None:
        return None
    from experiments import factor_peers

    return factor_peers


def _w5(say: Callable[[str], None]) -> list[tuple[str, list[Way]]]:
    blocks = len(W5_SEEDS) * len(W5_RATES)
    ours, compiling = _our_step(
        _setting(), ("single", "multi"), W5_SEEDS, W5_RATES, W5_SLICE
    )
    say(f"W5: compiled in {compiling:.1f} s")
    share = compiling / (blocks * W5_STEPS)
    ways = [Way("mtl_jax", ours, blocks * W5_SLICE, share)]
    if peers := _peers(say):
        data = _pool()
        for way in peers.W5_WAYS:
            x = np.stack([data.x] * TASKS)
            y = np.stack([data.y] * TASKS)
            run = peers.w5_run(way, x, y, W5_SLICE, W5_SEEDS, W5_RATES)
            ways.append(Way(way, run, blocks * W5_SLICE))
    return [("W5", ways)]


def _repeat(ways: list[Way]) -> list[Way]:
    """Calls of one step, repeated to as many as ours does in a call."""

    def often(way: Way) -> Way:
        def run() -> None:
            for _ in range(CHUNK // way.units):
                way.run()

        return way._replace(run=run, units=CHUNK)

    return [often(way) for way in ways]


if __name__ == "__main__":
    entry.main(main, str(__doc__))
