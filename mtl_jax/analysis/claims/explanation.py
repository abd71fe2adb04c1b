"""C2: a factor of the trajectory does not explain the gap consistently."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.claims.paired import (
    MEASURES,
    Paired,
    defined,
    fewest_seeds,
    means_of,
    measured_by,
    of_setting,
    reasons,
    said,
    share,
    unit_of,
    usable,
)
from mtl_jax.analysis.claims.row import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_COMPARABLE,
    SUPPORTED,
    ClaimRow,
    counted,
    not_comparable,
    seeds_to_decide,
    verdict,
)
from mtl_jax.analysis.contrast import contrasts
from mtl_jax.analysis.correlation import Correlation, rank_correlation, unit_means
from mtl_jax.analysis.curves import Frame, are, scopes
from mtl_jax.analysis.interval import (
    ALPHA,
    Mean,
    holm,
    negligible,
    p_above,
    p_below,
    p_nonzero,
    turned,
)
from mtl_jax.types import InputError

FACTORS = {
    "adaptive_sharpness_linf": 1,
    "gradient_covariance": 1,
    "fisher_trace": 1,
    "hessian_top_eigenvalue": 1,
    "distance_from_start": 1,
    "logit_norm": 1,
    "coherence": -1,
}
"""Factors, each quantity once, with the sign of the contrast that is expected to make
MT worse (assumption). Standard sharpness is left out: it is the norm of the gradient
times a constant."""

UNIT = "rank correlation with the gap"

AGREEING = 5
"""Fewest tasks that can show consistency: a coin agrees with so many once in 32."""

NEARLY_ALL = 0.8
"""Share of the tasks with a gap that has to agree."""


class Explained(NamedTuple):
    """Verdict of the seeds on a factor and a task's gap."""

    gap: Mean
    expected: Mean
    """Contrast, + in the direction that would explain the gap."""
    has_gap: bool
    p: float
    """P value of a gap without the contrast that would explain it: the larger of
    both; not yet adjusted."""
    agrees: bool
    """There is a gap, and the contrast that would explain it."""


class Factor(NamedTuple):
    """A factor against the gap."""

    name: str
    tasks: list[Paired]
    """``gap`` in percent, and ``contrast``: a log ratio, + where MT is expected to be
    worse."""
    correlations: dict[str, Correlation]
    """Correlations of contrast and gap over tasks, by setting (empty: over all)."""


def explain(
    tasks: Sequence[Paired], margin: float, contrast_margin: float
) -> list[Explained]:
    """Judge the gaps and contrasts of tasks with two seeds; margins in percent."""
    least = np.log1p(contrast_margin / 100)
    return [
        _explained(gap, contrast, margin, float(least))
        for gap, contrast in zip(
            means_of(tasks, "gap"), means_of(tasks, "contrast"), strict=True
        )
    ]


def _explained(gap: Mean, contrast: Mean, margin: float, least: float) -> Explained:
    expected = turned(contrast, np.sign(gap.value))
    has_gap = p_nonzero(gap) <= ALPHA and not negligible(gap, margin)
    return Explained(
        gap,
        expected,
        has_gap,
        max(p_nonzero(gap), p_below(expected, least)) if has_gap else 1.0,
        has_gap and p_above(expected) <= ALPHA and not negligible(expected, least),
    )


def observe(
    df: Frame,
    gaps: dict[str, list[Paired]],
    variants: Sequence[str],
    baseline: str,
    split: str,
    points: int,
) -> dict[str, list[Factor]]:
    """Collect the factors of `FACTORS` that were recorded, by measure."""
    probe = df[(df["split"] == "probe") & (scopes(df) == "task")]
    recorded = probe["name"].unique()
    names = [name for name in FACTORS if name in recorded]
    return {
        measure: [
            _factor(name, *_table(df, name, variants, baseline, split, points, measure),
                    gaps[measure])
            for name in names
        ]
        for measure in MEASURES
    }  # fmt: skip


def _table(
    df: Frame,
    name: str,
    variants: Sequence[str],
    baseline: str,
    split: str,
    points: int,
    measure: str,
) -> tuple[Frame, str]:
    """Contrasts of a factor beside the gap, + is MT worse; or why there are none."""
    judged = measured_by(df, split, measure)
    frames, why = [], ""
    for variant in variants:
        for of in dict.fromkeys(judged.values()):
            try:
                table = contrasts(
                    df, [name], variant, baseline, split, of, points=points
                )
            except InputError as error:
                why = said(error)
                continue
            table = table[are(table, [key for key, by in judged.items() if by == of])]
            table = table.assign(gap=table["gap"] * (1 if of == "loss" else -1))
            table["task"] = table["task"].map(
                {task: unit_of(variant, task) for task in table["task"].unique()}
            )
            frames.append(table)
    return (pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()), why


def _factor(name: str, table: Frame, why: str, gaps: Sequence[Paired]) -> Factor:
    if not len(table):
        return Factor(
            name, [gap._replace(reason=gap.reason or why) for gap in gaps], {}
        )
    usable = table[table["comparable"] & table["lasting"].astype(bool)]
    of_task = dict(iter(usable.groupby(["setting", "task"])))
    tasks = [
        _contrast(of_task.get((gap.setting, gap.task), usable[:0]), gap, FACTORS[name])
        for gap in gaps
    ]
    means = unit_means(table, "contrast", "gap")
    correlations = {
        setting: rank_correlation(of["contrast"], of["gap"])
        for setting, of in means.groupby("setting")
    }
    correlations[""] = rank_correlation(
        means["contrast"], means["gap"], means["setting"].tolist()
    )
    return Factor(name, tasks, correlations)


