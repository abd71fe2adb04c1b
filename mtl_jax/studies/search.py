"""A search for candidates where a grid is too large, by Optuna.

Every optimizer and method has a study of Optuna's, all of them in ``search.log`` of the
study's folder. Its sampler draws learning rates between the ends of the grid, and
numbers among the options likewise, on a log scale where all values are positive; all
else is one of the grid's values. Its pruner ends trials that fall behind.
Candidates are worth what a sweep chooses optimizers by (`objective.mean_validation`).

What the next trial is depends on those that are finished, and on nothing else: whoever
kills a search and gives its command again gets the same trials.
"""

import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax import smto
from mtl_jax.options import is_whole, one_of
from mtl_jax.storage import records
from mtl_jax.storage.commands import SWEEP
from mtl_jax.studies import grid, objective
from mtl_jax.studies.trial import Engine, Say, Trial
from mtl_jax.training import variants
from mtl_jax.types import Config, InputError

LOG = "search.log"
DEFAULTS: dict[str, Any] = {
    "trials": 0,
    "at_once": 1,
    "sampler": "tpe",
    "pruner": "median",
}
"""Fields of a study's ``search``; no trials: the whole grid is swept."""
SAMPLERS, PRUNERS = ("tpe", "random"), ("none", "median", "hyperband")
WARMUP = 0.1
"""Share of the steps before which the median ends no trial."""
DIGITS = 4
"""Significant digits of an option; a learning rate has all, to tell trials apart."""
PRUNED = "pruned"
"""Attribute of a trial that its pruner has ended."""


class Place(NamedTuple):
    """A study of Optuna's: where it is, and what it draws for."""

    log: Path
    name: str
    optimizer: str
    names: tuple[str, ...]
    """Variants, which train together."""
    config: Config
    """Configuration of the whole study."""
    tasks: tuple[str, ...]


def check(config: Config) -> None:
    """Check the fields of a search.

    Raises:
      InputError: one of them is unfit, Optuna is missing, or there is nothing to draw.
    """
    search, rates = config.search, tuple(config.grid.learning_rates)
    for name in ("trials", "at_once"):
        least = name == "at_once"
        if not is_whole(search[name], least):
            raise InputError(
                f"search.{name} is {search[name]!r}; give a whole number, at least "
                f"{int(least)}."
            )
    one_of("search.sampler", search.sampler, SAMPLERS)
    one_of("search.pruner", search.pruner, PRUNERS)
    if not search.trials:
        return
    if importlib.util.find_spec("optuna") is None:
        raise InputError("Optuna is not installed; pip install 'mtl_jax[optuna]'.")
    if len(rates) < 2:
        raise InputError(
            f"grid.learning_rates are {rates}, and a search draws rates between the "
            f"smallest and the largest; name two, or sweep with search.trials=0."
        )
    if search.pruner != "none" and config.base.epochs:
        raise InputError(
            f"base.epochs is {config.base.epochs:g}, and search.pruner="
            f"{search.pruner} compares trials step by step; give base.steps, or "
            f"search.pruner=none."
        )


def corners(config: Config, tasks: Sequence[str]) -> Iterator[Trial]:
    """Yield trials in which every value of every option is there once.

    Raises:
      InputError: an option has no values.
    """
    rates = tuple(config.grid.learning_rates)
    for optimizer, names in itertools.product(
        grid.optimizers(config), grid.families(config, tasks)
    ):
        values = grid.tried_values(config, names[0])
        if not all(values.values()):
            raise InputError(
                f"grid.options.{variants.smto_of(names[0])} has an option without "
                f"values: {values}; name at least one."
            )
        for k in range(max(map(len, values.values()), default=1)):
            options = {name: of[k % len(of)] for name, of in values.items()}
            cell = (names, optimizer, max(config.grid.batch_sizes), options)
            yield grid.candidate(config, tasks, cell, rates)


def run(
    config: Config, tasks: Sequence[str], folder: Path, engine: Engine, say: Say
) -> int | None:
    """Search, from where it was left.

    Args:
      config: of the study.
      tasks: names of the setting's tasks.
      folder: of the study.
      engine: trains trials.
      say: told what comes out.

    Returns:
      Number of the signal that stopped it; None if all trials are finished.

    Raises:
      InputError: ``search.log`` cannot be read.
    """
    places = _places(config, tasks, folder)
    studies = [_open(place) for place in places]
    while drawn := [
        (place, study, number, params)
        for place, study in zip(places, studies, strict=True)
        for number, params in _draw(place, study)
    ]:
        planned = [_trial(place, number, params) for place, _, number, params in drawn]
        if signal := engine(planned, folder / SWEEP, say):
            return signal
        for (place, study, number, _), trial in zip(drawn, planned, strict=True):
            df = records.read(folder / SWEEP / trial.name)
            _tell(study, number, objective.value_of(config.select, df))
            say(_account(place, study))
    return None


