"""C3: gradient conflict harms optimization, and does not predict generalization."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.analysis.claims.paired import Paired, percent, said, unit_of
from mtl_jax.analysis.claims.row import (
    CONTRADICTED,
    INCONCLUSIVE,
    MOST_SEEDS,
    NOT_COMPARABLE,
    SUPPORTED,
    ClaimRow,
    not_comparable,
    unless_opposed,
    verdict,
)
from mtl_jax.analysis.conflict import conflict_effects
from mtl_jax.analysis.correlation import FEWEST, Correlation, rank_correlation
from mtl_jax.analysis.curves import Frame, values
from mtl_jax.analysis.interval import (
    ALPHA,
    negligible,
    p_above,
    p_below,
    p_nonzero,
)
from mtl_jax.analysis.memo import of_variants
from mtl_jax.analysis.transfer import tested
from mtl_jax.analysis.variant import method_of
from mtl_jax.types import InputError

UNIT = "rank correlation"
OUTCOMES = ("optimization", "generalization", "transfer")
"""The first must go with conflict, the others must not."""

SETS = 3
"""Fewest auxiliary sets of one target that are held against each other."""


class Affected(NamedTuple):
    """A task with its conflict and what MT did to it, means over seeds."""

    setting: str
    task: str
    """With the auxiliary set where it is one of several."""
    target: str
    """Task of which auxiliary sets are the units; empty where tasks are."""
    conflict: float
    """Minus the similarity with the gradients of the others."""
    outcomes: dict[str, float]
    """Effects of MT by `OUTCOMES`, percent of ST; + is worse, of transfer better."""
    seeds: int
    reason: str = ""


def observe(
    df: Frame,
    gaps: Sequence[Paired],
    variants: Sequence[str],
    baseline: str,
    split: str,
) -> list[Affected]:
    """Collect conflict and outcomes, or the reason why there are none.

    The units are the auxiliary sets of a target where some target has `SETS` of them,
    otherwise the tasks.
    """
    targets = _targets(df, variants)
    sets = {
        variant: target
        for variant, target in targets.items()
        if target and [*targets.values()].count(target) >= SETS
    }
    used = sets or dict.fromkeys([v for v in variants if not targets.get(v)], "")
    return [
        unit
        for variant, target in used.items()
        for unit in _of_variant(df, gaps, variant, baseline, split, target)
    ]


def _targets(df: Frame, variants: Sequence[str]) -> dict[str, str]:
    if "target" not in df:
        return dict.fromkeys(variants, "")
    rows = df[df["variant"].isin(variants)].drop_duplicates("variant")
    return dict(zip(rows["variant"], rows["target"].fillna(""), strict=True))


def _of_variant(
    df: Frame,
    gaps: Sequence[Paired],
    variant: str,
    baseline: str,
    split: str,
    target: str,
) -> list[Affected]:
    df = of_variants(df, (baseline, variant))
    by_key = {(gap.setting, gap.task): gap for gap in gaps}
    try:
        table = conflict_effects(df, variant, baseline, split, per_step=True)
        tests = tested(df, variant, baseline, split)
    except InputError as error:
        served = df[(df["variant"] == variant) & (df["task"] != "")]
        keys = served[["setting", "task"]].drop_duplicates()
        return [
            Affected(
                setting, unit_of(variant, task), target, np.nan, {}, 0, said(error)
            )
            for setting, task in keys.itertuples(index=False, name=None)
            if target in ("", task)
        ]
    size = {(t.setting, t.task, t.name): np.array([*t.st.values()]) for t in tests}
    losses = values(df, "probe", "loss")
    losses = losses[losses["variant"] == baseline]
    affected = []
    for (setting, task), rows in table.groupby(["setting", "task"], sort=False):
        unit = unit_of(variant, task)
        if not rows["comparable"].all():
            why = rows["reason"].iloc[0]
            affected.append(Affected(setting, unit, target, np.nan, {}, 0, why))
            continue
        at = (losses["setting"] == setting) & (losses["task"] == task)
        at &= losses["step"].isin(rows["step"]) & losses["seed"].isin(rows["seed"])
        gap = by_key[setting, unit].values.get("mean", np.zeros(0))
        scores = size[setting, task, rows["transfer_name"].iloc[0]]
        outcomes = {
            "optimization": percent(rows["effect"].mean(), losses[at]["value"]),
            "generalization": gap.mean() if len(gap) else np.nan,
            "transfer": percent(rows["transfer"].mean(), scores),
        }
        seeds = rows["seed"].nunique()
        affected.append(
            Affected(setting, unit, target, rows["conflict"].mean(), outcomes, seeds)
        )
    return affected


def correlation(units: Sequence[Affected], outcome: str) -> Correlation:
    """Correlate conflict and outcome, within settings and targets."""
    known = [unit for unit in units if not unit.reason]
    return rank_correlation(
        [unit.conflict for unit in known],
        [unit.outcomes[outcome] for unit in known],
        [(unit.setting, unit.target) for unit in known],
    )


def judge(
    units: Sequence[Affected], settings: Sequence[str], variant: str, least: float
) -> list[ClaimRow]:
    """Judge every outcome and all together, in every setting and over all.

    Args:
      units: as observed.
      settings: their names.
      variant: MT.
      least: the correlation from which on conflict predicts.
    """
    rows, wholes = [], []
    for setting in [*settings, ""]:
        group = [unit for unit in units if setting in ("", unit.setting)]
        base = ClaimRow(
            "C3", setting, method_of(variant), "score", "", unit=UNIT, margin=least
        )
        parts = [_part(group, outcome, base) for outcome in OUTCOMES]
        rows += [*parts, _whole(parts)]
        wholes.append(rows[-1])
    rows[-1] = unless_opposed(rows[-1], wholes[:-1])
    return rows


def kind_of(units: Sequence[Affected]) -> str:
    """Say what the units are: ``sets`` or ``tasks``."""
    return "sets" if any(unit.target for unit in units) else "tasks"


def _part(units: Sequence[Affected], outcome: str, row: ClaimRow) -> ClaimRow:
    correlated = correlation(units, outcome)
    used = [unit for unit in units if not unit.reason]
    least, kind = row.margin, kind_of(units)
    row = row._replace(subject=outcome, tasks=correlated.units, reason=_reasons(units))
    row = row._replace(seeds=min((unit.seeds for unit in used), default=0))
    if np.isnan(correlated.z.value):
        why = (
            f"{correlated.df} degrees of freedom ({kind} - 1, of groups of three "
            f"{kind} or more that differ in conflict and outcome), fewer than {FEWEST}"
        )
        why = "; ".join(filter(None, [why, row.reason])) if used else row.reason
        needed = FEWEST + 1 if used else 0
        row = row._replace(needed=needed, needed_of=kind if used else "")
        return not_comparable(row, why or "no task")
    z, limit = correlated.z, float(np.arctanh(least))
    if outcome == "optimization":
        p = p_nonzero(z)
        positive = p_above(z) <= ALPHA
        decided = verdict(positive, not positive and p_below(z, limit) <= ALPHA)
        distance = max(abs(z.value), abs(limit - z.value))
    else:
        # One-sided, both: that it is within the margin.
        p = max(p_below(z, limit), p_above(z, -limit)) / 2
        beyond = min(p_above(z, limit), p_below(z, -limit)) <= ALPHA
        decided = verdict(negligible(z, limit), beyond)
        distance = abs(limit - abs(z.value))
    row = row._replace(
        effect=correlated.value,
        low=correlated.low,
        high=correlated.high,
        sign_consistency=correlated.same_side,
        p=p,
        verdict=decided,
    )
    if decided != INCONCLUSIVE:
        return row
    more = np.ceil(
        2 + (1.96 * z.error / max(distance, 0.05)) ** 2 * (correlated.df - 2)
    )
    needed = int(min(MOST_SEEDS, max(more, correlated.df) + 1))
    return row._replace(needed=needed, needed_of=kind)


def _whole(parts: Sequence[ClaimRow]) -> ClaimRow:
    """Judge all outcomes: the claim needs each, and one is enough against it."""
    row = parts[0]._replace(subject="")
    most = max(parts, key=lambda part: part.needed)
    row = row._replace(needed=most.needed, needed_of=most.needed_of)
    short = [part for part in parts if part.verdict == NOT_COMPARABLE]
    if short:
        why = "; ".join(dict.fromkeys(part.reason for part in short))
        return not_comparable(row._replace(p=np.nan), why)
    verdicts = [part.verdict for part in parts]
    row = row._replace(
        p=max(part.p for part in parts),
        supporting=verdicts.count(SUPPORTED),
        opposing=verdicts.count(CONTRADICTED),
        verdict=verdict(
            all(name == SUPPORTED for name in verdicts), CONTRADICTED in verdicts
        ),
    )
    if row.verdict != INCONCLUSIVE:
        row = row._replace(needed=0, needed_of="")
    return row


def _reasons(units: Sequence[Affected]) -> str:
    told: dict[str, list[str]] = {}
    for unit in units:
        if unit.reason:
            told.setdefault(unit.reason, []).append(unit.task)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in told.items())
