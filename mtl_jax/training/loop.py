"""An experiment: all variants side by side, from a configuration to records.

The loop goes from one boundary to the next: a trajectory point, or the end of a
chunk. Programs are dispatched first and read one round later, so the device works
while the host writes.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mtl_jax.console.progress import ProgressBar
from mtl_jax.console.signals import StopSignal
from mtl_jax.console.stopwatch import Stopwatch
from mtl_jax.devices import memory, multihost
from mtl_jax.devices.axis_map import AxisMap, sequential
from mtl_jax.options import name_list
from mtl_jax.storage import checkpoint, commands, provenance, records, workdir
from mtl_jax.training import evaluate, record_rows, streaming, trajectory
from mtl_jax.training.batches import make_feed
from mtl_jax.training.compile import Report, compile_programs, held, init_states, report
from mtl_jax.training.factor_programs import compile_factors
from mtl_jax.training.resolve import Experiment, resolve
from mtl_jax.training.step import data_pool
from mtl_jax.types import Config, PyTree


class Outcome(NamedTuple):
    """How an experiment ended."""

    step: int
    signal: int | None
    """Number of the signal that stopped it; None if it came to its end."""
    steps_per_second: float
    """Updates of all runs together in this process, by the time that training took."""
    seconds: dict[str, float]
    """Wall time of this process by what it went into."""


class Findings(NamedTuple):
    """What a round left, to be written while the next one runs."""

    step: int
    reports: list[Report]
    sums: list[list[PyTree]]
    """Per variant and piece, on the device; none where it was not evaluated."""
    factors: list[list[PyTree]]
    """Per variant, what each gauge says; none where it was not evaluated."""


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
        existing run is untouched then, and a new workdir is free for another one.
    """
    commands.check_folder("train", path)
    made = resolve(config)
    with workdir.claim(path) as folder:
        workdir.admit(folder, config, made.data)
        kept = made.points.tolist() if config.checkpoint.keep_points else []
        with checkpoint.open_manager(
            folder, config.checkpoint.keep_last, kept
        ) as saved:
            start = _start(made, folder, saved, say)
            if start[0] == config.steps:
                say(f"{folder} is finished: step {config.steps} of {config.steps}")
                return Outcome(config.steps, None, 0.0, {})
            # From here on a signal waits for the next boundary, compilation included.
            with StopSignal() as stop, ProgressBar(config.steps, start[0]) as live:
                return _loop(made, folder, saved, start, stop, live)


def _start(made: Experiment, folder, saved, say) -> tuple[int, list]:
    """Step and states to start from: of the newest checkpoint, or of the seeds."""
    config = made.config
    states = [init_states(made.setting, v, made.run_map) for v in made.variants]
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(states))
    kept = config.checkpoint.keep_last + 1
    if config.checkpoint.keep_points:
        kept += config.trajectory.dense + config.trajectory.count
    workdir.check_space(folder, kept * size + 2**24)
    found = checkpoint.restore(saved, states, say)
    _reconcile(folder, saved, found[0] if found else -1, say)
    if not found:
        return 0, states
    if found[0] < config.steps:
        say(f"going on from step {found[0]} of {config.steps} in {folder}")
        if moved := _moved(folder, made.run_map):
            say(moved)
    return found


@multihost.on_primary_host
def _reconcile(folder: Path, saved, step: int, say: Callable[[str], None]) -> None:
    """Check the records that belong to a checkpoint, and drop those after it."""
    parts = checkpoint.parts(saved, step) if step >= 0 else None
    records.reconcile(folder, step, parts, say)


def _moved(folder: Path, run_map: AxisMap) -> str:
    """Say what other devices than before mean for the numbers; empty for the same."""
    now = [str(device.device_kind) for device in jax.devices()]
    *_, last = [{}, *provenance.sessions(folder)]
    before = last.get("devices", [])
    if before in ([], now):  # it does not say, or they are the same
        return ""
    kept = run_map is sequential and set(now) == set(before)
    what = "factors" if kept else "all numbers, as training amplifies it,"
    return (
        f"{folder} was on {_counted(before)} and goes on with {_counted(now)}: "
        f"rounding may make {what} other than the former would have found"
    )


def _counted(devices: list[str]) -> str:
    return " and ".join(f"{n} x {kind}" for kind, n in Counter(devices).items())


