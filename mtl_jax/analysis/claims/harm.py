"""C3: gradient conflict harms optimization, and does not predict generalization."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from mtl_jax.analysis.claims.interval import (
    ALPHA,
    NO_MEAN,
    Mean,
    negligible,
    p_above,
    p_below,
    p_nonzero,
)
from mtl_jax.analysis.claims.paired import Paired, percent, said
from mtl_jax.analysis.claims.row import (
    CONTRADICTED,
    NOT_COMPARABLE,
    SUPPORTED,
    ClaimRow,
    counted,
    not_comparable,
    p_written,
    unless_opposed,
    verdict,
)
from mtl_jax.analysis.conflict import conflict_effects
from mtl_jax.analysis.curves import Frame, values
from mtl_jax.analysis.transfer import tested
from mtl_jax.types import InputError

UNIT = "rank correlation"
OUTCOMES = {
    "optimization": "the loss of optimization",
    "generalization": "the gap at equal training loss",
    "transfer": "transfer",
}
"""The first must go with conflict, the others must not."""

FEWEST = 4
"""Degrees of freedom: with fewer, no correlation can be told from another."""


class Affected(NamedTuple):
    """A task with its conflict and what MT did to it, means over seeds."""

    setting: str
    task: str
    conflict: float
    """Minus the mean cosine with the other tasks."""
    outcomes: dict[str, float]
    """Effects of MT by `OUTCOMES`, percent of ST; + is worse, of transfer better."""
    seeds: int
    reason: str = ""


class Correlation(NamedTuple):
    """A rank correlation over tasks, within settings."""

    z: Mean
    """Its Fisher transform."""
    df: int
    tasks: int
    same_side: float
    """Share of tasks above the middle of their setting in both, or below in both."""


def observe(
    df: Frame, gaps: Sequence[Paired], variant: str, baseline: str, split: str
) -> list[Affected]:
    """Collect conflict and outcomes of every task, or the reason why there are none."""
    try:
        table = conflict_effects(df, variant, baseline, split, per_step=True)
        tests = tested(df, variant, baseline, split)
    except InputError as error:
        return [
            Affected(gap.setting, gap.task, np.nan, {}, 0, said(error)) for gap in gaps
        ]
    size = {(t.setting, t.task, t.name): np.array([*t.st.values()]) for t in tests}
    losses = values(df, "probe", "loss")
    losses = losses[losses["variant"] == baseline]
    by_key = {(gap.setting, gap.task): gap for gap in gaps}
    affected = []
    for (setting, task), rows in table.groupby(["setting", "task"]):
        if not rows["comparable"].all():
            why = rows["reason"].iloc[0]
            affected.append(Affected(setting, task, np.nan, {}, 0, why))
            continue
        at = (losses["setting"] == setting) & (losses["task"] == task)
        at &= losses["step"].isin(rows["step"]) & losses["seed"].isin(rows["st_seed"])
        gap = by_key[setting, task].values.get("mean", np.full(1, np.nan))
        scores = size[setting, task, rows["transfer_name"].iloc[0]]
        outcomes = {
            "optimization": percent(rows["effect"].mean(), losses[at]["value"]),
            "generalization": gap.mean() if len(gap) else np.nan,
            "transfer": percent(rows["transfer"].mean(), scores),
        }
        seeds = min(rows["st_seed"].nunique(), rows["mt_seed"].nunique())
        affected.append(
            Affected(setting, task, rows["conflict"].mean(), outcomes, seeds)
        )
    return affected


def correlation(tasks: Sequence[Affected], outcome: str) -> Correlation:
    """Correlate ranks within settings by Spearman's rho, pooled over settings.

    Ranks are divided by the number of tasks + 1 and centred, setting by setting, so
    that neither levels nor scales of settings count. The error of Fisher's z is that of
    Bonett and Wright (2000), ``sqrt((1 + rho^2 / 2) / (df - 2))``, with ``df`` the sum
    over settings of tasks - 1. A perfect order counts as half a swap less. Settings of
    fewer than three tasks, or in which all have one conflict or outcome, are left
    out.
    """
    ranks, df, swap = [np.zeros((0, 2))], 0, 1.0
    for setting in dict.fromkeys(task.setting for task in tasks):
        pairs = _pairs([task for task in tasks if task.setting == setting], outcome)
        if len(pairs) < 3 or not np.ptp(pairs, axis=0).all():
            continue
        scaled = stats.rankdata(pairs, axis=0) / (len(pairs) + 1)
        ranks.append(scaled - scaled.mean(axis=0))
        df += len(pairs) - 1
        swap = min(swap, 1 / (len(pairs) + 1) ** 2)
    x, y = np.concatenate(ranks).T
    size = float(np.sqrt(x @ x * (y @ y)))
    if df < FEWEST or not size > 0:
        return Correlation(NO_MEAN, df, len(x), np.nan)
    most = 1 - swap / size / 2
    rho = float(np.clip(x @ y / size, -most, most))
    error = float(np.sqrt((1 + rho**2 / 2) / (df - 2)))
    z = Mean(float(np.arctanh(rho)), error, np.inf)
    return Correlation(z, df, len(x), float(np.mean(x * y > 0)))


def judge(
    tasks: Sequence[Affected], settings: Sequence[str], variant: str, least: float
) -> list[ClaimRow]:
    """Judge every outcome and all together, in every setting and over all.

    Args:
      tasks: as observed.
      settings: their names.
      variant: MT.
      least: the correlation from which on conflict predicts.
    """
    rows, wholes = [], []
    for setting in [*settings, ""]:
        group = [task for task in tasks if setting in ("", task.setting)]
        parts = [_part(group, outcome, setting, variant, least) for outcome in OUTCOMES]
        rows += [*parts, _whole(parts, setting, variant)]
        wholes.append(rows[-1])
    rows[-1] = unless_opposed(rows[-1], wholes[:-1])
    return rows


def _part(
    tasks: Sequence[Affected], outcome: str, setting: str, variant: str, least: float
) -> ClaimRow:
    correlated = correlation(tasks, outcome)
    used = [task for task in tasks if not task.reason]
    row = ClaimRow("C3", setting, variant, outcome, unit=UNIT, margin=least)
    row = row._replace(tasks=correlated.tasks, reason=_reasons(tasks))
    row = row._replace(seeds=min((task.seeds for task in used), default=0))
    if np.isnan(correlated.z.value):
        why = (
            f"{correlated.df} degrees of freedom (tasks - 1, of settings of three "
            f"tasks or more that differ in conflict and outcome), fewer than {FEWEST}"
        )
        why = "; ".join(filter(None, [why, row.reason])) if used else row.reason
        return not_comparable(row, why or "no task")
    rho, low, high = (
        float(np.tanh(z))
        for z in (correlated.z.value, correlated.z.low, correlated.z.high)
    )
    limit = float(np.arctanh(least))
    if outcome == "optimization":
        p = p_nonzero(correlated.z)
        positive = p_above(correlated.z) <= ALPHA
        decided = verdict(
            positive, not positive and p_below(correlated.z, limit) <= ALPHA
        )
        test = f"{p_written(p)} of no correlation"
    else:
        p = max(p_below(correlated.z, limit), p_above(correlated.z, -limit))
        beyond = (
            min(p_above(correlated.z, limit), p_below(correlated.z, -limit)) <= ALPHA
        )
        decided = verdict(negligible(correlated.z, limit), beyond)
        test = f"{p_written(p)} of {least:g} or more, of either sign"
    told = (
        f"Over {counted(correlated.tasks, 'task')}, conflict and {OUTCOMES[outcome]} "
        f"correlate with {rho:+.2f} (95% interval {low:+.2f} to {high:+.2f}; {test})."
    )
    return row._replace(
        effect=rho,
        low=low,
        high=high,
        sign_consistency=correlated.same_side,
        p=p,
        verdict=decided,
        statement=told,
    )


def _whole(parts: Sequence[ClaimRow], setting: str, variant: str) -> ClaimRow:
    """Judge all outcomes: the claim needs each, and one is enough against it."""
    row = parts[0]._replace(subject="", setting=setting, variant=variant)
    short = [part for part in parts if part.verdict == NOT_COMPARABLE]
    if short:
        why = "; ".join(dict.fromkeys(part.reason for part in short))
        return not_comparable(row._replace(p=np.nan), why)
    verdicts = [part.verdict for part in parts]
    told = [
        f"{part.subject} {part.effect:+.2f} ({part.low:+.2f} to {part.high:+.2f}): "
        f"{part.verdict}"
        for part in parts
    ]
    return row._replace(
        p=max(part.p for part in parts),
        verdict=verdict(
            all(part.verdict == SUPPORTED for part in parts),
            CONTRADICTED in verdicts,
        ),
        statement=f"Conflict should go with the loss of optimization and not with "
        f"generalization or transfer; correlations: {'; '.join(told)}.",
    )


def _pairs(tasks: Sequence[Affected], outcome: str) -> np.ndarray:
    """Conflict and outcome ``[T, 2]`` of the tasks that have both."""
    rows = [(o.conflict, o.outcomes[outcome]) for o in tasks if not o.reason]
    pairs = np.array(rows, float).reshape(-1, 2)
    return pairs[np.isfinite(pairs).all(axis=1)]


def _reasons(tasks: Sequence[Affected]) -> str:
    told: dict[str, list[str]] = {}
    for task in tasks:
        if task.reason:
            told.setdefault(task.reason, []).append(task.task)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in told.items())
