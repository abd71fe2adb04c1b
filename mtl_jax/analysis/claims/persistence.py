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
    Row,
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
    """What the seeds say of a task's gap."""

    early: Mean
    late: Mean
    p: float
    """That it is there early and late with one sign: the larger of both; not yet
    adjusted."""
    absent: bool
    """Early or late it is negligible."""
    reversed: bool
    """It is there early and late, with opposite signs."""


def gap_of(one: Paired, margin: float) -> Gap:
    """Early and late gap of a task that can be judged."""
    early, late = (paired_t(one.values[part]) for part in PARTS)
    both = max(p_nonzero(early), p_nonzero(late))
    alike = early.value * late.value > 0
    return Gap(
        early,
        late,
        both if alike else 1.0,
        negligible(early, margin) or negligible(late, margin),
        not alike and both <= ALPHA,
    )


def with_lasting(one: Paired) -> Paired:
    """With the ``lasting`` gap: the late one, + in the direction of the early one.

    A seed's direction is that of the other seeds' early gap, so that noise has no
    preferred one: without a gap that lasts, the mean is 0.
    """
    early = one.values["early"]
    direction = np.sign(early.sum() - early)
    lasting = direction * one.values["late"]
    return one._replace(values={**one.values, "lasting": lasting})


def judge(
    tasks: Sequence[Paired], settings: Sequence[str], variant: str, margin: float
) -> list[Row]:
    """Rows of every setting, and of all together.

    Args:
      tasks: gaps ``early`` and ``late``, percent.
      settings: their names.
      variant: MT.
      margin: percent.
    """
    rows, found = [], []
    for setting in settings:
        own = of_setting(tasks, setting)
        shown = [with_lasting(one) for one in usable(own)]
        means = {part: over_tasks(shown, part) for part in (*PARTS, "lasting")}
        one = _rows(own, setting, variant, margin, means)
        rows += one
        if one[-1].verdict != NOT_COMPARABLE:
            found.append((one[-1], means))
    means = {
        part: mean_of([own[part] for _, own in found]) for part in (*PARTS, "lasting")
    }
    overall = _rows(tasks, "", variant, margin, means)
    overall[-1] = unless_opposed(overall[-1], [row for row, _ in found])
    return rows + overall


def _rows(
    tasks: Sequence[Paired],
    setting: str,
    variant: str,
    margin: float,
    means: dict[str, Mean],
) -> list[Row]:
    """Of early, of late and of both together."""
    own = usable(tasks)
    base = Row("C1", setting, variant, "", tasks=len(own), seeds=fewest_seeds(own))
    base = base._replace(reason=reasons(tasks))
    if not own:
        base = not_comparable(base, base.reason or "no task")
        return [base._replace(subject=part) for part in (*PARTS, "")]
    gaps = [gap_of(one, margin) for one in own]
    rows = [_part(base, part, own, gaps, margin, means[part]) for part in PARTS]
    p = holm([gap.p for gap in gaps])
    lasting = [not g.absent and q <= ALPHA for g, q in zip(gaps, p, strict=True)]
    worse = sum(
        gap.late.value > 0 for gap, lasts in zip(gaps, lasting, strict=True) if lasts
    )
    gone = sum(gap.absent or gap.reversed for gap in gaps)
    agree = [one.values["early"] * one.values["late"] > 0 for one in own]
    said = (
        f"In {sum(lasting)} of {counted(len(own), 'task')} a gap opens early and "
        f"persists (MT worse in {worse}, better in {sum(lasting) - worse}; smallest "
        f"{p_written(min(p))} after Holm over tasks), in {gone} it is absent, fades "
        f"or turns; in the direction of the early gap, the late one is on average "
        f"{written(means['lasting'], UNIT)}."
    )
    whole = base._replace(
        sign_consistency=share(agree),
        p=min(p),
        verdict=verdict(any(lasting), gone == len(own)),
        statement=said,
    )
    return [*rows, with_mean(whole, means["lasting"], UNIT, margin)]


def _part(
    base: Row,
    part: str,
    own: Sequence[Paired],
    gaps: Sequence[Gap],
    margin: float,
    mean: Mean,
) -> Row:
    found = [getattr(gap, part) for gap in gaps]
    p = holm([p_nonzero(one) for one in found])
    absent = [negligible(one, margin) for one in found]
    there = [q <= ALPHA and not no for q, no in zip(p, absent, strict=True)]
    agree = [
        np.sign(one.values[part]) == np.sign(one.values[part].mean()) for one in own
    ]
    said = (
        f"The {part} gap is there in {sum(there)} of {counted(len(own), 'task')} "
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
