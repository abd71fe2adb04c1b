"""An experiment: all variants side by side, from a configuration to records.

The loop goes from one boundary to the next: a trajectory point, or the end of a
chunk. Programs are dispatched first and read one round later, so the device works
while the host writes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mtl_jax.console.progress import ProgressBar
from mtl_jax.console.signals import StopSignal
from mtl_jax.console.stopwatch import Stopwatch
from mtl_jax.devices import memory, multihost
from mtl_jax.options import name_list
from mtl_jax.storage import (
    checkpoint,
    commands,
    provenance,
    records,
    trackers,
    workdir,
)
from mtl_jax.storage.records import Row
from mtl_jax.training import (
    evaluate,
    profile,
    record_rows,
    start,
    streaming,
    trajectory,
)
from mtl_jax.training.batches import IndexedPool, Loader, make_loader
from mtl_jax.training.compile import (
    ChunkReport,
    Programs,
    compile_programs,
    held,
    report,
)
from mtl_jax.training.config import fields
from mtl_jax.training.evaluate import EvalBatches
from mtl_jax.training.factor_programs import CompiledFactor, compile_factors
from mtl_jax.training.optimizers import OptimizerMaker
from mtl_jax.training.resolve import Experiment, resolve
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import TrainState, data_pool, told
from mtl_jax.training.throughput import Throughput, throughput
from mtl_jax.training.variants import Variant
from mtl_jax.types import Config, PyTree


class Outcome(NamedTuple):
    """The end of a process's work on an experiment."""

    step: int
    signal: int | None
    """Number of the signal that stopped it; None if it came to its end."""
    throughput: Throughput | None
    """Rates of this process; None where it had nothing to train."""
    seconds: dict[str, float]
    """Wall time of this process by what it went into."""


class Snapshot(NamedTuple):
    """Reports and values of all runs after a step, written one chunk later."""

    step: int
    reports: list[ChunkReport]
    sums: list[list[PyTree]]
    """Sums of the evaluation by `Experiment.shown` and part, on the device; empty for a
    variant that was not evaluated."""
    factors: list[list[PyTree]]
    """Values of the factors by `Experiment.shown`; empty for one that was not
    evaluated."""


class LoopState(NamedTuple):
    """The loop between two chunks; lists have an entry a variant."""

    states: list[TrainState]
    """States of all runs, on the devices."""
    reports: list[ChunkReport]
    """Reports of the last chunk, on the devices."""
    levels: list[Any]
    """Numbers of loss levels that the runs have reached."""
    diverged: list[np.ndarray]
    """Steps at which runs diverged, as far as the records tell; -1 for sound ones."""
    pending: Snapshot | None = None
    """The last look, if it is not written yet."""
    ended: bool = False
    """A look was enough for whoever follows the run."""


@dataclass(frozen=True)
class Session:
    """A process at work on an experiment: all that stays the same between chunks."""

    experiment: Experiment
    folder: Path
    saved: Any
    """Orbax's manager of the checkpoints."""
    programs: list[Programs]
    factors: list[list[CompiledFactor]]
    """Compiled factors of every variant."""
    loader: Loader
    batches: EvalBatches
    watch: Stopwatch
    bar: ProgressBar
    log: Callable[[int, list[Row]], None]
    """Takes the rows of a look; `trackers.follow`."""
    enough: Callable[[], bool]
    """Tells after a look whether training is to end."""


