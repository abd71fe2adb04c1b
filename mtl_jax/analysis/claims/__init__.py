"""Verdicts on the study's four claims, each by a rule that can be redone by hand.

A verdict is ``supported``, ``contradicted``, ``inconclusive`` or, where trajectories do
not overlap or something was not recorded, ``not comparable``. Differences are paired by
seed (equal seeds share their start and, at equal batch size, their batches); a t
interval needs 2 common sound seeds. Losses differ in percent of what ST (in C4: the sum
of losses) has over the same points, so that tasks in other units can stand side by
side.

Of a difference, 95% intervals and two-sided p values say that it is
  *negligible*: the interval lies within the margin (by default 5% of ST's, of factors a
    ratio of 1.05; Delta_m: 0.5%; correlations: 0.5);
  *there*: p <= 0.05, and it is not negligible;
  *unclear*: otherwise.
"Some task" and "some SMTO" are chosen from many: their p values are Holm's (``p`` is
the smallest). "Every" and "both" need no such correction (intersection-union): plain
intervals.

C1, a gap opens early and persists. A task's gap *persists* if it is there in the early
  and in the late third of the matched training losses, with one sign (p: the larger).
  It *does not* if either is negligible, or both are there with opposite signs.
  Supported: it persists in some task. Contradicted: in every comparable task it does
  not. Over all settings the tasks of all count, and a contradicted setting makes
  "supported" inconclusive.
C2, a factor does not explain the gap consistently. Expected (assumption): MT is worse
  where at the same training loss it has more sharpness, a larger Fisher trace or less
  coherence, and better where less. A task whose gap (mean of the grid) is there is a
  *counterexample* if the mean contrast in the expected direction is below the margin:
  negligible or opposite (p: the larger of gap and contrast). It *agrees* if the
  contrast is there as expected. Supported for a factor: some task is a counterexample.
  Contradicted: 5 tasks or more agree (a coin would do so once in 32), they are 4 of 5
  of those with a gap, and none is a counterexample, even without Holm. The claim:
  supported if it is for every factor, contradicted if it is for one. Over all settings
  the tasks of all count: a factor that explains one setting and fails in another is not
  consistent.
C3, conflict harms optimization and does not predict generalization. Rank correlations
  over tasks, within settings, of conflict with the loss of optimization (training loss
  at equal step), with the gap at equal training loss, and with transfer (test value at
  the best validation point). The gap is what is left of generalization when
  optimization is taken away; transfer is what a user gets, harm to optimization
  included. Supported: the first is positive (interval above 0), both others within the
  margin. Contradicted: the first is below the margin and not above 0, or another beyond
  the margin. Needs 4 degrees of freedom (tasks - 1, summed over settings of 3 tasks or
  more; of two tasks the conflict of both is one number). Tasks are the units: one seed
  will do. Over all settings correlations are pooled, and a setting of the opposite
  verdict makes them inconclusive.
C4, SMTOs change optimization and do not reliably improve transfer. Each is held against
  the sum of losses, with equal tuning budget. It *improves* if Delta_m is above 0 and
  not negligible, and *does not* if its interval lies below the margin; it *changes*
  optimization if for some task the training loss at equal step differs. Supported: no
  SMTO improves (each *does not*) and some changes optimization. Contradicted: some SMTO
  improves, or every difference of training losses is negligible. Over all settings,
  *reliably* means in each comparable one (p: the largest), so that *does not* in one is
  enough (p: the smallest times the settings).

What the intervals hold fixed: the tasks (C1, C2, C4), and what selected the learning
rates. The effect of the first claim is the late gap in the direction of the other
seeds' early one; of the second, Spearman's correlation of contrast and gap, + as
expected and without what task and bin explain (`correlate`; of all factors, the
highest); of the third, that of optimization; of the fourth, the best SMTO's Delta_m.
"""

from typing import Any, NamedTuple

import pandas as pd

from mtl_jax.analysis.bootstrap import RESAMPLES
from mtl_jax.analysis.claims import explanation, harm, persistence, remedy
from mtl_jax.analysis.claims.paired import Paired, gaps
from mtl_jax.analysis.claims.row import ClaimRow
from mtl_jax.analysis.curves import Frame, check, need_one_rate

MARGIN, MARGIN_DELTA_M, MARGIN_RHO = 5.0, 0.5, 0.5
"""Negligible differences: percent of losses and factors, of Delta_m; a correlation."""


class Evidence(NamedTuple):
    """Observations that verdicts rest on, task by task."""

    settings: list[str]
    variant: str
    """MT with the sum of losses."""
    gaps: list[Paired]
    """C1: ``early``, ``late`` and ``mean``, percent of ST's loss."""
    factors: list[explanation.Factor]
    affected: list[harm.Affected]
    remedies: list[remedy.Remedy]


def claims(
    df: Frame,
    baseline: str = "single",
    unitary: str = "multi",
    split: str = "test",
    points: int = 20,
    *,
    margin: float = MARGIN,
    margin_delta_m: float = MARGIN_DELTA_M,
    margin_rho: float = MARGIN_RHO,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Frame:
    """Judge C1 to C4, in every setting and over all, by the rules of this module.

    Args:
      df: records, of the selected rates; of several settings, one after the other.
      baseline: ST.
      unitary: MT with the sum of losses; all other variants are SMTOs.
      split: of gaps and transfer.
      points: bins of training loss.
      margin: negligible differences of losses and factors, percent.
      margin_delta_m: negligible Delta_m, percent.
      margin_rho: correlation that predicts nothing yet.
      seed: of the bootstrap of correlations in C2; nothing else is random.
      resamples: of that bootstrap.

    Returns:
      A row per claim, setting (empty: all of them together) and subject (C1: ``early``,
      ``late``; C2: the factor; C3: ``optimization``, ``generalization``, ``transfer``;
      C4: ``transfer``, ``optimization`` of every variant; empty: the claim itself).
      Columns: `row.ClaimRow`.

    Raises:
      InputError: columns are missing, or a task has several rates.
    """
    evidence = observe(
        df, baseline, unitary, split, points, seed=seed, resamples=resamples
    )
    return judge(evidence, margin, margin_delta_m, margin_rho)


def observe(
    df: Frame,
    baseline: str = "single",
    unitary: str = "multi",
    split: str = "test",
    points: int = 20,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Evidence:
    """Collect the evidence; arguments and errors are those of `claims`."""
    check(df)
    need_one_rate(df)
    gap = gaps(df, unitary, baseline, split, points)
    options: Any = {"seed": seed, "resamples": resamples}
    return Evidence(
        settings=sorted(df["setting"].unique()),
        variant=unitary,
        gaps=gap,
        factors=explanation.observe(
            df, gap, unitary, baseline, split, points, **options
        ),
        affected=harm.observe(df, gap, unitary, baseline, split),
        remedies=remedy.observe(df, unitary, baseline, split),
    )


def judge(
    evidence: Evidence,
    margin: float = MARGIN,
    margin_delta_m: float = MARGIN_DELTA_M,
    margin_rho: float = MARGIN_RHO,
) -> Frame:
    """Tabulate verdicts as `claims` does, from evidence."""
    names, variant = evidence.settings, evidence.variant
    rows = [
        *persistence.judge(evidence.gaps, names, variant, margin),
        *explanation.judge(evidence.factors, names, variant, margin),
        *harm.judge(evidence.affected, names, variant, margin_rho),
        *remedy.judge(evidence.remedies, names, margin, margin_delta_m),
    ]
    return pd.DataFrame(rows, columns=list(ClaimRow._fields))
