"""C2: a factor of the trajectory does not explain the gap consistently."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.analysis.claims.interval import (
    ALPHA,
    holm,
    negligible,
    p_above,
    p_below,
    p_nonzero,
    paired_t,
    turned,
)
from mtl_jax.analysis.claims.paired import (
    Paired,
    fewest_seeds,
    of_setting,
    or_reason,
    reasons,
    said,
    share,
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
    p_written,
    verdict,
)
from mtl_jax.analysis.contrast import contrasts
from mtl_jax.analysis.correlation import correlate
from mtl_jax.analysis.curves import Frame, scopes
from mtl_jax.types import InputError

THEORY = {"sharpness_l2": 1, "sharpness_linf": 1, "fisher_trace": 1, "coherence": -1}
"""Factors with the sign of the contrast that is expected to make MT worse
(assumption)."""

UNIT = "rank correlation, + as expected"

AGREEING = 5
"""Fewest tasks that can show consistency: a coin agrees with so many once in 32."""

NEARLY_ALL = 0.8
"""Share of the tasks with a gap that has to agree."""


class Explained(NamedTuple):
    """Verdict of the seeds on a factor and a task's gap."""

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
    correlations: dict[str, tuple[float, float, float]]
    """By setting: rank correlation with the ends of its interval."""


def explain(task: Paired, margin: float) -> Explained:
    """Judge the gap and contrast of a task with two seeds; ``margin`` in percent."""
    gap, contrast = (paired_t(task.values[name]) for name in ("gap", "contrast"))
    least = np.log1p(margin / 100)
    expected = turned(contrast, np.sign(gap.value))
    has_gap = p_nonzero(gap) <= ALPHA and not negligible(gap, margin)
    return Explained(
        has_gap,
        max(p_nonzero(gap), p_below(expected, least)) if has_gap else 1.0,
        has_gap and p_above(expected) <= ALPHA and not negligible(expected, least),
    )


def observe(
    df: Frame,
    gaps: Sequence[Paired],
    variant: str,
    baseline: str,
    split: str,
    points: int,
    *,
    seed: int,
    resamples: int,
) -> list[Factor]:
    """Collect the factors of `THEORY` that were recorded of a variant."""
    names = set(df[(df["split"] == "probe") & (scopes(df) == "task")]["name"])
    return [
        _factor(df, name, gaps, variant, baseline, split, points, seed, resamples)
        for name in THEORY
        if name in names
    ]


def _factor(
    df: Frame,
    name: str,
    gaps: Sequence[Paired],
    variant: str,
    baseline: str,
    split: str,
    points: int,
    seed: int,
    resamples: int,
) -> Factor:
    try:
        table = contrasts(df, [name], variant, baseline, split, points=points)
    except InputError as error:
        why = said(error)
        return Factor(
            name, [gap._replace(reason=gap.reason or why) for gap in gaps], {}
        )
    table["contrast"] *= THEORY[name]
    tasks = or_reason(df, lambda: [_contrast(table, gap) for gap in gaps])
    spearman = correlate(table, within=("task", "bin"), seed=seed, resamples=resamples)
    spearman = spearman[spearman["statistic"] == "spearman"]
    ends = spearman[["value", "low", "high"]].itertuples(index=False, name=None)
    correlations = dict(zip(spearman["setting"], ends, strict=True))
    if len(correlations) == 1:  # one setting is all settings
        correlations[""] = next(iter(correlations.values()))
    return Factor(name, tasks, correlations)


def _contrast(table: Frame, gap: Paired) -> Paired:
    """Gap and mean contrast, over the bins in which every seed has one."""
    if gap.reason or not gap.seeds:
        return gap
    rows = table[(table["setting"] == gap.setting) & (table["task"] == gap.task)]
    rows = rows[(rows["st_seed"] == rows["mt_seed"]) & rows["comparable"]]
    by_bin = rows.pivot(index="mt_seed", columns="bin", values="contrast")
    by_bin = by_bin.reindex(index=gap.seeds).dropna(axis="columns")
    if not by_bin.size:
        missing = rows[rows["missing"] != ""]["missing"].mode()
        why = missing.iloc[0] if len(missing) else "not recorded"
        return gap._replace(reason=f"no bin with the factor of all seeds ({why})")
    contrast = by_bin.mean(axis="columns").to_numpy()
    return gap._replace(values={"gap": gap.values["mean"], "contrast": contrast})


