"""An experiment: all variants side by side, from a configuration to records.

The loop goes from one boundary to the next: a trajectory point, or the end of a
chunk. Programs are dispatched first and read one round later, so the device works
while the host writes.
"""

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mtl_jax import (
    axis_map,
    checkpoint,
    evaluate,
    observe,
    programs,
    records,
    settings,
    trajectory,
    variants,
    workdir,
)
from mtl_jax.data import schedule
from mtl_jax.programs import Report
from mtl_jax.progress import Live
from mtl_jax.settings import Setting
from mtl_jax.stop import StopSignal
from mtl_jax.types import ONE_INPUT, Config, InputError, PyTree
from mtl_jax.variants import Variant

Rows = dict[str, tuple[np.ndarray, ...]]
"""Rows of the pool per split and task."""

PROBE = "probe"


class Outcome(NamedTuple):
    """How an experiment ended."""

    step: int
    signal: int | None
    """Number of the signal that stopped it; None if it came to its end."""
    steps_per_second: float
    """Updates of all runs together in this process, with evaluation and checkpoints,
    without compilation."""


class Findings(NamedTuple):
    """What a round left on the device, to be read while the next one runs."""

    step: int
    reports: list[Report]
    sums: list[PyTree]
    """Per variant; None where it was not evaluated."""


def run(
    config: Config, path: str | Path, say: Callable[[str], None] = print
) -> Outcome:
    """Train all variants of a configuration, from where the workdir left off.

    Args:
      config: as `configs/default.py` makes it.
      path: the workdir; made if it is not there.
      say: told, in a sentence, what a person should know.

    Raises:
      InputError: a value of the configuration, the data or the workdir is unfit; an
        existing run is untouched then.
    """
    _check(config)
    names = variants.names(config)
    points = trajectory.points(
        config.steps, config.trajectory.dense, config.trajectory.count
    )
    setting = settings.make(config)
    every = [variants.make(name, config, len(setting.tasks)) for name in names]
    splits = _splits(config, setting)
    contents = jax.tree.leaves((setting.data.x, setting.data.y, splits))
    data = {"checksum": checkpoint.checksum(contents), **setting.data.provenance}
    with workdir.claim(path) as folder:
        workdir.bind(folder, config, data)
        workdir.save_splits(folder, splits)
        kept = points.tolist() if config.checkpoint.keep_points else []
        with checkpoint.open_manager(
            folder, config.checkpoint.keep_last, kept
        ) as saved:
            start = _start(config, setting, every, folder, saved, say)
            if start[0] == config.steps:
                say(f"{folder} is finished: step {config.steps} of {config.steps}")
                return Outcome(config.steps, None, 0.0)
            workdir.add_session(folder, start[0], data)
            # From here on a signal waits for the next boundary, compilation included.
            with StopSignal() as stop, Live(config.steps, start[0]) as live:
                return _loop(
                    config, setting, every, splits, points, folder, saved, start,
                    stop, live,
                )  # fmt: skip


def _check(config: Config) -> None:
    """Raise an `InputError` for the first value that is out of its range."""
    for field in ("batch_size", "eval_batch_size", "probe_size", "chunk"):
        if config[field] < 1:
            raise InputError(f"{field} is {config[field]}; it must be at least 1.")
    if config.checkpoint.every < 1:
        every = config.checkpoint.every
        raise InputError(f"checkpoint.every is {every}; it must be at least 1 step.")
    if config.data.seed < 0:
        raise InputError(f"data.seed is {config.data.seed}; it must not be negative.")
    seeds = tuple(config.seeds)
    whole = all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise InputError(
            f"seeds are {seeds}; name at least one whole number, each once, none "
            f"negative: --config.seeds=0,1,2."
        )
    rates = tuple(config.learning_rates)
    _check_positive("learning_rates", rates)
    if not rates:
        raise InputError("learning_rates is empty; name at least one, such as 1e-3.")
    if len(set(rates)) < len(rates):
        raise InputError(f"learning_rates are {rates}; name each once.")
    _check_positive("trajectory.loss_levels", tuple(config.trajectory.loss_levels))


def _check_positive(field: str, numbers: tuple) -> None:
    if not all(isinstance(n, int | float) and 0 < n < np.inf for n in numbers):
        raise InputError(f"{field} are {numbers}; all must be positive numbers.")


def _splits(config: Config, setting: Setting) -> Rows:
    """Rows of the splits and of the probe; checks the batch size against them."""
    rows = setting.data.rows
    smallest = min(len(own) for own in rows["train"])
    if config.batch_size > smallest:
        raise InputError(
            f"batch_size {config.batch_size} is larger than the smallest training "
            f"split of {setting.name}, {smallest} examples; choose at most that."
        )
    probe = tuple(
        schedule.probe(own, config.data.seed, task, config.probe_size)
        for task, own in enumerate(rows["train"])
    )
    return {PROBE: probe, **rows}


