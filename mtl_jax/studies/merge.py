"""Merge the single-task runs of a workdir, and record what the merged models are worth.

Of every seed the tasks started from one trunk, so the ways from there to where they
came are task vectors. Merged models join the records as variants ``merged-NAME``: what
is said of variants, transfer, Delta_m and gaps at equal training loss, is said of them.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from mtl_jax import analysis, merging
from mtl_jax.analysis.variant import MERGED
from mtl_jax.console.stopwatch import Stopwatch
from mtl_jax.options import is_whole, one_of, some_of
from mtl_jax.storage import records, workdir
from mtl_jax.storage.records import Row
from mtl_jax.studies.bench import MULTI, Bench, Solutions, make_bench
from mtl_jax.studies.mergers import MERGERS
from mtl_jax.training import record_rows, variants
from mtl_jax.training.groups import SINGLE, Label
from mtl_jax.training.resolve import PROBE, Experiment
from mtl_jax.training.revisit import Look, Prepare, Work, need_validation, revisit
from mtl_jax.training.step import TrainState
from mtl_jax.types import InputError, PyTree

SCALES = tuple(round(0.1 * number, 1) for number in range(1, 11))
"""Scales of task vectors that are tried on validation data."""
UNLABELLED = ("validation", "test")
SHARED = "shared"
"""Scope of what is said of trunks."""
PAIRS = 10
"""Tasks up to which barriers between all pairs of single-task models are measured."""


def merge(
    path: str | Path,
    methods: str | Sequence[str] = (),
    *,
    steps: int = 500,
    batch_size: int = 32,
    unlabelled: str = "validation",
    changes: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """Merge the single-task runs of a workdir at all steps with a checkpoint.

    Merged models are evaluated as all others, and what is found joins the records of
    the step, in place of what they hold of it. Of several learning rates those are
    merged that validation chooses for each task. Scales are chosen by the mean
    validation loss over tasks, seed by seed.

    Beside them the records get, with split ``probe`` and scope ``shared``, lengths and
    cosines of task vectors (``task_vector_length``, ``task_vector_cosine/OTHER``),
    coefficients (``merging_coefficient``), and the loss barrier between models of one
    task (``barrier/OTHER``).

    Args:
      path: the workdir of a training run.
      methods: names out of `MERGERS`; all that fit the tasks if there is none.
      steps: of methods that learn coefficients.
      batch_size: examples of a task in each of them.
      unlabelled: split whose inputs are learned from without labels; ``test`` is what
        the methods' papers do.
      changes: fields of the configuration such as ``data.dir``.
      say: told, in a sentence, what a person should know.

    Returns:
      Wall time in seconds by what it went into.

    Raises:
      InputError: no training run is there, or other data; no single-task runs of all
        tasks; an unknown method, or one that does not fit the tasks.
    """
    named = some_of("methods", methods, MERGERS)
    _check(steps, batch_size, unlabelled)
    changes = changes or {}

    def admit(made: Experiment) -> Prepare:
        _check_splits(made)
        chosen = _fitting(made, named, say)

        def prepare(states: list[TrainState], folder: Path, watch: Stopwatch) -> Look:
            del states
            rates = _chosen_rates(records.read(folder))
            bench = make_bench(made, rates, steps, batch_size, unlabelled)
            return partial(_rows, bench, chosen, watch)

        return prepare

    work = Work("merge", "merging at", workdir.FREE, lambda _: None, admit)
    return revisit(path, changes, work, say)


def _check(steps: int, batch_size: int, unlabelled: str) -> None:
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if not is_whole(value, least=1):
            raise InputError(
                f"{name} is {value!r}; it must be a whole number, at least 1."
            )
    one_of("unlabelled", unlabelled, UNLABELLED)


def _check_splits(made: Experiment) -> None:
    need_validation(made, "merging chooses by validation")
    if not any(label.variant == SINGLE for v in made.variants for label in v.labels):
        raise InputError(
            "the run has no variant single, whose models are merged; train one with "
            "--config.variants=single,multi."
        )


def _fitting(
    made: Experiment, chosen: Sequence[str], say: Callable[[str], None]
) -> tuple[str, ...]:
    """Return the methods that fit the tasks: those that were chosen have to."""
    objectives = merging.of_heads(
        made.setting.data.objectives, made.setting.data.widths
    )
    without = [
        task
        for task, objective in zip(made.setting.tasks, objectives, strict=True)
        if objective.probabilities is None
    ]
    unfit = [name for name in MERGERS if MERGERS[name].needs_classes and without]
    for name in unfit:
        if name in chosen:
            raise InputError(
                f"{name} goes by what outputs say of classes, and {without[0]} has "
                f"none; choose from {', '.join(n for n in MERGERS if n not in unfit)}."
            )
    if unfit and not chosen:
        say(f"left out, as {without[0]} has no classes: {', '.join(unfit)}")
    return tuple(chosen) or tuple(name for name in MERGERS if name not in unfit)


def _chosen_rates(df: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return the learning rate that validation chooses, of every variant and task."""
    rows = analysis.select(df[df["variant"].isin([SINGLE, MULTI])])
    rows = rows[rows["task"] != ""].drop_duplicates(["variant", "task"])
    keys = rows[["variant", "task", "learning_rate"]]
    return {(v, t): rate for v, t, rate in keys.itertuples(index=False)}