def judge(
    factors: Sequence[Factor], settings: Sequence[str], variant: str, margin: float
) -> list[ClaimRow]:
    """Judge every factor and all together, in every setting and over all.

    Args:
      factors: as observed.
      settings: their names.
      variant: MT.
      margin: percent, of gaps and of contrasts.
    """
    rows = []
    for setting in [*settings, ""]:
        parts = [_row(factor, setting, variant, margin) for factor in factors]
        rows += [*parts, _whole(parts, setting, variant, margin)]
    return rows


def _row(factor: Factor, setting: str, variant: str, margin: float) -> ClaimRow:
    """Judge a factor: counterexamples against tasks that agree."""
    tasks = of_setting(factor.tasks, setting)
    judged = usable(tasks)
    value, low, high = factor.correlations.get(setting, (np.nan,) * 3)
    row = ClaimRow("C2", setting, variant, factor.name, value, UNIT, low, high)
    row = row._replace(
        tasks=len(judged), seeds=fewest_seeds(judged), reason=reasons(tasks)
    )
    explained = [explain(task, margin) for task in judged]
    with_gap = [
        task for task, result in zip(judged, explained, strict=True) if result.has_gap
    ]
    if not with_gap:
        why = f"none of {counted(len(judged), 'task')} has a gap to be explained"
        why = why if judged else row.reason or "no task"
        return not_comparable(row, why)
    p = holm([result.p for result in explained])
    counter, agree = (
        sum(q <= ALPHA for q in p),
        sum(result.agrees for result in explained),
    )
    consistent = (
        agree >= AGREEING
        and agree >= NEARLY_ALL * len(with_gap)
        and not any(result.p <= ALPHA for result in explained)
    )
    told = (
        f"Of {counted(len(with_gap), 'task')} with a gap, {factor.name} at equal "
        f"training loss does not differ as expected in {counter} (smallest "
        f"{p_written(min(p))} after Holm over tasks) and does in {agree}; contrast and "
        f"gap correlate with {value:+.2f} (95% interval {low:+.2f} to {high:+.2f}) "
        f"within tasks and bins."
    )
    expected = [task.values["gap"] * task.values["contrast"] > 0 for task in with_gap]
    return row._replace(
        margin=float(np.log1p(margin / 100)),
        sign_consistency=share(expected),
        p=min(p),
        verdict=verdict(counter > 0, consistent),
        statement=told,
    )


def _whole(
    parts: Sequence[ClaimRow], setting: str, variant: str, margin: float
) -> ClaimRow:
    """Judge all factors: each must fail, and one that holds is enough against it."""
    judged = [row for row in parts if row.verdict != NOT_COMPARABLE]
    row = ClaimRow("C2", setting, variant, "", unit=UNIT)
    left_out = [
        f"{r.subject}: {r.reason}" for r in parts if r.verdict == NOT_COMPARABLE
    ]
    if not judged:
        told = dict.fromkeys(r.reason for r in parts)
        why = "; ".join(told) or f"no factor of {', '.join(THEORY)} was recorded"
        return not_comparable(row, why)
    by = {
        name: [r.subject for r in judged if r.verdict == name]
        for name in (SUPPORTED, CONTRADICTED, INCONCLUSIVE)
    }
    strongest = max(judged, key=lambda r: np.nan_to_num(r.effect, nan=-2.0))
    texts = {
        SUPPORTED: "what does not explain the gap consistently",
        CONTRADICTED: "what does",
        INCONCLUSIVE: "undecided",
    }
    told = "; ".join(f"{texts[k]}: {', '.join(by[k])}" for k in by if by[k])
    return row._replace(
        effect=strongest.effect,
        low=strongest.low,
        high=strongest.high,
        margin=float(np.log1p(margin / 100)),
        tasks=max(r.tasks for r in judged),
        seeds=min(r.seeds for r in judged),
        sign_consistency=float(np.mean([r.sign_consistency for r in judged])),
        p=max(r.p for r in judged),
        verdict=verdict(len(by[SUPPORTED]) == len(judged), bool(by[CONTRADICTED])),
        statement=f"At equal training loss, {told}; the highest correlation is that of "
        f"{strongest.subject}.",
        reason="; ".join(left_out),
    )