def run(
    config: Config,
    path: str | Path,
    say: Callable[[str], None] = print,
    *,
    setting: Setting | None = None,
    optimizer: OptimizerMaker | None = None,
    progress: bool = True,
    enough: Callable[[], bool] | None = None,
) -> Outcome:
    """Train all variants of a configuration, from where the workdir left off.

    Args:
      config: as `config.default` makes it.
      path: the workdir; made if it is not there.
      say: told, in a sentence, what a person should know.
      setting: tasks and model; the configuration's if not given.
      optimizer: of a learning rate; the configuration's if not given.
      progress: whether a bar, or in a log a line a trajectory point, is shown.
      enough: asked whenever a look is in the records, whether training is to end; the
        chunk that is on the devices by then is still made.

    Raises:
      InputError: a value of the configuration, the data or the workdir is unfit; an
        existing run is untouched then, and a new workdir is free for another one.
    """
    commands.check_folder("train", path)
    made = resolve(config, setting, optimizer)
    config = made.config
    with workdir.claim(path) as folder:
        free = start.free(config)
        workdir.admit(folder, config, made.data, later=fields(), free=free)
        kept = start.kept(made, folder)
        with checkpoint.open_manager(
            folder, config.checkpoint.keep_last, kept
        ) as saved:
            step, states = start.start(made, folder, saved, say)
            if start.is_finished(made, step, states):
                say(f"{folder} is finished: step {step} of {config.steps}")
                return Outcome(step, None, None, {})
            # From here on a signal waits for the next boundary, compilation included.
            flat = workdir.flat(config)
            following = trackers.follow(config.log, folder, flat, step, say)
            shown = ProgressBar(config.steps, step, progress)
            with StopSignal() as stop, following as log, shown as bar:
                until = enough or (lambda: False)
                session = _prepare(made, folder, saved, step, states, bar, log, until)
                _bind(session, step)
                return _loop(session, _place(session, states), step, stop)


def _prepare(
    made: Experiment,
    folder: Path,
    saved: Any,
    step: int,
    states: list[TrainState],
    bar: ProgressBar,
    log: Callable[[int, list[Row]], None],
    enough: Callable[[], bool],
) -> Session:
    """Compile all that a process needs for an experiment."""
    setting, variants = made.setting, made.variants
    batches = evaluate.labelled(evaluation_of(made), setting)
    loader = loader_of(made, batches)
    watch = Stopwatch("training")
    with watch("compilation"):
        programs = compile_programs(setting, variants, states, loader)
        factors = compile_factors(made, states, initial=step == 0)
        temporaries = [factor.temporaries for each in factors for factor in each]
        if temporaries:
            kept = held(states, loader)
            memory.check({**kept, "temporaries of factors": max(temporaries)})
    return Session(
        *(made, folder, saved, programs, factors, loader, batches, watch, bar),
        *(log, enough),
    )


def evaluation_of(made: Experiment) -> EvalBatches:
    """Cut the splits that an experiment evaluates into batches."""
    config = made.config
    evaluated = {
        name: made.splits[name] for name in name_list("evaluate", config.evaluate)
    }
    return evaluate.eval_batches(evaluated, config.eval_batch_size)


def loader_of(made: Experiment, evaluation: EvalBatches) -> Loader:
    """Make the loader of an experiment.

    Args:
      made: the experiment.
      evaluation: batches of its evaluation.
    """
    config = made.config
    return make_loader(
        made.setting,
        made.variants,
        made.splits["train"],
        config.batch_size,
        int(np.diff(_bounds(made)).max()),
        evaluation,
        made.target.devices,
        config.data_parallel,
        streaming.is_needed(config.data.stream, data_pool(made.setting), made.target),
    )


def _bounds(made: Experiment) -> np.ndarray:
    """Steps at which a chunk ends, 0 included."""
    config = made.config
    return trajectory.boundaries(
        made.points, config.steps, config.steps_per_dispatch, made.traced
    )


def _bind(session: Session, step: int) -> None:
    """Make the folder that of this experiment; nothing is refused from here on."""
    made, folder = session.experiment, session.folder
    free = start.free(made.config)
    workdir.bind(folder, made.config, made.data, later=fields(), free=free)
    workdir.save_splits(folder, made.splits)
    provenance.add_session(folder, step, made.data)


