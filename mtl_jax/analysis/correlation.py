"""Rank correlation over tasks, or auxiliary sets, of what MT changes.

The units are tasks (sets), each with its mean over seeds and bins: bins and seeds of
one task are anything but independent. So a correlation says whether the tasks in which
MT changes one thing more are those in which it changes the other more. Every number of
that kind, of a table as of a verdict, comes from `rank_correlation`.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.interval import NO_MEAN, Mean
from mtl_jax.types import InputError

IDENTITIES = ("variant", "baseline", "split", "name", "factor", "scope", "kind")
COLUMNS = ["setting", "x", "y", "statistic", "value", "low", "high", "observations"]
COLUMNS += ["missing", "tasks", "not_comparable", "settings", "reason"]
FEWEST = 4
"""Degrees of freedom that an interval needs: with fewer, no correlation can be told
from another."""


class Correlation(NamedTuple):
    """A rank correlation over units, within groups."""

    value: float
    """Spearman's rho; NaN where it is not defined."""
    z: Mean
    """Its Fisher transform; NaN where there are too few units for an interval."""
    df: int
    """Units - 1, summed over groups."""
    units: int
    same_side: float
    """Share of units above the middle of their group in both, or below in both."""

    @property
    def low(self) -> float:
        """Return the lower end of the interval of 95%."""
        return float(np.tanh(self.z.low))

    @property
    def high(self) -> float:
        """Return the upper end of the interval of 95%."""
        return float(np.tanh(self.z.high))


def rank_correlation(
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    groups: Sequence[Hashable] | np.ndarray | None = None,
) -> Correlation:
    """Correlate ranks within groups by Spearman's rho, pooled over groups.

    Ranks are divided by the number of units + 1 and centred, group by group, so that
    neither levels nor scales of groups count. The error of Fisher's z is that of Bonett
    and Wright (2000), ``sqrt((1 + rho^2 / 2) / (df - 2))``. A perfect order counts as
    half a swap less. Groups of fewer than three units, or in which all have one x or y,
    are left out; so are units without x or y.

    >>> found = rank_correlation(range(6), [0, 1, 2, 4, 3, 5])
    >>> round(found.value, 2), found.df, round(found.low, 2), round(found.high, 2)
    (0.94, 5, 0.38, 1.0)
    """
    keys = np.array(
        [hash(key) for key in groups] if groups is not None else [0] * len(x)
    )
    pairs = np.column_stack([x, y]).astype(float).reshape(-1, 2)
    ranks, df, swap = [np.zeros((0, 2))], 0, 1.0
    for key in dict.fromkeys(keys.tolist()):
        rows = pairs[keys == key]
        rows = rows[np.isfinite(rows).all(axis=1)]
        # What rounding makes of a constant has no order.
        flat = np.ptp(rows, axis=0) <= 1e-12 * np.abs(rows).max(axis=0, initial=0.0) \
            if len(rows) else np.ones(2, bool)  # fmt: skip
        if len(rows) < 3 or flat.any():
            continue
        scaled = stats.rankdata(rows, axis=0) / (len(rows) + 1)
        ranks.append(scaled - scaled.mean(axis=0))
        df += len(rows) - 1
        swap = min(swap, 1 / (len(rows) + 1) ** 2)
    first, second = np.concatenate(ranks).T
    size = float(np.sqrt(first @ first * (second @ second)))
    if not size > 0:
        return Correlation(np.nan, NO_MEAN, df, len(first), np.nan)
    rho = float(first @ second) / size
    same = float(np.mean(first * second > 0))
    if df < FEWEST:
        return Correlation(rho, NO_MEAN, df, len(first), same)
    most = 1 - swap / size / 2
    rho = float(np.clip(rho, -most, most))
    error = float(np.sqrt((1 + rho**2 / 2) / (df - 2)))
    z = Mean(float(np.arctanh(rho)), error, np.inf)
    return Correlation(rho, z, df, len(first), same)


