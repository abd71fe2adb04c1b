"""C1: MT opens a gap at comparable training loss early, and it persists."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.analysis.claims.interval import (
    ALPHA,
    Mean,
    holm,
    mean_of,
    negligible,
    p_nonzero,
    paired_t,
)
from mtl_jax.analysis.claims.paired import (
    Paired,
    fewest_seeds,
    of_setting,
    over_tasks,
    reasons,
    share,
    usable,
)
from mtl_jax.analysis.claims.row import (
    NOT_COMPARABLE,
    ClaimRow,
    counted,
    not_comparable,
    p_written,
    unless_opposed,
    verdict,
    with_mean,
    written,
)

UNIT = "% of ST's loss"
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


def gap_of(task: Paired, margin: float) -> Gap:
    """Judge the early and late gap of a task with two seeds or more."""
    early, late = (paired_t(task.values[part]) for part in PARTS)
    both = max(p_nonzero(early), p_nonzero(late))
    alike = early.value * late.value > 0
    return Gap(
        early,
        late,
        both if alike else 1.0,
        negligible(early, margin) or negligible(late, margin),
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
    tasks: Sequence[Paired], settings: Sequence[str], variant: str, margin: float
) -> list[ClaimRow]:
    """Judge every setting, and all together.

    Args:
      tasks: gaps ``early`` and ``late``, percent.
      settings: their names.
      variant: MT.
      margin: percent.
    """
    rows, results = [], []
    for setting in settings:
        group = of_setting(tasks, setting)
        shown = [with_lasting(task) for task in usable(group)]
        means = {part: over_tasks(shown, part) for part in (*PARTS, "lasting")}
        block = _rows(group, setting, variant, margin, means)
        rows += block
        if block[-1].verdict != NOT_COMPARABLE:
            results.append((block[-1], means))
    means = {
        part: mean_of([means[part] for _, means in results])
        for part in (*PARTS, "lasting")
    }
    overall = _rows(tasks, "", variant, margin, means)
    overall[-1] = unless_opposed(overall[-1], [row for row, _ in results])
    return rows + overall


def _rows(
    tasks: Sequence[Paired],
    setting: str,
    variant: str,
    margin: float,
    means: dict[str, Mean],
) -> list[ClaimRow]:
    """Judge the early gap, the late one and both together."""
    judged = usable(tasks)
    base = ClaimRow(
        "C1", setting, variant, "", tasks=len(judged), seeds=fewest_seeds(judged)
    )
    base = base._replace(reason=reasons(tasks))
    if not judged:
        base = not_comparable(base, base.reason or "no task")
        return [base._replace(subject=part) for part in (*PARTS, "")]
    gaps = [gap_of(task, margin) for task in judged]
    rows = [_part(base, part, judged, gaps, margin, means[part]) for part in PARTS]
    p = holm([gap.p for gap in gaps])
    lasting = [not g.absent and q <= ALPHA for g, q in zip(gaps, p, strict=True)]
    worse = sum(
        gap.late.value > 0 for gap, lasts in zip(gaps, lasting, strict=True) if lasts
    )
    gone = sum(gap.absent or gap.reversed for gap in gaps)
    agree = [task.values["early"] * task.values["late"] > 0 for task in judged]
    said = (
        f"In {sum(lasting)} of {counted(len(judged), 'task')} a gap opens early and "
        f"persists (MT worse in {worse}, better in {sum(lasting) - worse}; smallest "
        f"{p_written(min(p))} after Holm over tasks), in {gone} it is absent, fades "
        f"or turns; in the direction of the early gap, the late one is on average "
        f"{written(means['lasting'], UNIT)}."
    )
    whole = base._replace(
        sign_consistency=share(agree),
        p=min(p),
        verdict=verdict(any(lasting), gone == len(judged)),
        statement=said,
    )
    return [*rows, with_mean(whole, means["lasting"], UNIT, margin)]


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
    said = (
        f"The {part} gap is there in {sum(there)} of {counted(len(tasks), 'task')} "
        f"(smallest {p_written(min(p))} after Holm over tasks) and negligible in "
        f"{sum(absent)}; its mean is {written(mean, UNIT)}."
    )
    row = base._replace(
        subject=part,
        sign_consistency=share(agree),
        p=min(p),
        verdict=verdict(any(there), all(absent)),
        statement=said,
    )
    return with_mean(row, mean, UNIT, margin)
