"""Aggregates: a run in one number a quantity, by the paper's rules.

Mueller et al. (2024), footnote 5: generalization is the mean test score at the 10 best
validation points, sharpness and gradient covariance are means of the last 20 points,
the Fisher trace is the mean of its 20 largest values. A point is an epoch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import (
    CURVE,
    Frame,
    are,
    counted,
    score_names,
    training_split,
    values,
)
from mtl_jax.analysis.measures import measures
from mtl_jax.analysis.memo import memoised


class Aggregate(NamedTuple):
    """Rule by which a run becomes a number."""

    name: str
    """Recorded name; empty for the score of the task."""
    split: str
    scope: str
    kept: Callable[[np.ndarray], np.ndarray]
    """Selects of the values ``[P]``, in order, those whose mean it is."""
    wanted: int
    """Number of points that it is the mean of, where there are so many; 0: all."""
    direction: int
    """-1 where the paper's canon expects less to be better, +1 more, 0 neither."""


def _first(count: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: values[:count]


def _last(count: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: values[-count:]


def _largest(count: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: np.sort(values)[-count:]


AGGREGATES: dict[str, Aggregate] = {
    "score": Aggregate("", "test", "", _first(10), 10, 1),
    "sharpness": Aggregate(
        "adaptive_sharpness_linf", "probe", "task", _last(20), 20, -1
    ),
    "covariance": Aggregate("gradient_covariance", "probe", "task", _last(20), 20, -1),
    "fisher": Aggregate("fisher_trace", "probe", "task", _largest(20), 20, -1),
    "minimum_loss": Aggregate(
        "loss", "train", "", lambda v: np.sort(v)[:1], 1, -1
    ),
    "similarity": Aggregate(
        "gradient_similarity", "probe", "shared", lambda v: v, 0, 0
    ),
}  # fmt: skip
"""Aggregates by name; points of the score come best in validation first, others by
step."""
FACTORS = ("sharpness", "covariance", "fisher")
"""Aggregates of the paper's factors of generalization."""
COLUMNS = ["aggregate", "name", "split", "unit", "value", "points", "wanted"]


def epochs(df: Frame) -> Frame:
    """Select the points of every curve that the paper counts: one an epoch.

    They are those at 1, 2, ... epochs, to half an update, where a curve has all of
    these; or at n, 2n, ... epochs. Of other curves they are all points. Initialisation
    is none.

    Returns:
      A row per point: setting, variant, learning_rate, batch_size, seed, task; step;
      epoch (of the task's training data).
    """
    points = df[(df["task"] != "") & (df["step"] > 0)]
    points = points[[*CURVE, "step", "epoch"]].drop_duplicates([*CURVE, "step"])
    points = points.sort_values([*CURVE, "step"], ignore_index=True)
    kept = [
        group.index[_counts(group["step"].to_numpy(), group["epoch"].to_numpy())]
        for _, group in points.groupby(CURVE, sort=False)
    ]
    return points.loc[np.concatenate(kept)] if kept else points


def training_loss(df: Frame) -> Frame:
    """Select the training loss of every curve, up to divergence.

    It is that of all training data (split ``train``) of a task of which every curve has
    it, otherwise that of the probe.

    Returns:
      A row per point: setting, variant, learning_rate, batch_size, seed, task, step,
      value, diverged_at; split.

    Raises:
      InputError: a number is there twice.
    """
    of_split = df["split"] == training_split(df)
    chosen = df[of_split | (df["name"] == "diverged")]
    frames = [values(chosen, s, "loss").assign(split=s) for s in ("train", "probe")]
    return pd.concat(frames, ignore_index=True)


def aggregates(df: Frame, split: str = "test", score: str = "") -> Frame:
    """Reduce every curve to a number a quantity, see `AGGREGATES`.

    Points after divergence are left out, and those where a value is not finite. Of
    equal validation scores the one with the lower validation loss is the better, then
    the earlier. Scores are judged by their own validation value; where there is none,
    by the loss.

    Args:
      df: records, of any number of rates.
      split: of the score.
      score: name of the score, of tasks that have it; of others it is their first, or
        the loss if they have none.

    Returns:
      A row per curve and aggregate that the records allow: setting, variant,
      learning_rate, batch_size, seed, task; group, target (of the variant); aggregate,
      name (recorded), split; unit (of ``%`` the value is in percent), value; points (it
      is the mean of so many), wanted (by the paper's rule; 0 for all); diverged (the
      run did, later). Of variants with a target only their target has rows.

    Raises:
      InputError: a number is there twice, or a score of no known direction.
    """
    df = counted(df)
    at = epochs(df)
    frames = [_reduced("score", rows) for rows in _scores(df, at, split, score)]
    for name, rule in AGGREGATES.items():
        if name == "minimum_loss":
            rows = training_loss(df)
        elif rule.name:
            rows = values(df, rule.split, rule.name, rule.scope)
            rows = rows.assign(split=rule.split)
        else:
            continue
        rows = _finite(rows).merge(at, on=[*CURVE, "step"])
        unit = "nats" if rule.name == "loss" else ""
        frames.append(_reduced(name, rows.assign(name=rule.name, unit=unit)))
    table = pd.concat(frames, ignore_index=True)
    table = table.merge(labels(df), on=["setting", "variant"])
    table["aggregate"] = pd.Categorical(table["aggregate"], list(AGGREGATES))
    table = table.sort_values([*CURVE, "aggregate"], ignore_index=True)
    table["aggregate"] = table["aggregate"].astype(str)
    return table[[*CURVE, "group", "target", *COLUMNS, "diverged"]]


@memoised
def labels(df: Frame) -> Frame:
    """List group and target of every variant, empty of records that are older."""
    columns = ["setting", "variant", "group", "target"]
    first = df[df.columns.intersection(columns)].drop_duplicates(columns[:2])
    return first.reindex(columns=columns, fill_value="").fillna("")


def targets(df: Frame) -> list[tuple[str, str]]:
    """List settings with their targets, of settings without groups with all tasks."""
    tasks = df[df["task"] != ""][["setting", "task"]].drop_duplicates()
    aimed = labels(df).groupby("setting")["target"].agg(set).to_dict()
    return [
        (setting, task)
        for setting, task in tasks.itertuples(index=False, name=None)
        if not (named := aimed[setting] - {""}) or task in named
    ]


def headline(
    df: Frame, split: str, score: str = ""
) -> dict[str, list[tuple[str, str]]]:
    """Choose the score that a task is shown by, with the (setting, task) of each.

    It is ``score`` of tasks that have it, of others their first; the loss of a task
    without a score.
    """
    chosen: dict[str, list[tuple[str, str]]] = {}
    for key, names in score_names(df, split).items():
        name = score if score in names else next(iter(names), "loss")
        chosen.setdefault(name, []).append(key)
    return dict(sorted(chosen.items()))


def _counts(step: np.ndarray, epoch: np.ndarray) -> np.ndarray:
    """Places of the points of a curve that count."""
    nearest = np.round(epoch).astype(int)
    half = epoch / step / 2
    whole = (nearest > 0) & (np.abs(epoch - nearest) <= half * (1 + 1e-9))
    if whole.any():
        at = np.unique(nearest[whole])
        between = int(np.bincount(np.diff(at, prepend=0)).argmax())
        wanted = np.arange(between, int(np.max(epoch + half)) + 1, between)
        if np.isin(wanted, at).all():
            place = {number: i for i, number in enumerate(nearest) if whole[i]}
            return np.array([place[number] for number in wanted])
    return np.arange(len(step))


def _finite(rows: Frame) -> Frame:
    return rows[np.isfinite(rows["value"])]


def _scores(df: Frame, at: Frame, split: str, score: str) -> list[Frame]:
    """Values of every score with what they are judged by, the best first."""
    declared, frames = measures(df), []
    losses = values(df, "validation", "loss")[[*CURVE, "step", "value"]]
    for name, of_name in headline(df, split, score).items():
        rows = _finite(values(df, split, name)).merge(at, on=[*CURVE, "step"])
        rows = rows[are(rows, of_name)]
        if not len(rows):
            continue
        units = [declared[setting, name] for setting in rows["setting"]]
        judge = values(df, "validation", name)[[*CURVE, "step", "value"]]
        rows = rows.merge(_as(judge, "judge"), on=[*CURVE, "step"], how="left")
        rows = rows.merge(_as(losses, "judge_loss"), on=[*CURVE, "step"], how="left")
        rows["worse"] = -np.array([m.direction for m in units]) * rows["judge"]
        rows["value"] *= [measure.factor for measure in units]
        rows = rows.assign(name=name, unit=[m.unit for m in units], split=split)
        rows = rows[np.isfinite(rows["judge"].fillna(rows["judge_loss"]))]
        frames.append(rows.sort_values([*CURVE, "worse", "judge_loss", "step"]))
    return frames


def _as(rows: Frame, name: str) -> Frame:
    return rows.rename(columns={"value": name})


def _reduced(aggregate: str, rows: Frame) -> Frame:
    """A row per curve of rows whose points are in order."""
    rule = AGGREGATES[aggregate]
    reduced: list[dict[str, Any]] = []
    for keys, group in rows.groupby(CURVE, sort=False):
        kept = rule.kept(group["value"].to_numpy())
        first = group.iloc[0]
        reduced.append(
            dict(zip(CURVE, keys, strict=True))
            | {"aggregate": aggregate, "wanted": rule.wanted}
            | {name: first[name] for name in ("name", "split", "unit")}
            | {"value": float(np.mean(kept)), "points": len(kept)}
            | {"diverged": bool(np.isfinite(first["diverged_at"]))}
        )
    return pd.DataFrame(reduced, columns=[*CURVE, *COLUMNS, "diverged"])
