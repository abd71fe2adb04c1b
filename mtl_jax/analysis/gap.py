"""The generalization gap: MT against ST at comparable training loss."""

import numpy as np
import pandas as pd

from mtl_jax.analysis.comparison import (
    Compared,
    Rows,
    lone_row,
    named,
    rows_of,
    seed_rows,
    stacked,
    tabulate,
)
from mtl_jax.analysis.curves import CURVE, Frame, align
from mtl_jax.analysis.matching import Matched, lasting, match

STATISTICS = ("mean", "early", "late")

ALIKE = 0.005
"""Share of ST's value by which two matchings may differ and say the same."""


def gap(
    df: Frame,
    variant: str = "multi",
    baseline: str = "single",
    split: str = "test",
    name: str = "loss",
    points: int = 20,
) -> Frame:
    """Compute the gap of every seed at every bin of training loss.

    Of the loss ``G(a) = b_MT(a) - b_ST(a)``: + is MT *worse*. Of a score the difference
    has the sign in which + is MT *better* (``b_ST - b_MT`` where less is better). Equal
    seeds are paired, for they share their start and their batches. Only sound curves
    are compared, over losses that both runs of a seed pass: nothing is extrapolated.
    What a training loss is worth is a local regression (`matching`).

    Returns:
      setting, variant (MT), baseline (ST), split, name, task; seed; bin (0 is the
      highest training loss); log_loss (log nats); st, mt (the values there); gap (NaN
      where one of the runs does not come); isotonic (the gap by isotonic matching: a
      check); lasting (whether `gap_summary` is of this bin); comparable; reason. A task
      that is not comparable has one row, with seed and bin -1.

    Raises:
      InputError: an unknown variant, split or name, or several rates of a variant.
    """
    rows = []
    for matched in match(df, variant, baseline, split, name, points):
        if matched.sides.reason:
            nothing = dict.fromkeys(["log_loss", "st", "mt", "gap", "isotonic"], np.nan)
            nothing |= {"bin": -1, "lasting": False}
            rows.append(lone_row(matched.sides, nothing))
        else:
            columns = {"st": matched.st, "mt": matched.mt, "gap": matched.gap}
            columns["isotonic"], columns["lasting"] = matched.isotonic, lasting(matched)
            rows.append(seed_rows(matched.sides, _bins(matched), columns))
    return named(
        stacked(rows), variant=variant, baseline=baseline, split=split, name=name
    )


def gap_curve(
    df: Frame,
    variant: str = "multi",
    baseline: str = "single",
    split: str = "test",
    name: str = "loss",
    points: int = 20,
) -> Frame:
    """Average the gap per bin, with a band of 95% that holds for the whole curve.

    Signs are those of `gap`; bands are those of `simultaneous.bands`, of a task with
    variances moderated over the tasks of its setting.

    Returns:
      setting, variant, baseline, split, name, task (empty: mean over tasks); bin;
      log_loss (log nats; NaN over tasks whose ranges differ: a bin is a part of each
      task's own range); gap, low, high (NaN where fewer than two seeds come); seeds
      (pairs at this bin); st_diverged, mt_diverged (curves); tasks (comparable);
      isotonic (the gap by the other matching); differs (the two matchings, by more than
      0.5% of ST's value); comparable; reason. What is not comparable has one row, bin
      -1.

    Raises:
      InputError: as `gap`.
    """
    matches = match(df, variant, baseline, split, name, points)
    compared = [Compared(item.sides, _bins(item), item.gap) for item in matches]
    nothing = {"bin": [-1], "log_loss": [np.nan]}
    table = tabulate(compared, "gap", nothing, simultaneous=True)
    checks = [_check(item) for item in matches if not item.sides.reason]
    keys = ["setting", "task", "bin"]
    if checks:
        table = table.merge(stacked(checks), how="left", on=keys)
    else:
        table = table.assign(isotonic=np.nan, differs=False)
    table["differs"] = table["differs"].fillna(value=False).astype(bool)
    order = [name for name in table if name not in ("comparable", "reason")]
    table = table[[*order, "comparable", "reason"]]
    return named(table, variant=variant, baseline=baseline, split=split, name=name)


