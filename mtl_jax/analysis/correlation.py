"""Correlation of what MT changes in one thing with what it changes in another.

Observations are the rows of a table of seed pairs (`contrasts`, `conflict_effects`).
Those of one pair of runs are anything but independent, so intervals come from
resampling runs and tasks (`bootstrap`), never from the number of rows. A resample gives
every run a weight; rank statistics of weighted rows follow from counts per pair of
runs, without building the resample.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from mtl_jax.analysis.bootstrap import LEVEL, RESAMPLES, draw, interval, with_sample
from mtl_jax.analysis.curves import Frame
from mtl_jax.types import InputError

IDENTITIES = ("variant", "baseline", "split", "name", "factor", "scope", "kind")
COLUMNS = ["setting", "x", "y", "within", "statistic", "value", "low", "high"]
COLUMNS += [
    "interval",
    "observations",
    "missing",
    "tasks",
    "not_comparable",
    "settings",
]
COLUMNS += ["clusters", "reason"]
FEWEST = 3
"""Observations that a correlation needs."""


class Rows(NamedTuple):
    """Observations ``[N]`` and the pair of runs, of ``C``, that each is of."""

    x: np.ndarray
    y: np.ndarray
    pair: np.ndarray
    """int ``[N]``."""


def correlate(
    table: Frame,
    x: str = "contrast",
    y: str = "gap",
    by: Sequence[str] | None = None,
    *,
    within: Sequence[str] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Frame:
    """Correlate x and y within every setting, and on average over settings.

    Statistics:
      spearman: rank correlation of all observations.
      kendall: tau-b of all observations.
      sign_agreement: fraction of observations of which x and y have the same sign,
        among those where neither is 0.
      sign_agreement_of_means: the same of the means of every (task, MT seed) over bins
        and ST seeds: the units that come closest to independent.

    The first three have a percentile interval at 95% by resampling tasks, and the seeds
    of runs within; with fewer than two tasks there are only seeds to resample, and
    ``clusters`` says so. The last has Wilson's binomial interval over its units, which
    takes tasks that share MT runs for independent.

    Tasks that differ from each other, and whatever all tasks do in the course of
    training, make x and y go together without one saying anything of the other.
    ``within=("task", "bin")`` takes both away first: of x and of y remains what their
    task and their bin, added up, do not explain (least squares, once in the sample).

    Args:
      table: rows of seed pairs.
      x: a column.
      y: a column.
      by: columns of which every combination is a table of its own; None for those of
        variant, baseline, split, name, factor, scope and kind that there are.
      within: columns of which the differences do not count, such as task and bin.
      seed: of the bootstrap, which every setting draws from by its name.
      resamples: of the bootstrap.

    Returns:
      The columns of ``by``; setting (empty: mean over the settings in which the
      statistic is defined, if there are several); x, y, within; statistic; value, low,
      high; interval (``bootstrap``, ``wilson`` or ``none``); observations (units, of
      the last); missing (observations without x or y); tasks; not_comparable (tasks);
      settings; clusters; reason (why the value is not defined).

    Raises:
      InputError: a column that the table lacks.
    """
    by = [name for name in IDENTITIES if name in table] if by is None else list(by)
    missing = {x, y, *by, *within} - set(table.columns)
    if missing:
        raise InputError(
            f"the table lacks {', '.join(sorted(missing))}; it has: "
            f"{', '.join(table.columns)}."
        )
    statistics = []
    groups = table.groupby(by, sort=False) if by else [((), table)]
    for key, observations in groups:
        names = dict(zip(by, key, strict=True)) | {"x": x, "y": y}
        names["within"] = ", ".join(within)
        # By its name, a setting has its draws whatever else is in the table.
        one_by_one = [
            _of_setting(
                setting, rows, x, y, within, [seed, crc32(setting.encode())], resamples
            )
            for setting, rows in observations.groupby("setting")
        ]
        rows = [row for rows in one_by_one for row in rows]
        if len(one_by_one) > 1:
            rows += [_macro(group) for group in zip(*one_by_one, strict=True)]
        statistics += [{**names, **row} for row in rows]
    return pd.DataFrame(statistics)[[*by, *COLUMNS]]


def spearman(weights: np.ndarray, rows: Rows) -> np.ndarray:
    """Compute Spearman's rho ``[R]`` of rows weighted by their pair ``[R, C]``.

    The midrank of a row is a sum over pairs of runs of weight times the rows below it
    (and half of those at it). NaN where x or y is constant.
    """
    below_x, below_y = (_below(v, rows.pair) for v in (rows.x, rows.y))
    chunk = max(1, 4_000_000 // len(rows.x))  # 32 MB an array
    chunks = []
    for start in range(0, len(weights), chunk):
        part = weights[start : start + chunk]
        ranks = part @ below_x.T, part @ below_y.T  # [r, N]
        chunks.append(_pearson(part[:, rows.pair], *ranks))
    return np.concatenate(chunks)


def kendall(weights: np.ndarray, rows: Rows) -> np.ndarray:
    """Compute Kendall's tau-b ``[R]`` of rows weighted by their pair ``[R, C]``.

    Concordance is a quadratic form in the weights, with one entry per two pairs of
    runs. NaN where x or y is constant.
    """
    order = np.argsort(rows.pair, kind="stable")
    x, y, pair = rows.x[order], rows.y[order], rows.pair[order]
    starts = np.searchsorted(pair, np.arange(weights.shape[1]))
    forms = []
    for low, high in pairwise([*starts, len(pair)]):
        dx = np.sign(x[low:high, None] - x)
        dy = np.sign(y[low:high, None] - y)
        terms = np.stack([(dx * dy).sum(0), (dx != 0).sum(0), (dy != 0).sum(0)])
        forms.append(np.add.reduceat(terms, starts, axis=1))
    form = np.stack(forms, axis=1)  # [3, C, C]
    both, only_x, only_y = (((weights @ f) * weights).sum(axis=1) for f in form)
    return _divide(both, np.sqrt(only_x * only_y))


def sign_agreement(weights: np.ndarray, rows: Rows) -> np.ndarray:
    """Compute the fraction ``[R]`` of rows with x and y of one sign, without zeros."""
    product = np.sign(rows.x) * np.sign(rows.y)
    count = weights.shape[1]
    same = np.bincount(rows.pair, weights=product > 0, minlength=count)
    signed = np.bincount(rows.pair, weights=product != 0, minlength=count)
    return _divide(weights @ same, weights @ signed)


def _of_setting(
    setting: str,
    table: Frame,
    x: str,
    y: str,
    within: Sequence[str],
    seed: Sequence[int],
    resamples: int,
) -> list[dict[str, Any]]:
    """A row per statistic of one setting; ``resampled`` holds its resamples ``[R]``."""
    usable = table[table["comparable"]]
    whole = usable[np.isfinite(usable[x]) & np.isfinite(usable[y])]
    if within and len(whole):
        whole = whole.assign(**{name: _centred(whole, name, within) for name in (x, y)})
    shared = {
        "setting": setting,
        "missing": len(usable) - len(whole),
        "tasks": whole["task"].nunique(),
        "not_comparable": table[~table["comparable"]]["task"].nunique(),
        "settings": 1,
    }
    weights, pair, clusters = _weights(whole, seed, resamples)
    rows = Rows(whole[x].to_numpy(float), whole[y].to_numpy(float), pair)
    reason, ranked = _undefined(rows, x, y), []
    for name, statistic in RANKED.items():
        unordered = reason and (statistic is not sign_agreement or not len(whole))
        values = np.full(1, np.nan) if unordered else statistic(weights, rows)
        low, high = (float(end) for end in interval(values[1:]))
        why = reason if unordered else "no observation has two signs"
        ranked.append(
            {
                "statistic": name,
                "value": float(values[0]),
                "low": low,
                "high": high,
                "interval": "none" if np.isnan(low) else "bootstrap",
                "observations": len(whole),
                "clusters": "none" if unordered else clusters,
                "reason": why if np.isnan(values[0]) else "",
                "resampled": values[1:],
            }
        )
    return [{**shared, **row} for row in [*ranked, _of_means(whole, x, y)]]


def _centred(whole: Frame, name: str, within: Sequence[str]) -> np.ndarray:
    """Subtract from a column ``[N]`` what the levels of others, added up, explain."""
    values = whole[name].to_numpy(float)
    levels = [pd.get_dummies(whole[column]).to_numpy(float) for column in within]
    design = np.concatenate(levels, axis=1)
    effects = np.linalg.pinv(design.T @ design) @ (design.T @ values)
    left = values - design @ effects
    # What rounding leaves has neither order nor sign.
    return np.where(np.abs(left) <= 1e-9 * np.abs(values).max(), 0.0, left)


def _of_means(whole: Frame, x: str, y: str) -> dict[str, Any]:
    """Sign agreement of the means of every (task, MT seed), with Wilson's interval."""
    means = whole.groupby(["task", "mt_seed"])[[x, y]].mean().to_numpy()
    product = np.sign(means).prod(axis=1)
    same, units = int((product > 0).sum()), int((product != 0).sum())
    low = high = np.nan
    if units:
        wilson = binomtest(same, units).proportion_ci(LEVEL, method="wilson")
        low, high = float(wilson.low), float(wilson.high)
    return {
        "statistic": "sign_agreement_of_means",
        "value": same / units if units else np.nan,
        "low": low,
        "high": high,
        "interval": "wilson" if units else "none",
        "observations": units,
        "clusters": "none",
        "reason": "" if units else "no observation has two signs",
        "resampled": np.zeros(0),
    }


