"""ForkMerge: train a target in branches, and merge them as far as they help it.

For every target, seed and learning rate of a training run (Jiang et al., NeurIPS 2023,
arXiv:2301.12618):

1. rank: the target trains with each other task, weights 1 and 1, for some epochs from
   the start; tasks are ranked by the validation loss that it has then;
2. fork: a branch for every number ``k`` of ``topk`` trains the target, weight 1, with
   the first ``k`` tasks of the ranking, weight ``1 / k`` each;
3. merge: every few epochs the branches are averaged by `merging.greedy_merge`, and all
   of them go on from there, each with its own state of the optimizer.

The model is at any step the merge of what the branches are then. It joins the records
as the variant ``forkmerge:TARGET/all``. Where this departs from the authors' code:

- Losses of validation decide, not accuracies: all objectives have them, and they hardly
  tie.
- A step takes the weighted sum of the losses, as the paper's equation does; the code
  draws one task a step with probabilities like the weights.
- Branches are merged as they are, trunk, heads and batch statistics. The code goes
  back to the checkpoint of a branch that was the best in validation of all time, hence
  from before the last merge where the branch did not get better.
- The last merge is for the records alone unless it is due, so that a run that is
  prolonged is the longer run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.console.signals import StopSignal
from mtl_jax.console.stopwatch import Stopwatch
from mtl_jax.options import check_items, is_positive, is_whole, some_of
from mtl_jax.storage import checkpoint, disk, provenance, records
from mtl_jax.storage.records import Row
from mtl_jax.studies import branches
from mtl_jax.studies.judge import Judge
from mtl_jax.training import groups, record_rows, trajectory
from mtl_jax.training.compile import blank_states, init_states
from mtl_jax.training.loop import Outcome
from mtl_jax.training.resolve import PROBE, Experiment
from mtl_jax.training.revisit import need_validation, reopened
from mtl_jax.training.step import TrainState
from mtl_jax.training.variants import Variant
from mtl_jax.types import AUXILIARIES, InputError, PyTree

FORKMERGE = "forkmerge"
"""Method of the variants in the records."""
FOLDER = "fork"
"""Folder in the workdir of what this needs to go on."""
OPTIONS = "fork.json"
SHARED = "shared"


def fork(
    path: str | Path,
    targets: str | Sequence[str] = (),
    *,
    topk: Sequence[int] = (0, 3, 5),
    epoch_step: float = 5,
    ranking_epochs: float = 1,
    changes: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Train the targets of a workdir's run by ForkMerge, as far as the run has come.

    Seeds, learning rates, batches, optimizer and points are the run's. Given again it
    goes on from where it was stopped or killed, and ends in the same bits; after the
    run was prolonged, too. Epochs are passes over the largest task.

    Beside losses and scores of the targets the records get, with split ``probe`` and
    scope ``shared``, weights of the branches ``merging_coefficient/top_K``, and at step
    0 the losses by which tasks were ranked, ``ranking_loss/OTHER``.

    Args:
      path: the workdir of a training run.
      targets: names of tasks, each with all others as its auxiliary tasks; all if none.
      topk: numbers of auxiliary tasks, one a branch; at most as many as there are.
      epoch_step: epochs from a merge to the next.
      ranking_epochs: epochs after which auxiliary tasks are ranked.
      changes: fields of the configuration such as ``data.dir``.
      say: told, in a sentence, what a person should know.

    Raises:
      InputError: no training run is there, or other data; an unknown task; options out
        of range, or others than those that it began with.
    """
    check_items("topk", topk, partial(is_whole, least=0), "name numbers of tasks")
    for name, value in (("epoch_step", epoch_step), ("ranking_epochs", ranking_epochs)):
        if not is_positive(value):
            raise InputError(f"{name} is {value!r}; it must be a positive number.")
    watch = Stopwatch("training")
    with reopened(path, changes or {}) as (folder, made):
        need_validation(made, f"{FORKMERGE} goes by validation and is chosen by it")
        named = some_of("targets", targets, made.setting.tasks) or made.setting.tasks
        chosen = tuple(task for task in made.setting.tasks if task in named)
        sizes = _sizes(topk, len(made.setting.tasks) - 1, say)
        options = {"targets": list(chosen), "topk": sizes, "epoch_step": epoch_step}
        period, ranking = _steps(made, epoch_step), _steps(made, ranking_epochs)
        place = folder / FOLDER
        options["ranking_epochs"] = ranking_epochs
        _check_options(place, options)
        runs = _labelled(made, branches.runs_of(made, chosen))
        keep = made.config.checkpoint.keep_last
        with checkpoint.open_manager(place, keep) as saved, StopSignal() as stop:
            session = _Session(
                made, folder, saved, Judge(made, runs), sizes,
                period, watch, say,
            )  # fmt: skip
            restored = checkpoint.restore(saved, session.blank(), say)
            step = restored[0] if restored else 0
            last = session.last(*restored) if restored else session.last()
            if restored and step == last:
                say(f"{FORKMERGE} is where its run is: step {step}")
                return Outcome(step, None, None, {})
            provenance.add_session(folder, step, made.data)
            if restored:
                say(f"going on from step {step} of {last}")
                fork = restored[1]
            else:
                disk.write_json(place / OPTIONS, disk.sealed(options))
                fork = session.begin(round(ranking))
            return session.train(fork, step, last, stop)


