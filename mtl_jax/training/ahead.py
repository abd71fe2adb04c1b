"""Ahead-of-time compilation: what an experiment costs on devices, before it has any.

Every program is compiled from shapes, for devices that need not be there, and read: the
memory that it takes, its kernels, the bytes that they move, and the least time that
they need.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any, NamedTuple

import jax

from mtl_jax.data import stand_in
from mtl_jax.devices import flops, hlo
from mtl_jax.devices.preview import Cost, Preview
from mtl_jax.devices.target import TPU_CLOCK, Target
from mtl_jax.training import plain as plain_step
from mtl_jax.training.compile import (
    Trace,
    evaluation_key,
    held,
    program_traces,
    state_shapes,
)
from mtl_jax.training.factor_programs import factor_traces, views_of
from mtl_jax.training.loop import evaluation_of, loader_of
from mtl_jax.training.resolve import Experiment, resolve
from mtl_jax.types import Config

LAUNCH = 2e-6
"""Seconds from a kernel to the next on a GPU, at the least."""
EXCEEDED = (
    re.compile(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm"),
    re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)"),
)
"""Ends of a TPU compiler's messages."""
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Piece(NamedTuple):
    """A program of an experiment."""

    name: str
    unit: str
    """Unit of its costs: a step of all runs, an evaluation, a point."""
    times: int
    """Number of them in the experiment."""
    trace: Trace


def experiment(config: Config, target: Target) -> Experiment:
    """Resolve a configuration for devices that are elsewhere.

    Where it names no folder of data, official data is stood in for by its shapes.

    Raises:
      InputError: as `resolve.resolve`.
    """
    options = dict(config.data)
    data = None
    if not options["dir"]:
        data = stand_in.dataset(config.setting, **options)
    return resolve(config, target=target, dataset=data)


def preview(
    made: Experiment,
    say: Callable[[Cost, int, int], None] | None = None,
    *,
    plain: bool = False,
) -> Preview:
    """Compile all programs of an experiment, several at a time, and read them.

    Args:
      made: the experiment, as `experiment` resolves it.
      say: told of every program that is done, how many are, and of how many.
      plain: as in `pieces`.
    """
    programs, bytes_held = pieces(made, plain=plain)
    # A compiler for TPUs or GPUs keeps about two cores busy by itself.
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as threads:
        waiting = [threads.submit(_cost, piece, made) for piece in programs]
        for done, future in enumerate(as_completed(waiting), start=1):
            cost = future.result()
            if say:
                say(cost, done, len(programs))
    costs = [future.result() for future in waiting]
    points = len(made.points)
    return Preview(made.target, bytes_held, made.config.steps, points, costs)


def pieces(
    made: Experiment, *, plain: bool = False
) -> tuple[list[Piece], dict[str, int]]:
    """Return the programs of an experiment, and bytes that always lie on a device.

    Args:
      made: the experiment.
      plain: whether to add a `plain` step for one run of every variant.
    """
    config, setting, variants = made.config, made.setting, made.variants
    states = [state_shapes(setting, v) for v in variants]
    loader = loader_of(made, evaluation_of(made))
    points, parts = len(made.points), len(loader.eval_parts)
    shown = made.shown
    shared = Counter(evaluation_key(v, loader.stacks[i]) for i, v in shown)
    sizes = Counter(views_of(variant) for _, variant in shown)

    def of(key: tuple, trace: Trace) -> Piece:
        kind, detail, *rest = key
        if kind == "training":
            name = f"training {variants[detail].name}"
            return Piece(name, "step", config.steps, trace)
        if kind == "evaluation":
            name = f"evaluation, {detail.size} runs of {rest[0]} tasks"
            return Piece(name, "evaluation", points * parts * shared[key], trace)
        if kind in made.factors.task:
            return Piece(
                f"{kind} of {detail} tasks", "point", points * sizes[detail], trace
            )
        variant = variants[detail]
        times = points * len(variant.shown)
        return Piece(f"{kind} of {variant.name}", "point", times, trace)

    traces = program_traces(setting, variants, states, loader)
    traces |= factor_traces(made, states)
    programs = list(map(of, traces, traces.values()))
    if plain:
        pool, device = loader.train_pools.like, made.target.devices[0]
        for variant, like in zip(variants, loader.train_like, strict=True):
            rows = jax.ShapeDtypeStruct(like.rows.shape[1:], like.rows.dtype)
            step = partial(plain_step.trace, setting, variant, pool, rows, device)
            programs.append(Piece(f"plain step, {variant.name}", "step", 0, step))
    return programs, held(states, loader)