def _macro(group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of a statistic over the settings in which it is defined."""
    defined = [row for row in group if not np.isnan(row["value"])]
    value = low = high = np.nan
    if defined:
        value = float(np.mean([row["value"] for row in defined]))
        fewest = min(len(row["resampled"]) for row in defined)
        resampled = np.stack([row["resampled"][:fewest] for row in defined])
        low, high = (float(end) for end in interval(resampled.mean(axis=0)))
    totals = ("missing", "tasks", "not_comparable", "observations")
    return {
        "setting": "",
        "statistic": group[0]["statistic"],
        "value": value,
        "low": low,
        "high": high,
        "interval": "none" if np.isnan(low) else "bootstrap",
        **{name: sum(row[name] for row in group) for name in totals},
        "settings": len(defined),
        "clusters": "; ".join(dict.fromkeys(row["clusters"] for row in defined)),
        "reason": "" if defined else "not defined in any setting",
    }


def _weights(
    whole: Frame, seed: Sequence[int], resamples: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Weights ``[1 + R, C]`` of pairs of runs, first the sample; the pair of a row."""
    runs = whole[["task", "st_seed", "mt_seed"]]
    pairs = runs.drop_duplicates().sort_values(["task", "st_seed", "mt_seed"])
    tasks = pairs["task"].unique().tolist()
    by_task = [pairs[pairs["task"] == task] for task in tasks]
    st, mt = ([sorted(set(p[n])) for p in by_task] for n in ("st_seed", "mt_seed"))
    draws = draw(st, mt, seed=seed, resamples=resamples)
    weights, place = [], {}
    for task, i, j in pairs.itertuples(index=False):
        t = tasks.index(task)
        weight = draws.st[t][:, st[t].index(i)] * draws.mt[t][:, mt[t].index(j)]
        place[task, i, j] = len(weights)
        weights.append(draws.tasks[:, t] * weight)
    pair = [place[key] for key in runs.itertuples(index=False, name=None)]
    stacked = np.stack(weights, axis=1) if weights else np.zeros((0, 0))
    return with_sample(stacked), np.array(pair, np.int64), draws.clusters


def _undefined(rows: Rows, x: str, y: str) -> str:
    """Explain why ranks say nothing; empty where they do."""
    if len(rows.x) < FEWEST:
        return f"{len(rows.x)} observations, fewer than {FEWEST}"
    for name, values in ((x, rows.x), (y, rows.y)):
        # What rounding makes of a constant has no order either.
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            return f"{name} is constant"
    return ""


def _below(values: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """Count the rows of each pair below a row, or at it (half): ``[N, C]``."""
    columns = []
    for c in range(pair.max() + 1):
        ordered = np.sort(values[pair == c])
        sides = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
        columns.append(sum(sides) / 2)
    return np.stack(columns, axis=1)


def _pearson(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlation ``[R]`` of columns ``[R, N]``; NaN where one is constant."""
    total = weights.sum(axis=1, keepdims=True)
    total[total == 0] = np.nan
    x, y = (v - (weights * v).sum(axis=1, keepdims=True) / total for v in (x, y))
    # Midranks are multiples of a half: the variance of a constant is exactly 0.
    x_var, y_var = ((weights * v**2).sum(axis=1) for v in (x, y))
    return _divide((weights * x * y).sum(axis=1), np.sqrt(x_var * y_var))


def _divide(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)


RANKED: dict[str, Callable[[np.ndarray, Rows], np.ndarray]] = {
    "spearman": spearman,
    "kendall": kendall,
    "sign_agreement": sign_agreement,
}
"""Statistics that are resampled."""