def _place(session: Session, states: list[TrainState]) -> LoopState:
    """Put states on the devices."""
    reports = [report(state) for state in states]
    levels = tuple(session.experiment.config.trajectory.loss_levels)
    return LoopState(
        states=[p.shard(s) for p, s in zip(session.programs, states, strict=True)],
        reports=reports,
        levels=[trajectory.levels_reached(r.lowest_loss, levels) for r in reports],
        diverged=[np.asarray(r.diverged) for r in reports],
    )


def _loop(session: Session, state: LoopState, first: int, stop: StopSignal) -> Outcome:
    """Train, look, record and save, from boundary to boundary."""
    config, points = session.experiment.config, session.experiment.points
    step, signal = first, None
    # Whatever moves between host and device here, moves on purpose.
    traced = profile.tracer(session.folder, session.experiment.traced)
    with jax.transfer_guard("disallow"), traced as at:
        if first == 0:
            state = _look(session, state, 0)
            if config.checkpoint.keep_points:
                state = _write(session, state)
                _save(session, state, 0)
        bounds = _bounds(session.experiment)
        # A run that is prolonged goes on from what was its end.
        spans = list(pairwise([first, *bounds[bounds > first].tolist()]))
        chunks = session.loader.train_chunks(spans)
        for (begin, step), pools in zip(spans, chunks, strict=True):
            at(begin, state.states)
            state = _advance(session, state, pools, begin, step)
            state = _write(session, state)
            state = _look(session, state, step)
            signal = multihost.max_over_hosts(stop.number or 0) or None
            due = begin // config.checkpoint.every != step // config.checkpoint.every
            kept = config.checkpoint.keep_points and step in points
            finished = state.ended or _is_finished(session, state, step)
            if due or kept or signal or finished:
                state = _write(session, state)
                _save(session, state, step)
            if signal or finished:
                break
        with session.watch("checkpoints"):
            checkpoint.finish(session.saved)
    seconds = session.watch.seconds()
    reached = throughput(
        session.programs,
        step - first,
        seconds["training"],
        batch_size=config.batch_size,
        compute=config.compute_dtype,
        target=session.experiment.target,
    )
    provenance.note(session.folder, seconds=seconds, throughput=reached._asdict())
    return Outcome(step, signal, reached, seconds)


def _is_finished(session: Session, state: LoopState, step: int) -> bool:
    """Tell whether training ends here; losses are waited for only where they matter."""
    made = session.experiment
    if not made.config.stop_loss or step not in made.points:
        return start.is_finished(made, step, [])
    reports = [
        programs.gather(report)
        for programs, report in zip(session.programs, state.reports, strict=True)
    ]
    return start.is_finished(made, step, reports)


def _advance(
    session: Session,
    state: LoopState,
    pools: list[IndexedPool],
    begin: int,
    end: int,
) -> LoopState:
    """Dispatch the training of all variants from step ``begin`` to ``end``."""
    made = session.experiment
    looked_at = end in made.points or bool(made.config.trajectory.loss_levels)
    trained = [
        programs.train(states, pool, end - begin, looked_at)
        for programs, states, pool in zip(
            session.programs, state.states, pools, strict=True
        )
    ]
    return state._replace(
        states=[states for states, _ in trained],
        reports=[report for _, report in trained],
    )


def _look(session: Session, state: LoopState, step: int) -> LoopState:
    """Evaluate and measure the variants that have something to show after a step."""
    made, programs = session.experiment, session.programs
    levels = tuple(made.config.trajectory.loss_levels)
    reached = state.levels
    if levels:
        lowest = [
            p.gather(report.lowest_loss)
            for p, report in zip(programs, state.reports, strict=True)
        ]
        reached = [trajectory.levels_reached(loss, levels) for loss in lowest]
    wanted = [
        step in made.points or after > before
        for after, before in zip(reached, state.levels, strict=True)
    ]
    sums: list[list[PyTree]] = [[] for _ in made.shown]
    factors: list[list[PyTree]] = [[] for _ in made.shown]
    if any(wanted):
        jax.block_until_ready(state.states)  # the rest of training is not evaluation
        with session.watch("evaluation"):
            sums = _evaluated(session, state, wanted)
    for place, (i, variant) in enumerate(made.shown):
        if wanted[i] and session.factors[i]:
            on_host = told(programs[i].gather(state.states[i]), variant.shares)
            for factor in session.factors[i]:
                with session.watch(factor.name):
                    factors[place].append(factor.measure(on_host))
    look = Snapshot(step, list(state.reports), sums, factors)
    return state._replace(levels=reached, pending=look)