def _contrast(rows: Frame, gap: Paired, sign: int) -> Paired:
    """Gap and mean contrast, over the bins of a task in which every seed has one."""
    if gap.reason or not gap.seeds:
        return gap
    by_bin = rows.pivot(index="seed", columns="bin", values="contrast")
    by_bin = by_bin.reindex(index=gap.seeds).dropna(axis="columns")
    if not by_bin.size:
        missing = rows[rows["missing"] != ""]["missing"].mode()
        why = missing.iloc[0] if len(missing) else "not recorded"
        return gap._replace(reason=f"no bin with the factor of all seeds ({why})")
    contrast = sign * by_bin.mean(axis="columns").to_numpy()
    values = {"gap": gap.values["mean"], "contrast": contrast}
    return defined(gap._replace(values=values))


def judge(
    factors: Sequence[Factor],
    settings: Sequence[str],
    variant: str,
    margin: float,
    measure: str = "loss",
    contrast_margin: float = 5.0,
) -> list[ClaimRow]:
    """Judge every factor and all together, in every setting and over all.

    Args:
      factors: as observed.
      settings: their names.
      variant: MT.
      margin: percent, of gaps.
      measure: that the gaps are of.
      contrast_margin: percent, of contrasts.
    """
    rows = []
    least = float(np.log1p(contrast_margin / 100))
    for setting in [*settings, ""]:
        base = ClaimRow("C2", setting, variant, measure, "", unit=UNIT, margin=least)
        parts = [_row(factor, base, margin, contrast_margin) for factor in factors]
        rows += [*parts, _whole(parts, base)]
    return rows


def _row(
    factor: Factor, base: ClaimRow, margin: float, contrast_margin: float
) -> ClaimRow:
    """Judge a factor: counterexamples against tasks that agree."""
    tasks = of_setting(factor.tasks, base.setting)
    judged = usable(tasks)
    row = base._replace(subject=factor.name)
    if base.setting in factor.correlations:
        of = factor.correlations[base.setting]
        row = row._replace(effect=of.value, low=of.low, high=of.high)
    row = row._replace(
        tasks=len(judged), seeds=fewest_seeds(judged), reason=reasons(tasks)
    )
    explained = explain(judged, margin, contrast_margin)
    with_gap = [
        (task, result)
        for task, result in zip(judged, explained, strict=True)
        if result.has_gap
    ]
    if not with_gap:
        why = f"none of {counted(len(judged), 'task')} has a gap to be explained"
        why = why if judged else row.reason or "no task"
        return not_comparable(row, why)
    p = holm([result.p for result in explained])
    counter = sum(q <= ALPHA for q in p)
    agree = sum(result.agrees for result in explained)
    consistent = (
        agree >= AGREEING
        and agree >= NEARLY_ALL * len(with_gap)
        and not any(result.p <= ALPHA for result in explained)
    )
    expected = [
        task.values["gap"] * task.values["contrast"] > 0 for task, _ in with_gap
    ]
    row = row._replace(
        sign_consistency=share(expected),
        p=min(p),
        supporting=counter,
        opposing=agree,
        verdict=verdict(counter > 0, consistent),
    )
    if row.verdict != INCONCLUSIVE:
        return row
    if agree == len(with_gap) < AGREEING:
        return row._replace(needed=AGREEING, needed_of="tasks")
    undecided = [
        result.expected
        for _, result in with_gap
        if not result.agrees and result.p > ALPHA
    ]
    needed = seeds_to_decide(undecided, row.seeds, base.margin)
    return row._replace(needed=needed, needed_of="seeds" * bool(needed))


def _whole(parts: Sequence[ClaimRow], row: ClaimRow) -> ClaimRow:
    """Judge all factors: each must fail, and one that holds is enough against it."""
    judged = [part for part in parts if part.verdict != NOT_COMPARABLE]
    left_out = [
        f"{r.subject}: {r.reason}" for r in parts if r.verdict == NOT_COMPARABLE
    ]
    if not judged:
        told = dict.fromkeys(r.reason for r in parts)
        why = "; ".join(told) or f"no factor of {', '.join(FACTORS)} was recorded"
        return not_comparable(row, why)
    by = {
        name: sum(part.verdict == name for part in judged)
        for name in (SUPPORTED, CONTRADICTED)
    }
    strongest = max(
        judged,
        key=lambda r: np.nan_to_num(FACTORS.get(r.subject, 1) * r.effect, nan=-2),
    )
    undecided = [part for part in judged if part.needed]
    needed = max(undecided, key=lambda part: part.needed, default=row)
    whole = row._replace(
        effect=strongest.effect,
        low=strongest.low,
        high=strongest.high,
        tasks=max(r.tasks for r in judged),
        seeds=min(r.seeds for r in judged),
        sign_consistency=float(np.mean([r.sign_consistency for r in judged])),
        p=max(r.p for r in judged),
        supporting=by[SUPPORTED],
        opposing=by[CONTRADICTED],
        verdict=verdict(by[SUPPORTED] == len(judged), by[CONTRADICTED] > 0),
        reason="; ".join(left_out),
    )
    if whole.verdict != INCONCLUSIVE:
        return whole
    return whole._replace(needed=needed.needed, needed_of=needed.needed_of)