def _start(config, setting, every, folder, saved, say) -> tuple[int, list]:
    """Step and states to start from: of the newest checkpoint, or of the seeds."""
    run_map = axis_map.make(config.run_map)
    states = [programs.init_states(setting, variant, run_map) for variant in every]
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(states))
    kept = config.checkpoint.keep_last + 1
    if config.checkpoint.keep_points:
        kept += config.trajectory.dense + config.trajectory.count
    workdir.check_space(folder, kept * size + 2**24)
    found = checkpoint.restore(saved, states, say)
    records.drop_after(folder, found[0] if found else -1)
    if not found:
        return 0, states
    if found[0] < config.steps:
        say(f"going on from step {found[0]} of {config.steps} in {folder}")
    return found[0], jax.device_put(found[1])


def _loop(
    config: Config,
    setting: Setting,
    every: list[Variant],
    splits: Rows,
    points: np.ndarray,
    folder: Path,
    saved,
    start: tuple[int, list],
    stop: StopSignal,
    live: Live,
) -> Outcome:
    """Train, look, record and save, from boundary to boundary."""
    first, states = start
    evaluated = {name: rows for name, rows in splits.items() if name != "train"}
    rounds = evaluate.rounds(evaluated, config.eval_batch_size)
    levels = tuple(config.trajectory.loss_levels)
    bounds = trajectory.boundaries(points, config.steps, config.chunk)
    chunk = int(np.diff(bounds).max())
    shapes = [_schedule(config, setting, v, 0, chunk).shape for v in every]
    compiled = programs.compile_all(
        setting, every, states, rounds, axis_map.make(config.run_map), shapes
    )
    reports = [programs.report(state) for state in states]
    states = [p.spread(own) for p, own in zip(compiled, states, strict=True)]
    reached = [trajectory.levels_reached(r.lowest_loss, levels) for r in reports]
    marked = [np.asarray(r.diverged) for r in reports]

    def look(step: int) -> Findings:
        """Dispatch the evaluation of the variants that have something to show."""
        sums = []
        for i, report in enumerate(reports):
            before = reached[i]
            if levels:
                lowest = compiled[i].collect(report.lowest_loss)
                reached[i] = trajectory.levels_reached(lowest, levels)
            wanted = step in points or reached[i] > before
            sums.append(compiled[i].sums(states[i]) if wanted else None)
        return Findings(step, list(reports), sums)

    def settle(findings: Findings) -> None:
        """Read what a round found, write it, and show it."""
        rows, losses = [], {}
        for i, variant in enumerate(every):
            found = findings.reports[i], findings.sums[i]
            report, sums = compiled[i].collect(found)
            row = partial(observe.row, setting, variant, config.batch_size)
            new = np.flatnonzero((report.diverged >= 0) & (marked[i] < 0))
            rows += observe.marks(row, new, report.diverged)
            marked[i] = report.diverged
            if sums is not None:
                sound = np.flatnonzero(report.diverged < 0)
                rows += observe.values(
                    row, setting, variant, findings.step, sound, sums, rounds
                )
            losses[variant.name] = _mean_loss(report)
        if rows:
            records.write(folder, findings.step, rows)
        live.show(findings.step, losses, findings.step in points)

    def save(step: int) -> None:
        """Save all runs; what they found so far must be in the records by then."""
        found = [p.collect(own) for p, own in zip(compiled, states, strict=True)]
        checkpoint.save(saved, step, found)

    step, began = first, time.monotonic()
    # Whatever moves between host and device here, moves on purpose.
    with jax.transfer_guard("disallow"):
        pending = look(0) if first == 0 else None
        if pending and config.checkpoint.keep_points:
            settle(pending)
            pending = None
            save(0)
        for begin, step in pairwise(bounds[bounds >= first].tolist()):
            for i, variant in enumerate(every):
                rows = _schedule(config, setting, variant, begin, begin + chunk)
                states[i], reports[i] = compiled[i].chunk(states[i], rows, step - begin)
            if pending:
                settle(pending)
            pending = look(step)
            due = begin // config.checkpoint.every != step // config.checkpoint.every
            kept = config.checkpoint.keep_points and step in points
            if due or kept or stop.number or step == config.steps:
                settle(pending)
                pending = None
                save(step)
            if stop.number:
                break
        checkpoint.finish(saved)
    runs = sum(len(variant.seeds) for variant in every)
    rate = (step - first) * runs / (time.monotonic() - began)
    return Outcome(step, stop.number, rate)


def _schedule(
    config: Config, setting: Setting, variant: Variant, start: int, stop: int
) -> np.ndarray:
    """Rows of the batches of all runs: ``[R, S, T, B]``, for one input ``[R, S, B]``.

    A function of seed and task, not of the variant: a task sees the same batches in
    the same order whether it trains alone or in company.
    """
    train = setting.data.rows["train"]

    def batches(seed: int, task: int) -> np.ndarray:
        return schedule.batches(train[task], seed, task, start, stop, config.batch_size)

    runs = zip(variant.seeds.tolist(), variant.task_ids.tolist(), strict=True)
    if setting.batch_axes == ONE_INPUT:
        return np.stack([batches(seed, 0) for seed, _ in runs])
    return np.stack(
        [np.stack([batches(seed, t) for t in tasks], axis=1) for seed, tasks in runs]
    )


def _mean_loss(report: Report) -> float:
    """Mean training loss of the runs that are sound."""
    sound = report.losses[report.diverged < 0]
    return float(sound.mean()) if sound.size else float("nan")