def correlate(
    table: Frame,
    x: str = "contrast",
    y: str = "gap",
    by: Sequence[str] | None = None,
) -> Frame:
    """Correlate x and y over the tasks of every setting, and over those of all.

    Statistics of the means of tasks over seeds and bins, of rows that have both:
      spearman: `rank_correlation`, with its interval of 95%; within settings over all.
      kendall: tau-b.
      sign_agreement: share of tasks of which x and y have one sign, among those where
        neither is 0.

    Args:
      table: rows of seeds (`contrasts`, `conflict_effects`).
      x: a column.
      y: a column.
      by: columns of which every combination is a table of its own; None for those of
        variant, baseline, split, name, factor, scope and kind that there are.

    Returns:
      The columns of ``by``; setting (empty: over all, if there are several); x, y;
      statistic; value, low, high; observations (tasks with x and y); missing (rows
      without x or y); tasks; not_comparable (tasks); settings; reason (why there is no
      value, or no interval of the first statistic).

    Raises:
      InputError: a column that the table lacks.
    """
    by = [name for name in IDENTITIES if name in table] if by is None else list(by)
    missing = {x, y, *by} - set(table.columns)
    if missing:
        raise InputError(
            f"the table lacks {', '.join(sorted(missing))}; it has: "
            f"{', '.join(table.columns)}."
        )
    rows = []
    groups = table.groupby(by, sort=False) if by else [((), table)]
    for key, group in groups:
        names = dict(zip(by, key, strict=True)) | {"x": x, "y": y}
        blocks = list(group.groupby("setting"))
        blocks += [("", group)] * (len(blocks) > 1)
        for setting, block in blocks:
            shown = {**names, "setting": setting}
            rows += [{**shown, **row} for row in _statistics(block, x, y)]
    return pd.DataFrame(rows)[[*by, *COLUMNS]]


def unit_means(table: Frame, x: str, y: str) -> Frame:
    """Average x and y over the seeds and bins that have both: a row per task.

    Of bins those that are ``lasting``, where the table says which (`gap`).
    """
    usable = table[table["comparable"]]
    if "lasting" in usable:
        usable = usable[usable["lasting"].astype(bool)]
    whole = usable[np.isfinite(usable[x]) & np.isfinite(usable[y])]
    return whole.groupby(["setting", "task"], sort=False)[[x, y]].mean().reset_index()


def _statistics(table: Frame, x: str, y: str) -> list[dict]:
    usable = table["comparable"]
    means = unit_means(table, x, y)
    settings = means["setting"].tolist()
    spearman = rank_correlation(means[x], means[y], settings)
    shared = {
        "observations": len(means),
        "missing": int((usable & ~np.isfinite(table[x] + table[y])).sum()),
        "tasks": len(means),
        "not_comparable": int(
            table[~usable][["setting", "task"]].drop_duplicates().shape[0]
        ),
        "settings": len(set(settings)),
    }
    short = "few tasks"
    if len(means) > FEWEST:
        short = f"{x} or {y} is constant"
    tau = np.nan
    if np.isfinite(spearman.value) and shared["settings"] == 1:
        tau = float(np.asarray(stats.kendalltau(means[x], means[y]))[0])
    product = np.sign(means[x]) * np.sign(means[y])
    signed = product[product != 0]
    agree = float((signed > 0).mean()) if len(signed) else np.nan
    shown = {
        "spearman": (spearman.value, spearman.low, spearman.high),
        "kendall": (tau, np.nan, np.nan),
        "sign_agreement": (agree, np.nan, np.nan),
    }
    why = {
        "spearman": "" if np.isfinite(spearman.low) else short,
        "kendall": "" if np.isfinite(tau) else short,
        "sign_agreement": "" if len(signed) else "no task has two signs",
    }
    return [
        {**shared, "statistic": name, "value": value, "low": low, "high": high}
        | {"reason": why[name]}
        for name, (value, low, high) in shown.items()
    ]