def _cost(piece: Piece, made: Experiment) -> Cost:
    began = time.perf_counter()
    traced = piece.trace()
    error, compiled, excess = "", None, 0
    try:
        compiled = traced.lower().compile(_options(made.target))
    except jax.errors.JaxRuntimeError as failure:
        error, excess = reason(str(failure))
    seconds = time.perf_counter() - began
    # What is done for steps that are looked at, or once a chunk, is rare.
    of_step = piece.unit == "step"
    choose: Any = min if of_step else max
    kernels = hlo.kernels(compiled.as_text(), choose) if compiled else []
    kernels = [kernel for kernel in kernels if kernel.in_open_loop or not of_step]
    used: Any = compiled.memory_analysis() if compiled else None
    arguments = used.argument_size_in_bytes if used else 0
    rearranged = [k for k in kernels if k.is_rearrangement]
    collectives: Counter = Counter()
    for kernel in kernels:
        if kernel.is_collective:
            name = kernel.instruction.opcode.removesuffix("-start")
            collectives[name] += kernel.times * hlo.size(kernel.instruction.shape)
    cost = Cost(
        name=piece.name,
        unit=piece.unit,
        times=piece.times,
        compilation=seconds,
        arguments=arguments,
        temporaries=used.temp_size_in_bytes if used else excess,
        error=error,
        flops=flops.count(traced.jaxpr, choose),
        bytes=sum(k.times * k.bytes for k in kernels),
        kernels=sum(k.times for k in kernels),
        products=sum(k.times for k in kernels if k.is_product),
        rearranged=sum(k.times * k.bytes for k in rearranged),
        cycles=sum(k.times * k.cycles for k in kernels),
        product_cycles=sum(k.times * k.cycles for k in kernels if k.is_product),
        collectives=dict(collectives),
        host=sum(k.times for k in kernels if k.is_of_host),
        bounds={},
    )
    compute = made.config.compute_dtype if piece.unit == "step" else "float32"
    return cost._replace(bounds=dict(_bounds(cost, made.target, compute)))


def _bounds(cost: Cost, target: Target, compute: str) -> Iterator[tuple[str, float]]:
    """Least seconds, by what they go into."""
    chip = target.chip
    if not chip or cost.error:
        return
    peak = chip.flops if compute == "bfloat16" else chip.flops_float32
    yield "arithmetic", cost.flops / peak
    yield "memory", cost.bytes / chip.bandwidth
    if target.platform == "gpu":
        yield "launches", LAUNCH * cost.kernels
    if cost.cycles:
        yield "cycles", cost.cycles / TPU_CLOCK


def _options(target: Target) -> dict[str, Any]:
    """Options of a compiler whose device is not there to try kernels on."""
    return {"xla_gpu_autotune_level": 0} if target.platform == "gpu" else {}


def reason(text: str) -> tuple[str, int]:
    """Return why a program cannot be compiled, and the bytes that it would need.

    Args:
      text: of the compiler.
    """
    for pattern in EXCEEDED:
        if match := pattern.search(text):
            needed, unit, room, of = match.groups()
            message = f"needs {needed} {unit}iB at once, of {room} {of}iB"
            return message, int(float(needed) * UNITS[unit])
    return text.strip().splitlines()[0][:200], 0