def gap_summary(
    df: Frame,
    variant: str = "multi",
    baseline: str = "single",
    split: str = "test",
    name: str = "loss",
    points: int = 20,
) -> Frame:
    """Summarise the gap for C1: how large it is, and where it opens.

    ``mean``, ``early`` and ``late`` are of the part of the curve in which a gap must be
    there to be early and to persist: from a twentieth of the first training loss on,
    or, where training ends above the half of that, from twice the lowest loss on. Early
    and late are its first and its last third. A gap *opens* at the first bin from which
    on the band of `gap_curve` leaves 0 out, always on one side.

    Returns:
      setting, variant, baseline, split, name, task (empty: mean over tasks); statistic;
      value, low, high (signs of `gap`; t intervals, variances moderated over tasks);
      seeds (pairs), st_diverged, mt_diverged, tasks; opens_at (training loss, nats, NaN
      if it never does), opens_step, opens_epoch (of MT, mean over seeds; all three NaN
      over tasks); comparable; reason.

    Raises:
      InputError: as `gap`.
    """
    matches = match(df, variant, baseline, split, name, points)
    label = {"statistic": STATISTICS}
    compared = [Compared(item.sides, label, parts(item)) for item in matches]
    table = tabulate(compared, "value", label)
    curve = gap_curve(df, variant, baseline, split, name, points)
    opens = [
        {"setting": setting, "task": task, "opens_at": opening(rows)}
        for (setting, task), rows in curve.groupby(["setting", "task"])
    ]
    opens = pd.DataFrame(opens)
    opens.loc[opens["task"] == "", "opens_at"] = np.nan
    steps = [_step(df, variant, *row) for row in opens.itertuples(index=False)]
    opens[["opens_step", "opens_epoch"]] = np.reshape(steps, (-1, 2))
    table = table.merge(opens, on=["setting", "task"])
    order = [name for name in table if name not in ("comparable", "reason")]
    table = table[[*order, "comparable", "reason"]]
    return named(table, variant=variant, baseline=baseline, split=split, name=name)


def opening(curve: Frame) -> float:
    """Find the loss from which on the band leaves 0 out on one side; NaN if none.

    Args:
      curve: rows of `gap_curve` of one task.

    >>> low = [-1.0, 0.5, -0.1, 0.2, 0.3]
    >>> loss = np.log([2.0, 1.0, 0.5, 0.25, 0.125])
    >>> opening(pd.DataFrame({"low": low, "high": 1.0, "log_loss": loss}))
    0.25
    """
    side = np.where(curve["low"] > 0, 1, np.where(curve["high"] < 0, -1, 0))
    if not len(side) or side[-1] == 0:
        return float("nan")
    differs = np.flatnonzero(side != side[-1])
    first = differs[-1] + 1 if len(differs) else 0
    return float(np.exp(curve["log_loss"].to_numpy()[first]))


def parts(matched: Matched) -> np.ndarray:
    """Average the gap ``[n, 3]`` over all, the first and the last third of `lasting`.

    NaN of a seed that does not come to all three.
    """
    if matched.sides.reason:
        return np.full((0, len(STATISTICS)), np.nan)
    return sections(matched, matched.gap)


def sections(matched: Matched, values: np.ndarray) -> np.ndarray:
    """Average values ``[n, P]`` at the bins as `parts` does."""
    inside = values[:, lasting(matched)]
    third = max(1, round(inside.shape[-1] / 3))
    groups = (inside, inside[:, :third], inside[:, -third:])
    known = [np.isfinite(group) for group in groups]
    means = [
        np.divide(
            np.where(there, group, 0).sum(axis=1),
            there.sum(axis=1),
            out=np.full(len(group), np.nan),
            where=there.any(axis=1),
        )
        for group, there in zip(groups, known, strict=True)
    ]
    averaged = np.stack(means, axis=1)
    lost = np.isnan(averaged).any(axis=1, keepdims=True)
    return np.where(lost, np.nan, averaged)


def _bins(matched: Matched) -> dict[str, np.ndarray]:
    return {"bin": np.arange(len(matched.log_loss)), "log_loss": matched.log_loss}


def _check(matched: Matched) -> Rows:
    """The gap by isotonic matching at every bin, and whether it says something else."""
    both = np.isfinite(matched.gap) & np.isfinite(matched.isotonic)
    count = both.sum(axis=0)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.where(both, values, 0).sum(axis=0)
        return np.divide(total, count, np.full(len(count), np.nan), where=count > 0)

    isotonic = mean(matched.isotonic)
    away = np.abs(isotonic - mean(matched.gap))
    of = {"setting": matched.sides.setting, "task": matched.sides.task}
    of |= {"bin": np.arange(len(count)), "isotonic": isotonic}
    of["differs"] = away > ALIKE * np.abs(mean(matched.st))
    return rows_of(len(count), of)


def _step(
    df: Frame, variant: str, setting: str, task: str, loss: float
) -> tuple[float, float]:
    """Step and epoch at which the variant's runs first have a loss; mean over seeds."""
    if not np.isfinite(loss):
        return np.nan, np.nan
    points = align(df)
    at = (points["variant"] == variant) & (points["task"] == task)
    points = points[at & (points["setting"] == setting) & (points["loss"] <= loss)]
    step = float(points.groupby(CURVE)["step"].min().mean())
    if "epoch" not in df:
        return step, np.nan
    rows = df[(df["variant"] == variant) & (df["setting"] == setting)]
    known = rows[["step", "epoch"]].drop_duplicates("step").sort_values("step")
    return step, float(np.interp(step, known["step"], known["epoch"].astype(float)))
