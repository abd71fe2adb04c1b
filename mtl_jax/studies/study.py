"""A study of one setting: sweep, choose by validation, train what was chosen.

In its folder lie ``study.json`` (what was asked for), ``sweep/`` and ``final/`` (a
folder per trial), ``candidates.csv`` and ``selection.json`` (the choice), and
``selected/``: the records of what was chosen, as a training run leaves them.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtl_jax import analysis
from mtl_jax.analysis.curves import Frame, counted
from mtl_jax.console import eta
from mtl_jax.console.eta import Pace
from mtl_jax.options import check_items, is_whole, one_of
from mtl_jax.storage import candidates, commands, disk, provenance, records, workdir
from mtl_jax.storage.commands import SELECTED, STUDY, SWEEP
from mtl_jax.studies import grid, search, trial
from mtl_jax.studies.objective import mean_validation
from mtl_jax.studies.trial import Engine, Say, Trial
from mtl_jax.training import groups, variants
from mtl_jax.training.config import fields
from mtl_jax.training.resolve import Experiment, check_rates, check_seeds, resolve
from mtl_jax.types import Config, InputError

FINAL = "final"
RULE = (
    f"{analysis.RULE} All this is done for every optimizer; then one of them is taken "
    f"for all variants: that of the best mean of these values over tasks, then over "
    f"variants (of a loss or an error, less is better). One with a chosen candidate of "
    f"which every run diverged is taken last; of equals, the first in the grid."
)
CELL = ("variant", "learning_rate", "batch_size")
LOOKING = 2.0
"""Times that training takes when everything is looked at, before it is measured."""


def run(
    config: Config,
    path: str | Path,
    engine: Engine,
    say: Say = print,
    left: Callable[[], float | None] | None = None,
) -> int:
    """Sweep, choose, and train what was chosen, from where the folder was left.

    Args:
      config: as `configs/sweeps/default.py` makes it.
      path: folder of the study; made if it is not there.
      engine: trains trials: `trial.local`, or `ray_engine.engine`.
      say: told, in a sentence, what a person should know.
      left: seconds that all there is to do still takes; None: this study alone.

    Returns:
      Number of the signal that stopped it; 0 if it came to its end.

    Raises:
      InputError: a value of the configuration, the data or the folder is unfit;
        nothing was trained then.
    """
    commands.check_folder("sweep", path)
    made = check(config)
    tasks = made.setting.tasks
    with workdir.claim(path) as folder:
        trained = [folder.glob(f"{s}/*/{workdir.CONFIG}") for s in (SWEEP, FINAL)]
        if not any(map(any, trained)):
            # No trial was trained: a study that was refused does not bind the folder.
            (folder / STUDY).unlink(missing_ok=True)
        later = {f"base.{name}": value for name, value in fields().items()}
        later |= {f"search.{name}": value for name, value in search.DEFAULTS.items()}
        workdir.bind(folder, config, made.data, STUDY, later)

        def announce(text: str) -> None:
            seconds = left() if left else _seconds(remaining(config, tasks, folder))
            known = seconds is not None
            say(text + f"; about {eta.duration(seconds or 0)} left" * known)

        if config.search.trials:
            signal = search.run(config, tasks, folder, engine, announce)
        else:
            signal = engine(grid.sweep(config, tasks), folder / SWEEP, announce)
        if signal:
            return signal
        swept = _swept(config, tasks, folder)
        table = choose(config, tasks, swept, folder)
        chosen = table[table["chosen"]]
        for row in chosen.itertuples():
            say(_sentence(row))
        finals = grid.final(config, tasks, chosen)
        if signal := engine(finals, folder / FINAL, announce):
            return signal
        if finals:
            _gather(config, made.data, finals, chosen, folder)
    return 0


def check(config: Config) -> Experiment:
    """Resolve all that a study will train, before anything is trained.

    Returns:
      The experiment of all variants at the largest batch size.

    Raises:
      InputError: the first value that is unfit.
    """
    commands.check_config("sweep", config)
    sizes = tuple(config.grid.batch_sizes)
    check_items(
        "grid.batch_sizes",
        sizes,
        is_whole,
        "name at least one whole number above 0, each once",
    )
    check_rates("grid.learning_rates", config.grid.learning_rates)
    check_seeds("grid.seeds", config.grid.seeds)
    check_seeds("final.seeds", config.final.seeds)
    if config.grid.points < 1:
        raise InputError(f"grid.points is {config.grid.points}; it must be at least 1.")
    one_of("select.over", config.select.over, analysis.OVER)
    grid.check_options(config)
    search.check(config)
    union = copy.deepcopy(config.base)
    for seeds in (config.grid.seeds, config.final.seeds):
        union.update(
            learning_rates=tuple(config.grid.learning_rates),
            batch_size=max(sizes),
            seeds=tuple(seeds),
            single_runs=(),
        )
        union.optimizer.name = grid.optimizers(config)[0]
        made = resolve(union)
    sizes = tuple(map(len, made.splits["train"]))
    searched = config.search.trials > 0
    list_trials = search.corners if searched else grid.sweep
    for candidate in list_trials(config, made.setting.tasks):
        variants.make_all(candidate.config, made.setting.tasks, sizes)
    return made


def choose(
    config: Config, tasks: Sequence[str], swept: list[Trial], folder: Path
) -> Frame:
    """Choose by validation, and write down the candidates, the rule and the choice.

    Args:
      config: of the study.
      tasks: names of the setting's tasks.
      swept: trials of its sweep; none where there is one candidate.
      folder: of the study.

    Returns:
      `analysis.candidates` of every optimizer's sweep, with ``optimizer`` and
      ``options`` of each; chosen are some of one optimizer.
    """
    means: dict[str, float] = {}
    if swept:
        tables: list[Frame] = []
        for optimizer in grid.optimizers(config):
            trials = [t for t in swept if t.config.optimizer.name == optimizer]
            df = counted(_read(trials, folder / SWEEP))
            by, over = config.select.by or None, config.select.over
            ranked = analysis.candidates(df, by, over)
            options = {
                (variants.label(name), rate, t.config.batch_size): grid.text(t.options)
                for t in trials
                for name in t.config.variants
                for rate in t.config.learning_rates
            }
            cells = zip(*(ranked[name] for name in CELL), strict=True)
            ranked["options"] = [options[cell] for cell in cells]
            tables.append(ranked.assign(optimizer=optimizer))
            means[optimizer] = mean_validation(df, ranked)
        table: Frame = pd.concat(tables, ignore_index=True)
    else:
        table = grid.only(config, tasks)
        means = dict.fromkeys(grid.optimizers(config), np.nan)
    best = max(means, key=means.__getitem__)
    table["chosen"] &= table["optimizer"] == best
    names = variants.expand(config.base, tasks)
    place = {variants.label(name): i for i, name in enumerate(names)}
    table = table.sort_values("variant", key=lambda c: c.map(place), kind="stable")
    rates, sizes = config.grid.learning_rates, config.grid.batch_sizes
    table["at_edge"] = (
        table["learning_rate"].isin([min(rates), max(rates)]) & (len(rates) > 2)
    ) | (table["batch_size"].isin([min(sizes), max(sizes)]) & (len(sizes) > 2))
    kept = ["variant", "task", "optimizer", "learning_rate", "batch_size", "options"]
    kept += ["by", "validation", "at_edge"]
    content = {
        "rule": RULE,
        "over": config.select.over,
        "optimizer": best,
        "optimizers": {k: v if np.isfinite(v) else None for k, v in means.items()},
        "candidates_each": int(table.groupby(["variant", "task"]).size().max()),
        "chosen": table[table["chosen"]][kept].to_dict("records"),
    }
    candidates.write(folder, table, content)
    return table


def remaining(
    config: Config, tasks: Sequence[str], folder: Path, like: Pace | None = None
) -> tuple[float, Pace] | None:
    """Estimate the seconds that a study still takes, and the pace of its sweep.

    Args:
      config: of the study.
      tasks: of its setting.
      folder: of the study.
      like: pace of another study, to go by where nothing of this one is finished.

    Returns:
      None where there is nothing to go by.
    """
    swept = _swept(config, tasks, folder)
    if not swept:
        finals = grid.final(config, tasks, grid.only(config, tasks))
        return trial.remaining(finals, folder / FINAL, like)
    estimate = trial.remaining(swept, folder / SWEEP, like)
    if estimate is None:
        return None
    seconds, pace = estimate
    slower = Pace(*(LOOKING * part for part in pace))
    finals = _finals(config, tasks, folder)
    if finals is not None:
        later = trial.remaining(finals, folder / FINAL, slower)
        return seconds + (later[0] if later else 0), pace
    sizes = sorted(config.grid.batch_sizes)
    each = config.base.steps * sizes[len(sizes) // 2] * len(config.final.seeds)
    models = [
        len(tasks) if config.select.over == "task" and not groups.is_single(name) else 1
        for name in variants.expand(config.base, tasks)
    ]
    costs = [each * len(tasks)] * sum(models)
    return seconds + eta.seconds(slower, costs), pace


def _swept(config: Config, tasks: Sequence[str], folder: Path) -> list[Trial]:
    """List the trials of the sweep, those that are not drawn yet included."""
    searched = config.search.trials > 0
    return (
        search.trials(config, tasks, folder) if searched else grid.sweep(config, tasks)
    )


def _finals(config: Config, tasks: Sequence[str], folder: Path) -> list[Trial] | None:
    """Trials of what was chosen, if anything was; what is damaged is chosen again."""
    try:
        table, _ = candidates.read(folder)
        return grid.final(config, tasks, table[table["chosen"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _seconds(estimate: tuple[float, Pace] | None) -> float | None:
    return estimate[0] if estimate else None


def _sentence(row: Any) -> str:
    what = row.variant + f", {row.task}" * bool(row.task)
    cell = f"{row.optimizer}, learning rate {row.learning_rate:g}"
    cell += f", batch {row.batch_size}"
    cell += f", {row.options}" * bool(row.options)
    if not row.by:
        return f"{what}: {cell}, the only candidate"
    edge = " (at the edge of the grid)" * row.at_edge
    return f"chosen for {what}: {cell}, validation {row.by} {row.validation:.4g}{edge}"


def _gather(
    config: Config, data: dict, finals: list[Trial], chosen: Frame, folder: Path
) -> None:
    """Put the records of what was chosen where one training run would have them."""
    selected = folder / SELECTED
    selected.mkdir(exist_ok=True)
    df = analysis.keep(_read(finals, folder / FINAL), chosen)
    records.write_anew(
        selected,
        {int(s): rows.itertuples(index=False) for s, rows in df.groupby("step")},
    )
    sessions: list[dict] = []
    for trained in finals:
        sessions += provenance.sessions(folder / FINAL / trained.name)
    base = copy.deepcopy(config.base)
    base.seeds = tuple(config.final.seeds)
    (base.optimizer.name,) = chosen["optimizer"].unique()
    fields = workdir.identity(base, data)
    workdir.write_json(selected / workdir.CONFIG, disk.sealed(fields))
    provenance.write_sessions(selected, data, sessions)
    table, content = candidates.read(folder)  # of one run: what its optimizer tried
    tried: Frame = table[table["optimizer"] == content["optimizer"]]
    candidates.write(selected, tried, content)


def _read(trials: list[Trial], folder: Path) -> Frame:
    frames = [records.read(folder / trained.name) for trained in trials]
    return pd.concat(frames, ignore_index=True)