def _evaluated(
    session: Session, state: LoopState, wanted: list[bool]
) -> list[list[PyTree]]:
    """Sums of the variants that are wanted, as they are shown, part by part."""
    shown = session.experiment.shown
    sums: list[list[PyTree]] = [[] for _ in shown]
    for pools in session.loader.eval_chunks():
        for parts, (i, variant) in zip(sums, shown, strict=True):
            if wanted[i]:
                states, evaluate = state.states[i], session.programs[i].evaluate
                parts.append(evaluate(states, pools[i], variant.shares))
        jax.block_until_ready([parts[:-1] for parts in sums])  # or pools pile up
    return jax.block_until_ready(sums)


def _write(session: Session, state: LoopState) -> LoopState:
    """Write the pending look to the records, and show it."""
    look = state.pending
    if look is None:
        return state
    rows = []
    reports = [
        programs.gather(report)
        for programs, report in zip(session.programs, look.reports, strict=True)
    ]
    for place, (i, variant) in enumerate(session.experiment.shown):
        sums = session.programs[i].gather(look.sums[place])
        rows += _rows(session, variant, look, i, place, reports[i], sums, state)
    losses = {
        variant.name: _mean_loss(report)
        for variant, report in zip(session.experiment.variants, reports, strict=True)
    }
    if rows:
        multihost.on_primary_host(records.write)(session.folder, look.step, rows)
        session.log(look.step, rows)
    session.bar.show(look.step, losses, look.step in session.experiment.points)
    ended = state.ended or (bool(rows) and session.enough())
    diverged = [report.diverged for report in reports]
    return state._replace(diverged=diverged, pending=None, ended=ended)


def _rows(
    session: Session,
    variant: Variant,
    look: Snapshot,
    number: int,
    place: int,
    report: ChunkReport,
    sums: list[PyTree],
    before: LoopState,
) -> list[Row]:
    """Rows of one variant: divergence that is new, evaluation, and factors.

    Args:
      session: the process.
      variant: as it is shown.
      look: what was seen.
      number: of the variant that trains.
      place: of what is shown.
      report: of the variant that trains, on the host.
      sums: of its evaluation, on the host.
      before: with the runs that had diverged before.
    """
    made, step = session.experiment, look.step
    row = partial(record_rows.row, made.setting, variant, made.config.batch_size)
    new = np.flatnonzero((report.diverged >= 0) & (before.diverged[number] < 0))
    rows = list(record_rows.marks(row, new, np.asarray(report.diverged)))
    sound = np.flatnonzero(report.diverged < 0)
    if sums:
        joined = evaluate.join(sums, session.batches)
        rows += record_rows.values(
            row, made.setting, variant, step, sound, joined, session.batches
        )
        rows += record_rows.updates(row, variant, step, sound, report.smto)
    measured = look.factors[place]
    for factor, values in zip(session.factors[number], measured, strict=False):
        rows += factor.rows(row, step, sound.tolist(), values)
    return rows


def _save(session: Session, state: LoopState, step: int) -> None:
    """Save all runs; what was seen of them must be in the records by then."""
    with session.watch("checkpoints"):
        on_host = [
            programs.gather(states)
            for programs, states in zip(session.programs, state.states, strict=True)
        ]
        checkpoint.save(session.saved, step, on_host)
        provenance.note(session.folder, seconds=session.watch.seconds())


def _mean_loss(report: ChunkReport) -> float:
    """Mean training loss of the runs that are sound."""
    sound = report.losses[report.diverged < 0]
    return float(sound.mean()) if sound.size else float("nan")