def _rows(
    bench: Bench,
    methods: Sequence[str],
    watch: Stopwatch,
    states: list[TrainState],
    step: int,
) -> list[Row]:
    """Rows of all merged models at a step, and of what lies between models."""
    singles, together = bench.of_single(states), bench.of_multi(states)
    with watch("task vectors"):
        rows = list(_of_vectors(bench, singles, together, step))
    with watch("barriers"):
        rows += _of_pairs(bench, singles, step)
        if together is not None:
            rows += _of_barrier(bench, MULTI, SINGLE, singles, together, step)
    for name in methods:
        with watch(name):
            merged, model_states, sums = _best(bench, name, singles)
            rows += _values(bench, name, merged.coefficients, sums, step)
        with watch("barriers"):
            solutions = bench.per_task(merged.params, model_states)
            variant = MERGED + name
            rows += _of_barrier(bench, variant, SINGLE, singles, solutions, step)
            if together is not None:
                rows += _of_barrier(bench, variant, MULTI, together, solutions, step)
    return rows


def _best(bench: Bench, name: str, singles: Solutions) -> tuple[Any, Any, PyTree]:
    """Merge, and evaluate; of several scales each seed keeps the best."""
    scales = SCALES if MERGERS[name].is_scaled else (1.0,)
    tried, losses = [], []
    for scale in scales:
        merged, states = bench.merge(name, singles, scale)
        sums = bench.evaluate(merged.params, states)
        tried.append(jax.device_get((merged, states)) + (sums,))
        losses.append(_validation(bench, sums))
    best = np.nanargmin(np.nan_to_num(losses, nan=np.inf), axis=0)
    seeds = np.arange(len(best))
    return jax.tree.map(lambda *leaves: np.stack(leaves)[best, seeds], *tried)


def _validation(bench: Bench, sums: PyTree) -> np.ndarray:
    """Mean validation loss over tasks, of every seed."""
    here = bench.batches.split == "validation"
    loss, count = (sums[name][..., here].sum(axis=-1) for name in ("loss", "count"))
    return (loss / count).mean(axis=1)


def _row_of(bench: Bench, variant: str) -> Callable[..., Row]:
    """``(seed, step, split, task, name, value, scope) -> Row`` of a variant's runs.

    Seeds are those of the bench, by number.
    """
    made, trained = bench.made, {SINGLE: bench.singles, MULTI: bench.multi}
    row = partial(record_rows.row, made.setting)
    if variant in trained:
        number, runs = trained[variant]
        of_runs = partial(row, made.variants[number], made.config.batch_size)

        def of_trained(seed: int, step: int, split: str, task: int, *rest: Any) -> Row:
            run = runs[seed, task] if runs.ndim > 1 else runs[seed]
            return of_runs(int(run), step, split, task, *rest)

        return of_trained
    labels = tuple(Label(variant, run) for run in range(len(bench.variant.seeds)))
    named = bench.variant._replace(labels=labels, smto=variants.NO_SMTO)
    return partial(row, named, made.config.batch_size)


def _values(
    bench: Bench, name: str, coefficients: np.ndarray, sums: PyTree, step: int
) -> Iterator[Row]:
    row_of, setting = _row_of(bench, MERGED + name), bench.made.setting
    runs = np.arange(len(bench.variant.seeds))
    yield from record_rows.values(
        row_of, setting, bench.variant, step, runs, sums, bench.batches
    )
    for (run, task), value in np.ndenumerate(coefficients):
        if np.isfinite(value):
            name = "merging_coefficient"
            yield row_of(run, step, PROBE, task, name, value, SHARED)


def _of_vectors(
    bench: Bench, singles: Solutions, together: Solutions | None, step: int
) -> Iterator[Row]:
    """Rows of lengths of task vectors, and of the cosines between them."""
    tasks = bench.made.setting.tasks
    lengths, cosines, to_multi = bench.vectors(singles, together)
    row_of, name = _row_of(bench, SINGLE), "task_vector_cosine"
    for (run, task), length in np.ndenumerate(lengths):
        row = partial(row_of, run, step, PROBE, task)
        yield row("task_vector_length", length, SHARED)
        if together is not None:
            yield row(f"{name}/multi", to_multi[run, task], SHARED)
        for other, other_name in enumerate(tasks):
            if other != task:
                yield row(f"{name}/{other_name}", cosines[run, task, other], SHARED)


def _of_pairs(bench: Bench, singles: Solutions, step: int) -> Iterator[Row]:
    """Rows of barriers between the single-task trunks, under the head of the first."""
    tasks = bench.made.setting.tasks
    count, row_of = len(tasks), _row_of(bench, SINGLE)
    for shift in range(1, count if count <= PAIRS else 1):

        def turned(leaf: np.ndarray, shift: int = shift) -> np.ndarray:
            return np.roll(leaf, -shift, axis=1)

        trunks = jax.tree.map(turned, singles.params.shared)
        others = singles._replace(params=singles.params._replace(shared=trunks))
        for (run, task), value in np.ndenumerate(bench.barriers(singles, others)):
            name = f"barrier/{tasks[(task + shift) % count]}"
            yield row_of(run, step, PROBE, task, name, value, SHARED)


def _of_barrier(
    bench: Bench, variant: str, other: str, first: Solutions, second: Solutions,
    step: int,
) -> Iterator[Row]:  # fmt: skip
    row_of = _row_of(bench, variant)
    for (run, task), value in np.ndenumerate(bench.barriers(first, second)):
        yield row_of(run, step, PROBE, task, f"barrier/{other}", value, SHARED)