class Fork(NamedTuple):
    """All that training goes on from: arrays only, as a checkpoint has them."""

    states: TrainState
    """States of all branches ``[R B, ...]``."""
    tasks: np.ndarray
    """Targets and their best auxiliary tasks, in order, int32 ``[R, 1 + K]``."""
    looked: np.ndarray
    """Step of the last look that is in the records, int32 ``[]``."""


@dataclass(frozen=True)
class _Session:
    """A process at work: all that stays the same between chunks."""

    made: Experiment
    folder: Path
    saved: Any
    judge: Judge
    sizes: Sequence[int]
    """Numbers of auxiliary tasks of the branches."""
    period: float
    """Steps from a merge to the next."""
    watch: Stopwatch
    say: Callable[[str], None]

    @property
    def runs(self) -> Variant:
        return self.judge.runs

    def stack(self, tasks: np.ndarray) -> Variant:
        """Return the branches of runs with their targets and ranked tasks."""
        place = np.arange(tasks.shape[1])
        weights = [(place == 0) + (place > 0) * (place <= k) / max(k, 1)
                   for k in self.sizes]  # fmt: skip
        of_branch = np.repeat(tasks[:, None], len(self.sizes), axis=1)
        return branches.branched(self.made, self.runs, of_branch, np.array(weights))

    def blank(self) -> Fork:
        """Return zeros in the shapes of a checkpoint."""
        tasks = np.zeros((len(self.runs.seeds), 1 + max(self.sizes)), np.int32)
        states = blank_states(self.made.setting, self.stack(tasks))
        return Fork(states, tasks, np.zeros((), np.int32))

    def last(self, step: int = 0, fork: Fork | None = None) -> int:
        """Return the last step of the run's records.

        Raises:
          InputError: a checkpoint is beyond it, or what it wrote there is gone.
        """
        df: Any = records.read(self.folder)
        last = int(df["step"].max())
        ours = df[df["variant"].str.startswith(FORKMERGE)]["step"]
        if fork and (step > last or max(ours, default=-1) < fork.looked):
            raise InputError(
                f"{FORKMERGE} was at step {step}, and training has made records anew "
                f"since; delete {self.folder / FOLDER} to train by it anew, too."
            )
        return last

    def begin(self, steps: int) -> Fork:
        """Rank auxiliary tasks, record by what, and return what training starts from.

        Args:
          steps: of a short training of every target with every other task.
        """
        made, targets = self.made, self.runs.task_ids[:, 0]
        count = len(made.setting.tasks)
        others = np.array([np.delete(np.arange(count), target) for target in targets])
        firsts = np.broadcast_to(targets[:, None], others.shape)
        pairs, ones = np.stack([firsts, others], axis=-1), np.ones((count - 1, 2))
        variant = branches.branched(made, self.runs, pairs, ones)
        with self.watch("compilation"):
            trainer = branches.trainer(made, variant)
            states = init_states(made.setting, variant)
        with self.watch("ranking"):
            states = trainer.shard(states)
            bounds = [*range(0, steps, trainer.loader.chunk), steps]
            for _, train in trainer.chunks(bounds):
                states = train(states)
            models = branches.models(trainer.gather(states), len(targets))
            losses = self.judge.losses(models)
        order = np.argsort(np.nan_to_num(losses, nan=np.inf), axis=1, kind="stable")
        ranked = np.take_along_axis(others, order, axis=1)[:, : max(self.sizes)]
        tasks = np.concatenate([targets[:, None], ranked], axis=1).astype(np.int32)
        rows = [
            self._row(
                run, 0, f"ranking_loss/{made.setting.tasks[others[run, k]]}", loss
            )
            for (run, k), loss in np.ndenumerate(losses)
        ]
        records.merge(self.folder, 0, rows)
        states = init_states(made.setting, self.stack(tasks))
        return Fork(states, tasks, np.zeros((), np.int32))

    def train(self, fork: Fork, step: int, last: int, stop: StopSignal) -> Outcome:
        """Train, merge, look and save, from boundary to boundary."""
        config, points = self.made.config, set(self.made.points.tolist())
        with self.watch("compilation"):
            trainer = branches.trainer(self.made, self.stack(fork.tasks))
        times = np.arange(1, last / self.period + 1)
        merges = set((times * self.period).round().astype(int).tolist())
        stops = {*points, *merges, last}
        bounds = trajectory.boundaries(
            np.array([each for each in stops if each <= last]),
            last,
            config.steps_per_dispatch,
        )
        if step == 0:
            fork = self._look(fork, 0, is_merge=False, is_seen=True)
            self._save(fork, 0)
        states, signal = trainer.shard(fork.states), None
        for end, train in trainer.chunks([step, *bounds[bounds > step].tolist()]):
            states, begin, step = train(states), step, end
            is_seen, is_merge = end in points or end == last, end in merges
            signal, period = stop.number, config.checkpoint.every
            is_due = begin // period != end // period or signal or end == last
            if is_seen or is_merge or is_due:
                fork = fork._replace(states=trainer.gather(states))
            if is_seen or is_merge:
                fork = self._look(fork, end, is_merge=is_merge, is_seen=is_seen)
            if is_merge:
                states = trainer.shard(fork.states)
            if is_due:
                self._save(fork, end)
            if signal:
                break
        seconds = self.watch.seconds()
        provenance.note(self.folder, seconds=seconds)
        return Outcome(step, signal, None, seconds)

    def _look(self, fork: Fork, step: int, *, is_merge: bool, is_seen: bool) -> Fork:
        """Merge the branches, for the records or for good."""
        runs, states = self.runs, fork.states
        with self.watch("merging"):
            merged = self.judge.merge(branches.models(states, len(runs.seeds)))
        if is_seen:
            with self.watch("evaluation"):
                sums = self.judge.evaluate(merged.params)
            diverged = np.reshape(states.diverged, (len(runs.seeds), -1))
            rows = self._rows(step, sums, np.asarray(merged.coefficients), diverged)
            records.merge(self.folder, step, rows)
            self.say(f"step {step}: {len(rows)} values")
            fork = fork._replace(looked=np.array(step, np.int32))
        if is_merge:
            fork = fork._replace(states=branches.forked(states, merged.params))
        return fork

    def _rows(
        self, step: int, sums: PyTree, coefficients: np.ndarray, diverged: np.ndarray
    ) -> list[Row]:
        """Rows of a look; a run has diverged when all its branches have."""
        setting, runs = self.made.setting, self.runs
        row_of = partial(record_rows.row, setting, runs, self.made.config.batch_size)
        at = np.where((diverged < 0).any(axis=1), -1, diverged.max(axis=1))
        rows = list(record_rows.marks(row_of, np.flatnonzero(at >= 0), at))
        sound, batches = np.flatnonzero(at < 0), self.judge.batches
        rows += record_rows.values(row_of, setting, runs, step, sound, sums, batches)
        for (run, place), value in np.ndenumerate(coefficients):
            name = f"merging_coefficient/top_{self.sizes[place]}"
            rows.append(self._row(run, step, name, value))
        return rows

    def _row(self, run: int, step: int, name: str, value: float) -> Row:
        """Row of a run and its target, about its branches."""
        setting, size = self.made.setting, self.made.config.batch_size
        target = int(self.runs.task_ids[run, 0])
        return record_rows.row(
            setting, self.runs, size, run, step, PROBE, target, name, value, SHARED
        )

    def _save(self, fork: Fork, step: int) -> None:
        with self.watch("checkpoints"):
            checkpoint.save(self.saved, step, fork)


