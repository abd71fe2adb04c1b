"""Verdicts on the study's four claims, each by a rule that can be redone by hand.

A verdict is ``supported``, ``contradicted``, ``inconclusive``, ``had no effect`` (C4)
or, where trajectories do not overlap or something was not recorded, ``not comparable``.
Differences are paired by seed (equal seeds share their start and, at equal batch size,
their batches); a t interval needs 2 common sound seeds, and its variance is moderated
over the tasks or SMTOs of a setting (`analysis.moderation`). Differences are in percent
of what ST (in C4: the sum of losses) has over the same points, so that tasks in other
units can stand side by side. C1, C2 and C4 are judged on the test score, as in the
paper, and on the test loss.

Of a difference, tests at 5% say that it is
  *negligible*: by two one-sided tests it is within the margin (losses and factors: 5%
    of ST's; scores and Delta_m: 0.5%; correlations: 0.6);
  *there*: two-sided p <= 0.05, and it is not negligible;
  *unclear*: otherwise.
"Some task" and "some SMTO" are chosen from many: their p values are Holm's (``p`` is
the smallest). "Every" and "both" need no such correction (intersection-union).

C1, a gap opens early and persists. It must be there from a twentieth of the first
  training loss on (where training ends above half of that: from twice the lowest loss
  on) to the end. A task's gap *persists* if in the first and in the last third of that
  part it is there, with one sign (p: the larger). It *does not* if either is
  negligible, or both are there with opposite signs. Supported: it persists in some
  task. Contradicted: in every comparable task it does not. Over all settings the tasks
  of all count, and a contradicted setting makes "supported" inconclusive.
C2, a factor does not explain the gap consistently. Expected (assumption): MT is worse
  where at the same training loss it has more of a factor of sign + in
  `explanation.FACTORS`, or less of one of sign -. A task whose gap (mean of that part)
  is there is a *counterexample* if the mean contrast in the expected direction is below
  the margin: negligible or opposite (p: the larger of gap and contrast). It *agrees* if
  the contrast is there as expected. Supported for a factor: some task is a
  counterexample. Contradicted: 5 tasks or more agree (a coin would do so once in 32),
  they are 4 of 5 of those with a gap, and none is a counterexample, even without Holm.
  The claim: supported if it is for every factor, contradicted if it is for one. Over
  all settings the tasks of all count: a factor that explains one setting and fails in
  another is not consistent.
C3, conflict harms optimization and does not predict generalization. Rank correlations
  over units, within groups, of conflict (minus the gradient similarity) with the loss
  of optimization (training loss at equal step), with the gap at equal training loss,
  and with transfer (test value at the best validation point). Units are the auxiliary
  sets of a target task where there are three or more, otherwise tasks; groups are
  targets, otherwise settings. Supported: the first is positive (interval above 0), both
  others within the margin. Contradicted: the first is below the margin and not above 0,
  or another beyond the margin. Needs 4 degrees of freedom (units - 1, summed over
  groups of three or more). Seeds are replicates: one will do. Over all settings
  correlations are pooled, and a setting of the opposite verdict makes them
  inconclusive.
C4, SMTOs change optimization and do not reliably improve transfer. Each is held against
  the sum of losses, with equal tuning budget. It *improves* if Delta_m is above 0 and
  not negligible, and *does not* if its interval lies below the margin; it *changes*
  optimization if for some task the training loss at equal step differs, and *had no
  effect* if that is negligible for every task. Supported: no SMTO improves (each *does
  not*) and some changes optimization. Contradicted: some SMTO improves. One that never
  differs from the sum has no say; if none has an effect, that is the verdict. Over all
  settings, *reliably* means in each comparable one (p: the largest), so that *does not*
  refutes an improvement in every one (p: Fisher's combination).

What the intervals hold fixed: the tasks (C1, C2, C4), and what selected the learning
rates. The effect of the first claim is the late gap in the direction of the other
seeds' early one; of the second, Spearman's correlation over tasks of contrast and gap
(of the factor that does best); of the third, that of optimization; of the fourth, the
best SMTO's Delta_m.
"""

