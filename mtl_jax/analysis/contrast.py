"""Contrasts: the factors of MT against those of ST at the same training loss."""

from collections.abc import Collection, Sequence

import numpy as np

from mtl_jax.analysis.comparison import (
    Rows,
    lone_row,
    named,
    rows_of,
    seed_rows,
    stacked,
)
from mtl_jax.analysis.curves import Frame, check, scopes
from mtl_jax.analysis.matching import (
    Cloud,
    Matched,
    clouds_of,
    lasting,
    local_linear,
    match,
)
from mtl_jax.options import one_of
from mtl_jax.types import InputError

SIGNED = frozenset({"mean_cosine", "min_cosine", "negative_pairs", "noise_scale"})
"""Factors that are 0 or negative as a matter of course: contrasted by difference."""

SCOPES = ("task", "shared")

NOWHERE = Cloud(np.zeros(0), np.zeros(0), np.zeros(0))
"""The cloud of what was not recorded."""


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
    """Tabulate each factor's contrast beside the gap, per seed and bin.

    The contrast is the log-ratio ``log(f_MT / f_ST)`` at the same training loss, of the
    local regression of log f on the log loss. Where a factor is not positive (one-step
    sharpness may be negative) or not finite at a point that counts at the bin, the
    contrast is missing, never 0; `missing` says why. Factors in ``differences`` are
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
      ``difference``), task; seed; bin (0 is the highest training loss); log_loss (log
      nats); st, mt (the factor there, NaN where missing); contrast; gap (signs: `gap`);
      missing (empty, ``not recorded``, ``not finite``, ``not positive``); lasting (as
      `gap`); comparable; reason. A task that is not comparable has one row per factor,
      with seed and bin -1.

    Raises:
      InputError: a factor that is not in the records, or as `gap`.
    """
    check(df)
    factors = [factors] if isinstance(factors, str) else factors
    one_of("scope", scope, SCOPES)
    known = _factors(df, (variant, baseline), scope)
    unknown = sorted(set(factors or ()) - set(known))
    if unknown or not known:
        raise InputError(
            f"the records hold no factor {', '.join(unknown) or 'at all'} of scope "
            f"{scope!r} of a task in both {baseline!r} and {variant!r}; they hold: "
            f"{', '.join(known) or 'none'}."
        )
    rows = []
    matched = match(df, variant, baseline, split, name, points)
    for factor in factors or known:
        clouds = clouds_of(df, "probe", factor, scope, of=(baseline, variant))
        log = factor not in differences
        kind = "log ratio" if log else "difference"
        of = {"factor": factor, "scope": scope, "kind": kind}
        for pair in matched:
            part = _contrast(pair, clouds, (baseline, variant), log)
            rows.append({**rows_of(len(part["seed"]), of), **part})
    table = stacked(rows)
    table.insert(0, "setting", table.pop("setting"))
    return named(table, variant=variant, baseline=baseline, split=split, name=name)


def _contrast(
    pair: Matched, clouds: dict, variants: tuple[str, str], log: bool
) -> Rows:
    """Rows of one task and factor."""
    if pair.sides.reason:
        nothing = dict.fromkeys(["log_loss", "st", "mt", "contrast", "gap"], np.nan)
        nothing |= {"bin": -1, "missing": "", "lasting": False}
        return lone_row(pair.sides, nothing)
    levels = []
    for variant in variants:
        by_seed = clouds.get((pair.sides.setting, variant, pair.sides.task), {})
        rows = [
            _factor(pair.log_loss, by_seed.get(seed, NOWHERE), log)
            for seed in pair.sides.seeds
        ]
        levels.append([np.array(column) for column in zip(*rows, strict=True)])
    (st, st_missing), (mt, mt_missing) = levels
    contrast = mt - st
    missing = np.where(mt_missing == "", st_missing, mt_missing)
    st, mt = (np.exp(side) if log else side for side in (st, mt))
    columns = {"st": st, "mt": mt, "contrast": contrast}
    columns |= {"gap": pair.gap, "missing": missing}
    columns["lasting"] = lasting(pair)
    bins = {"bin": np.arange(len(pair.log_loss)), "log_loss": pair.log_loss}
    return seed_rows(pair.sides, bins, columns)


def _factor(
    log_loss: np.ndarray, cloud: Cloud, log: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The (log) factor of a seed ``[P]``, and why it is missing there."""
    x, value = cloud.log_loss, cloud.value
    if not len(x):
        return np.full(len(log_loss), np.nan), np.full(len(log_loss), "not recorded")
    fit = value > 0 if log else np.isfinite(value)
    usable = np.where(np.isfinite(value) & fit, value, np.nan)
    level = local_linear(log_loss, x, np.log(usable) if log else usable)
    finite = level
    if np.isnan(level).any():
        finite = local_linear(log_loss, x, np.where(np.isfinite(value), 0.0, np.nan))
    missing = np.where(np.isnan(level), "not positive", "")
    missing = np.where(np.isnan(finite), "not finite", missing)
    outside = (log_loss < x.min()) | (log_loss > x.max())
    return level, np.where(outside, "not recorded", missing)


def _factors(df: Frame, variants: tuple[str, str], scope: str) -> list[str]:
    """Factors of a task that both variants have, in the order of the records."""
    rows = df[(df["split"] == "probe") & (scopes(df) == scope) & (df["task"] != "")]
    first, second = (set(rows[rows["variant"] == v]["name"].unique()) for v in variants)
    return [name for name in rows["name"].unique() if name in first & second]