def _sizes(topk: Sequence[int], most: int, say: Callable[[str], None]) -> list[int]:
    """Return the numbers of auxiliary tasks of the branches."""
    sizes = sorted({min(k, most) for k in topk})
    if len(sizes) < 2:
        raise InputError(
            f"topk is {tuple(topk)}, of {most} auxiliary tasks: a single branch; name "
            f"two numbers up to {max(most, 1)}, such as 0,1."
        )
    if sizes != sorted(topk):
        text = ", ".join(map(str, sizes))
        say(f"a target has {most} auxiliary tasks: branches with {text} of them")
    return sizes


def _check_options(place: Path, options: dict[str, Any]) -> None:
    """Raise an `InputError` unless a folder is of these options, or a new one."""
    place.mkdir(exist_ok=True)
    path, before = place / OPTIONS, options
    remedy = f"delete {place} to train by {FORKMERGE} anew"
    if path.exists():
        try:
            before = disk.read_json(path)
        except ValueError as error:
            raise InputError(f"{path} cannot be read ({error}); {remedy}.") from error
    for name, value in options.items():
        if before.get(name) != value:
            raise InputError(
                f"{name} was {before.get(name)!r}, now {value!r}; give the old value "
                f"to go on, or {remedy}."
            )


def _labelled(made: Experiment, runs: Variant) -> Variant:
    """Name the runs as the records are to have them."""
    tasks, draw = made.setting.tasks, groups.make_draw(made.config.groups)
    members = [
        (
            FORKMERGE,
            groups.parse(f"{tasks[t]}{AUXILIARIES}{groups.ALL}", tasks, draw)[0],
        )
        for t in runs.task_ids[:, 0]
    ]
    return runs._replace(name=FORKMERGE, labels=groups.labels(members, tasks))


def _steps(made: Experiment, epochs: float) -> float:
    """Return the steps that so many epochs have.

    Raises:
      InputError: less than one.
    """
    epoch = max(map(len, made.splits["train"])) / made.config.batch_size
    if epochs * epoch < 1:
        raise InputError(
            f"epoch_step and ranking_epochs are at least a step, {1 / epoch:.3g} of an "
            f"epoch here; {epochs:g} is less."
        )
    return epochs * epoch