from typing import NamedTuple

import pandas as pd

from mtl_jax.analysis.claims import explanation, harm, persistence, remedy
from mtl_jax.analysis.claims.paired import MEASURES, Paired, gaps, variants_of
from mtl_jax.analysis.claims.row import ClaimRow
from mtl_jax.analysis.curves import Frame, check, need_one_rate, trained

MARGINS = {"score": 0.5, "loss": 5.0}
"""Negligible differences, percent: of scores (Delta_m), of losses and factors."""

MARGIN_RHO = 0.6
"""Negligible correlation: 36% of the variance of ranks."""


class Evidence(NamedTuple):
    """Observations that verdicts rest on, task by task."""

    settings: list[str]
    variant: str
    """MT with the sum of losses."""
    gaps: dict[str, list[Paired]]
    """C1, by measure: ``early``, ``late`` and ``mean``, percent of ST's; + is worse."""
    factors: dict[str, list[explanation.Factor]]
    """By measure."""
    affected: list[harm.Affected]
    remedies: dict[str, list[remedy.Remedy]]
    """By measure."""


def claims(
    df: Frame,
    baseline: str = "single",
    unitary: str = "multi",
    split: str = "test",
    points: int = 20,
    *,
    margin: float = MARGINS["loss"],
    margin_score: float = MARGINS["score"],
    margin_rho: float = MARGIN_RHO,
) -> Frame:
    """Judge C1 to C4, in every setting and over all, by the rules of this module.

    Args:
      df: records, of the selected rates; of several settings, one after the other.
      baseline: ST.
      unitary: MT with the sum of losses, of all tasks or of groups; other methods are
        SMTOs, but for models that are merged.
      split: of gaps and transfer.
      points: bins of training loss.
      margin: negligible differences of losses and factors, percent.
      margin_score: negligible differences of scores, and Delta_m, percent.
      margin_rho: correlation that predicts nothing yet.

    Returns:
      A row per claim, setting (empty: all of them together), measure (``score``,
      ``loss``) and subject (C1: ``early``, ``late``; C2: the factor; C3:
      ``optimization``, ``generalization``, ``transfer``; C4: ``transfer``,
      ``optimization`` of every variant; empty: the claim itself). Columns:
      `row.ClaimRow`.

    Raises:
      InputError: columns are missing, or a task has several rates.
    """
    margins = {"score": margin_score, "loss": margin}
    return judge(observe(df, baseline, unitary, split, points), margins, margin_rho)


def observe(
    df: Frame,
    baseline: str = "single",
    unitary: str = "multi",
    split: str = "test",
    points: int = 20,
) -> Evidence:
    """Collect the evidence; arguments and errors are those of `claims`."""
    check(df)
    need_one_rate(df)
    variants = variants_of(df, unitary) or [unitary]
    gap = {
        measure: gaps(df, variants, baseline, split, points, measure)
        for measure in MEASURES
    }
    return Evidence(
        settings=sorted(df["setting"].unique()),
        variant=unitary,
        gaps=gap,
        factors=explanation.observe(df, gap, variants, baseline, split, points),
        affected=harm.observe(df, gap["loss"], variants, baseline, split),
        remedies=remedy.observe(trained(df), unitary, baseline, split),
    )


def judge(
    evidence: Evidence,
    margins: dict[str, float] = MARGINS,
    margin_rho: float = MARGIN_RHO,
) -> Frame:
    """Tabulate verdicts as `claims` does, from evidence."""
    names, variant = evidence.settings, evidence.variant
    rows = []
    for measure, margin in margins.items():
        gap, factors = evidence.gaps[measure], evidence.factors[measure]
        rows += persistence.judge(gap, names, variant, margin, measure)
        rows += explanation.judge(
            factors, names, variant, margin, measure, margins["loss"]
        )
        rows += remedy.judge(
            evidence.remedies[measure], names, margins["loss"], margin, measure
        )
    rows += harm.judge(evidence.affected, names, variant, margin_rho)
    return pd.DataFrame(rows, columns=list(ClaimRow._fields))
