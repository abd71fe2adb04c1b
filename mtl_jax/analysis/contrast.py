"""Contrasts: the factors of MT against those of ST at the same training loss."""

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd

from mtl_jax.analysis.comparison import lone_row, named, pair_rows
from mtl_jax.analysis.curves import Frame, check, scopes
from mtl_jax.analysis.matching import Line, Matched, at_all, lines_of, match
from mtl_jax.options import one_of
from mtl_jax.types import InputError

SIGNED = frozenset({"mean_cosine", "min_cosine", "negative_pairs", "noise_scale"})
"""Factors that are 0 or negative as a matter of course: contrasted by difference."""

SCOPES = ("task", "shared")

NOWHERE = Line(np.zeros(0), np.zeros(0))
"""The line of what was not recorded."""


def contrasts(
    df: Frame,
    factors: Sequence[str] | None = None,
    variant: str = "multi",
    baseline: str = "single",
    split: str = "test",
    name: str = "loss",
    scope: str = "task",
    points: int = 20,
    *,
    differences: Collection[str] = SIGNED,
) -> Frame:
    """Tabulate each factor's contrast beside the gap, per pair of seeds and bin.

    The contrast is the log-ratio ``log(f_MT / f_ST)`` at the same training loss; log f
    is linear between points. Where a factor is not positive (one-step sharpness may be
    negative) or not finite at a point next to the bin, the contrast is missing, never
    0; `missing` says why, and counts by it are exact. Factors in ``differences`` are
    contrasted by ``f_MT - f_ST``. + is more of the factor in MT either way.

    Args:
      df: records.
      factors: names; None for all that both variants have in this scope.
      variant: MT.
      baseline: ST.
      split: of the gap.
      name: of the gap.
      scope: parameters that the factor is of: ``task`` or ``shared``.
      points: bins.
      differences: factors of which the contrast is a difference.

    Returns:
      setting, variant, baseline, split, name, factor, scope, kind (``log ratio`` or
      ``difference``), task; st_seed, mt_seed; bin (0 is the highest training loss);
      log_loss (log nats); st, mt (the factor there, NaN where missing); contrast; gap
      (signs: `gap`); missing (empty, ``not recorded``, ``not finite``, ``not
      positive``); comparable; reason. A task that is not comparable has one row per
      factor, with seeds and bin -1.

    Raises:
      InputError: a factor that is not in the records, or as `gap`.
    """
    check(df)
    one_of("scope", scope, SCOPES)
    known = _factors(df, (variant, baseline), scope)
    unknown = sorted(set(factors or ()) - set(known))
    if unknown or not known:
        raise InputError(
            f"the records hold no factor {', '.join(unknown) or 'at all'} of scope "
            f"{scope!r} of a task in both {baseline!r} and {variant!r}; they hold: "
            f"{', '.join(known) or 'none'}."
        )
    frames = []
    matched = match(df, variant, baseline, split, name, points)
    for factor in factors or known:
        lines = lines_of(df, "probe", factor, scope)
        log = factor not in differences
        kind = "log ratio" if log else "difference"
        for pair in matched:
            frame = _contrast(pair, lines, (baseline, variant), log)
            frame.insert(1, "kind", kind)
            frame.insert(1, "scope", scope)
            frame.insert(1, "factor", factor)
            frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    return named(table, variant=variant, baseline=baseline, split=split, name=name)


def _contrast(
    pair: Matched, lines: dict, variants: tuple[str, str], log: bool
) -> Frame:
    """Rows of one task and factor."""
    if pair.sides.reason:
        nothing = dict.fromkeys(["log_loss", "st", "mt", "contrast", "gap"], np.nan)
        return lone_row(pair.sides, {"bin": -1, **nothing, "missing": ""})
    levels = []
    for variant, seeds in zip(
        variants, (pair.sides.st_seeds, pair.sides.mt_seeds), strict=True
    ):
        by_seed = lines.get((pair.sides.setting, variant, pair.sides.task), {})
        levels.append(
            _factor(pair.log_loss, [by_seed.get(s, NOWHERE) for s in seeds], log)
        )
    (st, st_missing), (mt, mt_missing) = levels
    difference = mt[None] - st[:, None]
    missing = np.where(mt_missing[None] == "", st_missing[:, None], mt_missing[None])
    st, mt = (np.exp(side) if log else side for side in (st, mt))
    columns = {"st": st[:, None], "mt": mt[None], "contrast": difference}
    columns |= {"gap": pair.gap, "missing": missing}
    bins = {"bin": np.arange(len(pair.log_loss)), "log_loss": pair.log_loss}
    return pair_rows(pair.sides, bins, columns)


def _factor(
    log_loss: np.ndarray, lines: Sequence[Line], log: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The (log) factor of every seed ``[n, P]``, and why it is missing there."""
    transform = _log_where_positive if log else _finite
    transformed = at_all(log_loss, [_with(line, transform) for line in lines])
    finite = at_all(log_loss, [_with(line, _finite) for line in lines])
    inside = [
        (line.abscissa.min(initial=np.inf) <= log_loss)
        & (log_loss <= line.abscissa.max(initial=-np.inf))
        for line in lines
    ]
    missing = np.where(np.isnan(transformed), "not positive", "")
    missing = np.where(np.isnan(finite), "not finite", missing)
    return transformed, np.where(inside, missing, "not recorded")


def _with(line: Line, transform: Callable[[np.ndarray], np.ndarray]) -> Line:
    return line._replace(value=transform(line.value))


def _finite(value: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(value), value, np.nan)


def _log_where_positive(value: np.ndarray) -> np.ndarray:
    positive = np.isfinite(value) & (value > 0)
    return np.log(np.where(positive, value, np.nan))


def _factors(df: Frame, variants: tuple[str, str], scope: str) -> list[str]:
    """Factors of a task that both variants have, in the order of the records."""
    rows = df[(df["split"] == "probe") & (scopes(df) == scope) & (df["task"] != "")]
    first, second = (set(rows[rows["variant"] == v]["name"]) for v in variants)
    return [name for name in rows["name"].unique() if name in first & second]