def _loop(
    made: Experiment,
    folder: Path,
    saved,
    start: tuple[int, list],
    stop: StopSignal,
    live: ProgressBar,
) -> Outcome:
    """Train, look, record and save, from boundary to boundary."""
    config, setting, every, points = (
        made.config, made.setting, made.variants, made.points
    )  # fmt: skip
    first, states = start
    watch = Stopwatch("training")
    splits = name_list("evaluate", config.evaluate)
    evaluated = {name: made.splits[name] for name in splits}
    rounds = evaluate.rounds(evaluated, config.eval_batch_size)
    rounds = evaluate.labelled(rounds, setting)
    levels = tuple(config.trajectory.loss_levels)
    bounds = trajectory.boundaries(points, config.steps, config.steps_per_dispatch)
    chunk = int(np.diff(bounds).max())
    fed = make_feed(
        setting,
        every,
        made.splits["train"],
        config.batch_size,
        chunk,
        rounds,
        config.data_parallel,
        streaming.is_needed(config.data.stream, data_pool(setting)),
    )
    with watch("compilation"):
        compiled = compile_programs(setting, every, states, fed, made.run_map)
        gauges = compile_factors(made, states)
        temporaries = [gauge.temporaries for own in gauges for gauge in own]
        if temporaries:
            kept = held(states, fed)
            memory.check({**kept, "temporaries of factors": max(temporaries)})
    # Nothing is refused from here on: now the folder is bound.
    workdir.bind(folder, config, made.data)
    workdir.save_splits(folder, made.splits)
    provenance.add_session(folder, first, made.data)
    reports = [report(state) for state in states]
    states = [p.spread(own) for p, own in zip(compiled, states, strict=True)]
    reached = [trajectory.levels_reached(r.lowest_loss, levels) for r in reports]
    marked = [np.asarray(r.diverged) for r in reports]

    def sums(wanted: list[bool]) -> list[list[PyTree]]:
        """Evaluate variants, piece by piece."""
        found = [[] for _ in every]
        for parts in fed.pieces():
            for i in np.flatnonzero(wanted):
                found[i].append(compiled[i].sums(states[i], parts[i]))
            jax.block_until_ready([own[:-1] for own in found])  # or pools pile up
        return jax.block_until_ready(found)

    def look(step: int) -> Findings:
        """Evaluate and measure the variants that have something to show."""
        found = Findings(step, list(reports), [[] for _ in every], [[] for _ in every])
        before = list(reached)
        if levels:
            for i, report in enumerate(reports):
                lowest = compiled[i].collect(report.lowest_loss)
                reached[i] = trajectory.levels_reached(lowest, levels)
        wanted = [
            step in points or new > old
            for new, old in zip(reached, before, strict=True)
        ]
        if any(wanted):  # training that is under way is not the evaluation's time
            jax.block_until_ready(states)
            with watch("evaluation"):
                found = found._replace(sums=sums(wanted))
        for i in np.flatnonzero(wanted):
            if gauges[i]:
                now = compiled[i].collect(states[i])
                for gauge in gauges[i]:
                    with watch(gauge.name):
                        found.factors[i].append(gauge.measure(now))
        return found

    def settle(findings: Findings) -> None:
        """Read what a round found, write it, and show it."""
        rows, losses, step = [], {}, findings.step
        for i, variant in enumerate(every):
            found = findings.reports[i], findings.sums[i]
            report, sums = compiled[i].collect(found)
            row = partial(record_rows.row, setting, variant, config.batch_size)
            new = np.flatnonzero((report.diverged >= 0) & (marked[i] < 0))
            rows += record_rows.marks(row, new, report.diverged)
            marked[i] = report.diverged
            sound = np.flatnonzero(report.diverged < 0)
            if sums:
                sums = evaluate.join(sums, rounds)
                rows += record_rows.values(
                    row, setting, variant, step, sound, sums, rounds
                )
                rows += record_rows.updates(row, variant, step, sound, report.smto)
            for gauge, said in zip(gauges[i], findings.factors[i], strict=False):
                rows += gauge.rows(row, step, sound.tolist(), said)
            losses[variant.name] = _mean_loss(report)
        if rows:
            multihost.on_primary_host(records.write)(folder, step, rows)
        live.show(step, losses, step in points)

    def save(step: int) -> None:
        """Save all runs; what they found so far must be in the records by then."""
        with watch("checkpoints"):
            found = [p.collect(own) for p, own in zip(compiled, states, strict=True)]
            checkpoint.save(saved, step, found)
            provenance.set_seconds(folder, watch.seconds())

    step, signal = first, None
    # Whatever moves between host and device here, moves on purpose.
    with jax.transfer_guard("disallow"):
        pending = look(0) if first == 0 else None
        if pending and config.checkpoint.keep_points:
            settle(pending)
            pending = None
            save(0)
        ahead = list(pairwise(bounds[bounds >= first].tolist()))
        for (begin, step), parts in zip(ahead, fed.chunks(ahead), strict=True):
            looked_at = step in points or bool(levels)
            for i, part in enumerate(parts):
                chunk = compiled[i].chunk(states[i], part, step - begin, looked_at)
                states[i], reports[i] = chunk
            if pending:
                settle(pending)
            pending = look(step)
            signal = multihost.max_over_hosts(stop.number or 0) or None
            due = begin // config.checkpoint.every != step // config.checkpoint.every
            kept = config.checkpoint.keep_points and step in points
            if due or kept or signal or step == config.steps:
                settle(pending)
                pending = None
                save(step)
            if signal:
                break
        with watch("checkpoints"):
            checkpoint.finish(saved)
    seconds = watch.seconds()
    provenance.set_seconds(folder, seconds)
    runs = sum(len(variant.seeds) for variant in every)
    rate = (step - first) * runs / seconds["training"]
    return Outcome(step, signal, rate, seconds)


def _mean_loss(report: Report) -> float:
    """Mean training loss of the runs that are sound."""
    sound = report.losses[report.diverged < 0]
    return float(sound.mean()) if sound.size else float("nan")
