"""The generalization gap: MT against ST at comparable training loss."""

import numpy as np
import pandas as pd

from mtl_jax.analysis.bootstrap import RESAMPLES
from mtl_jax.analysis.comparison import (
    Compared,
    lone_row,
    named,
    pair_rows,
    tabulate,
)
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.matching import Matched, match

STATISTICS = ("mean", "early", "late", "sign_agreement")


def gap(
    df: Frame,
    variant: str = "multi",
    baseline: str = "single",
    split: str = "test",
    name: str = "loss",
    points: int = 20,
) -> Frame:
    """Compute the gap of every pair of seeds at every bin of training loss.

    Of the loss ``G(a) = b_MT(a) - b_ST(a)``: + is MT *worse*. Of a score the difference
    has the sign in which + is MT *better* (``b_ST - b_MT`` where less is better). Only
    sound curves are compared, over the range of training losses that all of them pass
    through: nothing is extrapolated (spec/metrics.md, section 6).

    Returns:
      setting, variant (MT), baseline (ST), split, name, task; st_seed, mt_seed; bin (0
      is the highest training loss); log_loss (log nats); st, mt (the values there);
      gap; comparable; reason. A task that is not comparable has one row, with seeds and
      bin -1.

    Raises:
      InputError: an unknown variant, split or name, or several rates of a variant.
    """
    frames = []
    for matched in match(df, variant, baseline, split, name, points):
        if matched.sides.reason:
            nothing = {"bin": -1, "log_loss": np.nan, "st": np.nan, "mt": np.nan}
            frames.append(lone_row(matched.sides, {**nothing, "gap": np.nan}))
        else:
            columns = {"st": matched.st[:, None], "mt": matched.mt[None]}
            columns["gap"] = matched.gap
            frames.append(pair_rows(matched.sides, _bins(matched), columns))
    table = pd.concat(frames, ignore_index=True)
    return named(table, variant=variant, baseline=baseline, split=split, name=name)


def gap_curve(
    df: Frame,
    variant: str = "multi",
    baseline: str = "single",
    split: str = "test",
    name: str = "loss",
    points: int = 20,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Frame:
    """Average the gap per bin, with its interval, per task and over those of a setting.

    Signs are those of `gap`; intervals are percentiles at 95% (`bootstrap`): of a task
    over its seeds, of a setting over its comparable tasks and their seeds, bin by bin.

    Returns:
      setting, variant, baseline, split, name, task (empty: mean over tasks); bin;
      log_loss (log nats; NaN over tasks whose ranges differ: a bin is a part of each
      task's own range); gap, low, high (NaN where nothing can be resampled);
      st_seeds, mt_seeds (over tasks: the fewest), st_diverged, mt_diverged (curves);
      tasks (comparable); clusters (what was resampled); comparable; reason. What is not
      comparable has one row, bin -1.

    Raises:
      InputError: as `gap`.
    """
    compared = [
        Compared(matched.sides, _bins(matched), matched.gap)
        for matched in match(df, variant, baseline, split, name, points)
    ]
    nothing = {"bin": [-1], "log_loss": [np.nan]}
    table = tabulate(compared, "gap", nothing, seed, resamples)
    return named(table, variant=variant, baseline=baseline, split=split, name=name)


def gap_summary(
    df: Frame,
    variant: str = "multi",
    baseline: str = "single",
    split: str = "test",
    name: str = "loss",
    points: int = 20,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Frame:
    """Summarise the gap for C1: its size early and late, and whether its sign stays.

    ``mean`` over the grid; ``early`` and ``late``: over the third of the grid with the
    highest and the lowest training losses; ``sign_agreement``: the fraction of seed
    pairs of which these two have the same sign (a gap of exactly 0 has none, and is not
    counted). Signs and intervals are those of `gap_curve`.

    Returns:
      setting, variant, baseline, split, name, task (empty: mean over tasks); statistic;
      value, low, high; st_seeds, mt_seeds, st_diverged, mt_diverged, tasks, clusters;
      comparable; reason.

    Raises:
      InputError: as `gap`.
    """
    compared = [
        Compared(matched.sides, {"statistic": STATISTICS}, _sections(matched.gap))
        for matched in match(df, variant, baseline, split, name, points)
    ]
    table = tabulate(compared, "value", {"statistic": STATISTICS}, seed, resamples)
    return named(table, variant=variant, baseline=baseline, split=split, name=name)


def _bins(matched: Matched) -> dict[str, np.ndarray]:
    return {"bin": np.arange(len(matched.log_loss)), "log_loss": matched.log_loss}


def _sections(gaps: np.ndarray) -> np.ndarray:
    """``[..., P]`` to the four statistics ``[..., 4]``."""
    if not gaps.shape[-1]:
        return np.full((*gaps.shape[:-1], len(STATISTICS)), np.nan)
    third = max(1, round(gaps.shape[-1] / 3))
    early, late = gaps[..., :third].mean(axis=-1), gaps[..., -third:].mean(axis=-1)
    product = np.sign(early) * np.sign(late)
    agree = np.where(product == 0, np.nan, product > 0)
    return np.stack([gaps.mean(axis=-1), early, late, agree], axis=-1)
