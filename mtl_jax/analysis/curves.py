"""Curves: what the records say of one task in one run, step by step."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from mtl_jax.analysis.memo import memoised
from mtl_jax.analysis.variant import MERGED
from mtl_jax.types import InputError

RUN = ["setting", "variant", "learning_rate", "batch_size", "seed", "run"]
CURVE = ["setting", "variant", "learning_rate", "batch_size", "seed", "task"]
FALLEN = 0.9
"""Share of the first training loss from which on it has clearly fallen: what comes
before is initialisation, where variants are alike by construction."""
COLUMNS = {*RUN, *CURVE, "step", "split", "name", "value"}

Frame = Any
"""A ``pandas.DataFrame``; a type checker cannot follow what becomes of one."""


@memoised
def align(df: Frame) -> Frame:
    """Add to the points of every curve the log training loss they are matched in.

    The training loss of a task is that of all its training data where every curve has
    it (split ``train``), otherwise that of the probe. Left out are the points before it
    has clearly fallen (`FALLEN`), after divergence, and where it is zero, negative or
    not finite; `curves` counts them. The abscissa is the antitonic regression of the
    log loss over the steps (Barlow et al., 1972), for the check of the matching.

    Returns:
      A row per point, by curve and step: setting, variant, learning_rate, batch_size,
      seed, task, step; loss (nats), log_loss (the raw cloud), abscissa (log nats);
      start (log of the first loss); diverged (the run of this curve did, later).

    Raises:
      InputError: several rates of a task, or a number that is there twice.
    """
    points = _marked(df)
    usable = points[points["kept"]].copy()
    usable["log_loss"] = np.log(usable["loss"])
    groups = usable.groupby(CURVE, sort=False)["log_loss"]
    usable["abscissa"] = groups.transform(
        lambda y: isotonic_regression(y.to_numpy(), increasing=False).x
    )
    usable["start"] = np.log(usable["first"])
    usable["diverged"] = usable["diverged_at"].notna()
    columns = [*CURVE, "step", "loss", "log_loss", "abscissa", "start", "diverged"]
    return usable[columns].reset_index(drop=True)


@memoised
def curves(df: Frame) -> Frame:
    """Count the points of every curve, and those that had to be dropped.

    Returns:
      A row per curve: setting, variant, learning_rate, batch_size, seed, task;
      diverged_at (step, NaN where it did not); points (kept), initial,
      after_divergence and unusable (dropped: before the loss has fallen; of a later
      step; loss zero, negative or not finite); sound (fit to be compared: did not
      diverge and has two points or more).

    Raises:
      InputError: several rates of a task, or a number that is there twice.
    """
    points = _marked(df)
    groups = points.groupby(CURVE)
    summary = groups.agg(
        diverged_at=("diverged_at", "first"),
        points=("kept", "sum"),
        initial=("initial", "sum"),
        after_divergence=("late", "sum"),
        unusable=("unusable", "sum"),
    ).reset_index()
    summary["sound"] = summary["diverged_at"].isna() & (summary["points"] >= 2)
    return summary


def trained(df: Frame) -> Frame:
    """Leave out the records of models that were merged; where there are none, none."""
    is_merged = df["variant"].str.startswith(MERGED)
    return df[~is_merged] if is_merged.any() else df  # itself is known to `memo`


def compared(df: Frame, baseline: str = "single") -> list[str]:
    """List the variants other than the baseline, in the order of the records."""
    return [name for name in df["variant"].unique() if name != baseline]


@memoised
def counted(df: Frame) -> Frame:
    """Keep the tasks that count: of a variant with a target, the target alone.

    >>> df = pd.DataFrame({"task": ["a", "b", ""], "target": "a"})
    >>> counted(df)["task"].tolist()
    ['a', '']
    """
    if "target" not in df:
        return df
    target = df["target"].fillna("")
    return df[(target == "") | (df["task"] == "") | (df["task"] == target)]


@memoised
def of_name(df: Frame, name: str) -> Frame:
    """Keep the records of a name, and the marks of divergence."""
    return df[df["name"].isin([name, "diverged"])]


@memoised
def values(df: Frame, split: str, name: str, scope: str = "") -> Frame:
    """Select a named value along every curve, without what came after divergence.

    Returns:
      setting, variant, learning_rate, batch_size, seed, task, step, value,
      diverged_at; by curve and step. Rows of all tasks together are left out.

    Raises:
      InputError: a number is there twice.
    """
    check(df)
    df = counted(of_name(df, name))
    wanted = (df["split"] == split) & (df["name"] == name) & (df["task"] != "")
    wanted &= scopes(df) == scope
    rows = with_divergence(df[wanted | (df["name"] == "diverged")])
    return _unique(rows[~(rows["step"] > rows["diverged_at"])])


@memoised
def score_names(df: Frame, split: str) -> dict[tuple[str, str], list[str]]:
    """List the scores of every (setting, task), in the order of the records."""
    check(df)
    of_task = df[df["task"] != ""]
    scored = of_task[(of_task["split"] == split) & (of_task["name"] != "loss")]
    scored = scored[scopes(scored) == ""]
    tasks = of_task[["setting", "task"]].drop_duplicates()
    names = {key: [] for key in tasks.itertuples(index=False, name=None)}
    unique = scored[["setting", "task", "name"]].drop_duplicates()
    for setting, task, name in unique.itertuples(index=False):
        names[setting, task].append(name)
    return names


def judged_by(names: Sequence[str]) -> str:
    """Choose what judges the points of a task: its only score, otherwise the loss."""
    return names[0] if len(names) == 1 else "loss"


def with_divergence(df: Frame) -> Frame:
    """Replace marks of divergence by ``diverged_at``: a step, NaN for a sound run."""
    is_mark = df["name"] == "diverged"
    first = df[is_mark].groupby(RUN)["step"].min().rename("diverged_at")
    return df[~is_mark].merge(first.reset_index(), how="left", on=RUN)


def are(rows: Frame, wanted: Collection[tuple[str, str]]) -> np.ndarray:
    """Mark the rows of some (setting, task)."""
    return pd.MultiIndex.from_frame(rows[["setting", "task"]]).isin([*wanted])


def scopes(df: Frame) -> Frame:
    """Return the scope of every row; records of before there were factors have none."""
    if "scope" not in df:
        return pd.Series("", index=df.index)
    return df["scope"].fillna("")


def check(df: Frame) -> None:
    """Raise where these are not records.

    Raises:
      InputError: a column is missing.
    """
    missing = COLUMNS - set(df.columns)
    if missing:
        raise InputError(
            f"the records lack the columns {', '.join(sorted(missing))}; give what "
            f"mtl_jax.storage.records.read returns."
        )


@memoised
def need_one_rate(df: Frame) -> None:
    """Raise where a task of a variant comes with several rates or batch sizes.

    Tasks may differ: each has the cell that was selected for it. Rows of no task are
    those of a run, and say nothing of what was selected.

    Raises:
      InputError: the first such task.
    """
    cell, of_task = ["learning_rate", "batch_size"], df[df["task"] != ""]
    rates = of_task[["setting", "variant", "task", *cell]].drop_duplicates()
    for (setting, variant, task), group in rates.groupby(
        ["setting", "variant", "task"]
    ):
        if len(group) > 1:
            pairs = ", ".join(
                f"{rate:g} and {size}"
                for rate, size in group[cell].itertuples(index=False)
            )
            raise InputError(
                f"{setting}: {variant!r} was trained on task {task!r} with "
                f"{len(group)} pairs of learning rate and batch size ({pairs}); keep "
                f"one, such as analysis.select(df) does by validation."
            )


def training_split(df: Frame) -> np.ndarray:
    """Choose the split of every row's training loss: ``train`` or ``probe``.

    It is that of all training data of a task of which every curve has it.
    """
    rows = df[(df["name"] == "loss") & (df["task"] != "")]
    probe, train = (
        rows[rows["split"] == split][CURVE].drop_duplicates().value_counts(
            ["setting", "task"]
        )
        for split in ("probe", "train")
    )  # fmt: skip
    whole = [key for key, count in train.items() if count >= probe.get(key, 0)]
    key = pd.MultiIndex.from_frame(df[["setting", "task"]])
    return np.where(key.isin(whole), "train", "probe")


def _training_losses(df: Frame) -> Frame:
    """Training loss of all curves, with what came after divergence."""
    check(df)
    df = counted(of_name(df, "loss"))
    need_one_rate(df)
    wanted = df["split"].isin(["probe", "train"]) & (df["name"] == "loss")
    split = training_split(df)
    of_split = wanted & (df["task"] != "") & (df["split"] == split)
    rows = with_divergence(df[of_split | (df["name"] == "diverged")])
    return _unique(rows).rename(columns={"value": "loss"})


@memoised
def _marked(df: Frame) -> Frame:
    """Mark every point of the training losses as kept, or by why it is not."""
    points = _training_losses(df)
    usable = np.isfinite(points["loss"]) & (points["loss"] > 0)
    points["late"] = points["step"] > points["diverged_at"]
    points["unusable"] = ~usable & ~points["late"]
    sound = points["loss"].where(usable & ~points["late"])
    by_curve = [points[name] for name in CURVE]
    points["first"] = sound.groupby(by_curve).transform("first")
    fallen = sound <= FALLEN * points["first"]
    begun = fallen.groupby(by_curve).cummax()
    points["initial"] = sound.notna() & ~begun
    points["kept"] = sound.notna() & begun
    return points


def _unique(rows: Frame) -> Frame:
    rows = rows[[*CURVE, "step", "value", "diverged_at"]]
    twice = rows.duplicated([*CURVE, "step"])
    if twice.any():
        row = rows[twice].iloc[0]
        raise InputError(
            f"{row['setting']}: {row['variant']!r}, seed {row['seed']}, task "
            f"{row['task']!r} has two numbers at step {row['step']}; read every run "
            f"once."
        )
    return rows.sort_values([*CURVE, "step"], ignore_index=True)