def trials(config: Config, tasks: Sequence[str], folder: Path) -> list[Trial]:
    """List the trials of a search that were drawn, and as many more as are to come."""
    listed = []
    for place in _places(config, tasks, folder):
        drawn = _drawn(_open(place)) if place.log.exists() else []
        listed += [_trial(place, t.number, t.params) for t in drawn]
        sizes = sorted(config.grid.batch_sizes)
        space = {"learning_rate": config.grid.learning_rates[0]}
        space["batch_size"] = sizes[len(sizes) // 2]
        coming = config.search.trials - len(drawn)
        listed += [_trial(place, config.search.trials, space)] * coming
    return listed


def _places(config: Config, tasks: Sequence[str], folder: Path) -> list[Place]:
    return [
        Place(
            folder / LOG,
            f"{grid.name_of(names)}-{optimizer}",
            optimizer,
            tuple(names),
            config,
            tuple(tasks),
        )
        for optimizer, names in itertools.product(
            grid.optimizers(config), grid.families(config, tasks)
        )
    ]


def _open(place: Place) -> Any:
    """Open a study of Optuna's, or begin it."""
    import optuna
    from optuna.storages import JournalStorage, journal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = JournalStorage(journal.JournalFileBackend(str(place.log)))
        return optuna.create_study(
            storage=storage,
            study_name=place.name,
            direction="maximize",
            pruner=_pruner(place.config),
            load_if_exists=True,
        )
    except (ValueError, KeyError, UnicodeDecodeError) as error:
        raise InputError(
            f"{place.log} cannot be read ({error}); put a sound copy back, or choose "
            f"another --workdir."
        ) from error


def _pruner(config: Config) -> Any:
    from optuna import pruners

    steps = config.base.steps
    makers: dict[str, Callable[[], Any]] = {
        "none": pruners.NopPruner,
        "median": partial(pruners.MedianPruner, n_warmup_steps=int(WARMUP * steps)),
        "hyperband": partial(pruners.HyperbandPruner, max_resource=steps),
    }
    return makers[config.search.pruner]()


def _sampler(name: str, seed: int) -> Any:
    from optuna import samplers

    makers: dict[str, Callable[..., Any]] = {
        "tpe": samplers.TPESampler,
        "random": samplers.RandomSampler,
    }
    return makers[name](seed=seed)


def _space(place: Place) -> dict[str, Any]:
    """Return Optuna's distributions, by name."""
    from optuna import distributions

    sizes = tuple(place.config.grid.batch_sizes)
    space = {
        "learning_rate": _between(place.config.grid.learning_rates),
        "batch_size": distributions.CategoricalDistribution(sizes),
    }
    name = variants.smto_of(place.names[0])
    for option, values in grid.tried_values(place.config, place.names[0]).items():
        is_number = type(smto.options(name)[option]) is float and len(values) > 1
        choices = distributions.CategoricalDistribution
        space[f"{name}.{option}"] = _between(values) if is_number else choices(values)
    return space


def _between(values: Sequence[float]) -> Any:
    from optuna.distributions import FloatDistribution

    low, high = float(min(values)), float(max(values))
    return FloatDistribution(low, high, log=low > 0)


def _drawn(study: Any) -> list[Any]:
    """List the trials of Optuna's that count, finished or not."""
    from optuna.trial import TrialState

    return [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.FAIL]


def _draw(place: Place, study: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield numbers and parameters of the next trials; first those that were left."""
    from optuna.trial import TrialState

    space, search, finished, left = _space(place), place.config.search, 0, []
    for trial in _drawn(study):
        if trial.state.is_finished():
            finished += 1
        elif trial.params.keys() == space.keys():
            left.append((trial.number, trial.params))
        else:  # a kill came in between; drawn again it is the same
            study.tell(trial.number, state=TrialState.FAIL)
    yield from left
    end = (finished // search.at_once + 1) * search.at_once
    for count in range(finished + len(left), min(end, search.trials)):
        study.sampler = _sampler(search.sampler, count)
        trial = study.ask(space)
        yield trial.number, trial.params


def _trial(place: Place, number: int, params: dict[str, Any]) -> Trial:
    """Make a trial of ours of one of Optuna's."""
    options = {
        name.partition(".")[2]: _rounded(value)
        for name, value in params.items()
        if "." in name
    }
    cell = (place.names, place.optimizer, params["batch_size"], options)
    rates = (params["learning_rate"],)
    made = grid.candidate(place.config, place.tasks, cell, rates)
    prunes = place.config.search.pruner != "none"
    judge = partial(is_hopeless, place, number) if prunes else None
    return made._replace(name=f"{place.name}-{number:03d}", judge=judge)


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def is_hopeless(place: Place, number: int, folder: Path) -> bool:
    """Report what a trial's records say to its pruner, and return what that decides.

    Args:
      place: the study of Optuna's.
      number: of its trial.
      folder: of the trial.
    """
    import optuna

    study = _open(place)
    (known,) = [t for t in study.get_trials(deepcopy=False) if t.number == number]
    trial, df = optuna.Trial(study, known._trial_id), records.read(folder)
    for step in sorted(set(df["step"]) - known.intermediate_values.keys()):
        until = df[df["step"] <= step]
        trial.report(objective.value_of(place.config.select, until), int(step))
    pruned = trial.should_prune()
    if pruned:
        trial.set_user_attr(PRUNED, True)
    return pruned


def _tell(study: Any, number: int, value: float) -> None:
    """Tell Optuna that a trial is finished."""
    from optuna.trial import TrialState

    (known,) = [t for t in study.get_trials(deepcopy=False) if t.number == number]
    if PRUNED in known.user_attrs:
        study.tell(number, state=TrialState.PRUNED)
    else:
        study.tell(number, value)


def _account(place: Place, study: Any) -> str:
    """Say how far a study of Optuna's is, and which trial is the best."""
    from optuna.trial import TrialState

    listed = [t.state for t in study.get_trials(deepcopy=False)]
    pruned, complete = map(listed.count, (TrialState.PRUNED, TrialState.COMPLETE))
    text = f"{place.name}: {pruned + complete} of {place.config.search.trials} tried"
    text += f", {pruned} of them ended early" * (pruned > 0)
    if not complete:
        return text
    params = study.best_trial.params
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in params.items()}
    return f"{text}; best so far: {grid.text(shown)}"
