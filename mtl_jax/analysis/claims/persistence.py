"""C1: MT opens a gap at comparable training loss early, and it persists."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.analysis.claims.paired import (
    Paired,
    fewest_seeds,
    means_of,
    of_setting,
    over_tasks,
    reasons,
    share,
    usable,
)
from mtl_jax.analysis.claims.row import (
    INCONCLUSIVE,
    NOT_COMPARABLE,
    ClaimRow,
    not_comparable,
    seeds_to_decide,
    unless_opposed,
    verdict,
    with_mean,
)
from mtl_jax.analysis.interval import (
    ALPHA,
    Mean,
    holm,
    mean_of,
    negligible,
    p_nonzero,
)

PARTS = ("early", "late")


class Gap(NamedTuple):
    """Verdict of the seeds on a task's gap."""

    early: Mean
    late: Mean
    p: float
    """P value of a gap early and late with one sign: the larger of both; not yet
    adjusted."""
    absent: bool
    """Early or late it is negligible."""
    reversed: bool
    """It is there early and late, with opposite signs."""


def gaps_of(tasks: Sequence[Paired], margin: float) -> list[Gap]:
    """Judge the early and late gaps of tasks with two seeds or more."""
    early, late = (means_of(tasks, part) for part in PARTS)
    return [_gap(*both, margin) for both in zip(early, late, strict=True)]


def _gap(early: Mean, late: Mean, margin: float) -> Gap:
    both = max(p_nonzero(early), p_nonzero(late))
    alike = early.value * late.value > 0
    return Gap(
        early,
        late,
        both if alike else 1.0,
        # Either is enough, so each at half the level.
        any(negligible(mean, margin, ALPHA / 2) for mean in (early, late)),
        not alike and both <= ALPHA,
    )


def with_lasting(task: Paired) -> Paired:
    """Add the ``lasting`` gap: the late one, + in the direction of the early one.

    A seed's direction is that of the other seeds' early gap, so that noise has no
    preferred one: without a gap that lasts, the mean is 0.
    """
    early = task.values["early"]
    direction = np.sign(early.sum() - early)
    lasting = direction * task.values["late"]
    return task._replace(values={**task.values, "lasting": lasting})


def judge(
    tasks: Sequence[Paired],
    settings: Sequence[str],
    variant: str,
    margin: float,
    measure: str = "loss",
) -> list[ClaimRow]:
    """Judge every setting, and all together.

    Args:
      tasks: gaps ``early`` and ``late``, percent.
      settings: their names.
      variant: MT.
      margin: percent.
      measure: that the gaps are of.
    """
    rows, results = [], []
    base = ClaimRow("C1", "", variant, measure, "", unit=f"% of ST's {measure}")
    for setting in settings:
        group = of_setting(tasks, setting)
        shown = [with_lasting(task) for task in usable(group)]
        means = {part: over_tasks(shown, part) for part in (*PARTS, "lasting")}
        block = _rows(group, base._replace(setting=setting), margin, means)
        rows += block
        if block[-1].verdict != NOT_COMPARABLE:
            results.append((block[-1], means))
    means = {
        part: mean_of([means[part] for _, means in results])
        for part in (*PARTS, "lasting")
    }
    overall = _rows(tasks, base, margin, means)
    overall[-1] = unless_opposed(overall[-1], [row for row, _ in results])
    return rows + overall


def _rows(
    tasks: Sequence[Paired], base: ClaimRow, margin: float, means: dict[str, Mean]
) -> list[ClaimRow]:
    """Judge the early gap, the late one and both together."""
    judged = usable(tasks)
    base = base._replace(
        tasks=len(judged), seeds=fewest_seeds(judged), reason=reasons(tasks)
    )
    if not judged:
        base = not_comparable(base, base.reason or "no task")
        return [base._replace(subject=part) for part in (*PARTS, "")]
    gaps = gaps_of(judged, margin)
    rows = [_part(base, part, judged, gaps, margin, means[part]) for part in PARTS]
    p = holm([gap.p for gap in gaps])
    lasting = [not g.absent and q <= ALPHA for g, q in zip(gaps, p, strict=True)]
    gone = [gap.absent or gap.reversed for gap in gaps]
    whole = base._replace(
        sign_consistency=share(
            [task.values["early"] * task.values["late"] > 0 for task in judged]
        ),
        p=min(p),
        supporting=sum(lasting),
        opposing=sum(gone),
        verdict=verdict(any(lasting), all(gone)),
    )
    if whole.verdict == INCONCLUSIVE:
        open_ = [
            max(gap.early, gap.late, key=lambda mean: mean.error)
            for gap, yes, no in zip(gaps, lasting, gone, strict=True)
            if not yes and not no
        ]
        needed = seeds_to_decide(open_, base.seeds, margin)
        whole = whole._replace(needed=needed, needed_of="seeds" * bool(needed))
    return [*rows, with_mean(whole, means["lasting"], base.unit, margin)]


def _part(
    base: ClaimRow,
    part: str,
    tasks: Sequence[Paired],
    gaps: Sequence[Gap],
    margin: float,
    mean: Mean,
) -> ClaimRow:
    means = [getattr(gap, part) for gap in gaps]
    p = holm([p_nonzero(mean) for mean in means])
    absent = [negligible(mean, margin) for mean in means]
    there = [q <= ALPHA and not no for q, no in zip(p, absent, strict=True)]
    agree = [
        np.sign(task.values[part]) == np.sign(task.values[part].mean())
        for task in tasks
    ]
    row = base._replace(
        subject=part,
        sign_consistency=share(agree),
        p=min(p),
        supporting=sum(there),
        opposing=sum(absent),
        verdict=verdict(any(there), all(absent)),
    )
    return with_mean(row, mean, base.unit, margin)
