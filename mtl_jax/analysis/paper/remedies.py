"""Figure 4: what multi-task optimizers change, against the sum of losses."""

import numpy as np

from mtl_jax.analysis.aggregates import FACTORS
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.deltas import deltas
from mtl_jax.analysis.variant import method_of

CHANGES = ("minimum_loss", *FACTORS)
"""Aggregates on the abscissas."""
SENSES = {1: "better", -1: "worse", 0: "alike"}


def figure_4(
    df: Frame, baseline: str = "single", unitary: str = "multi", score: str = ""
) -> Frame:
    """Tabulate changes of the score and of factors, SMTOs against the sum of losses.

    A factor would explain what an SMTO does to a score if all significant points lay
    in the quadrants ``better, better`` and ``worse, worse``.

    Args:
      df: records of one rate a task and variant.
      baseline: method that trains tasks alone; it is none of the SMTOs.
      unitary: method that descends the sum of losses, of the same group of tasks.
      score: as in `aggregates.aggregates`.

    Returns:
      A row per task, SMTO and factor: setting, target, group, variant, baseline; factor
      (minimum_loss, sharpness, covariance, fisher); score_change, factor_change
      (percent of the size of the sum's; of the score + is better, of the factor + is
      more); significant (the change of the score, by the paper's rule);
      factor_significant; quadrant (score, then factor, of which less is ``better``);
      reason (why a change is NaN).

    Raises:
      InputError: as `deltas`.
    """
    methods = df["variant"].map(method_of)
    table = deltas(df[methods != baseline], unitary, score)
    keys = ["setting", "target", "group", "variant", "baseline"]
    columns = [*keys, "change", "significant", "reason"]
    scores = table[table["aggregate"] == "score"][columns]
    factors = table[table["aggregate"].isin(CHANGES)][["aggregate", *columns]]
    made = scores.merge(factors, on=keys, suffixes=("_of_score", ""))
    order = made["aggregate"].map({name: i for i, name in enumerate(CHANGES)})
    made = made.assign(order=order).sort_values([*keys, "order"], ignore_index=True)
    quadrant = [
        f"{_sense(y)}, {_sense(-x)}"
        for y, x in zip(made["change_of_score"], made["change"], strict=True)
    ]
    made = made.assign(
        factor=made["aggregate"],
        score_change=made["change_of_score"],
        factor_change=made["change"],
        factor_significant=made["significant"],
        significant=made["significant_of_score"],
        quadrant=quadrant,
    )
    shown = [*keys, "factor", "score_change", "factor_change", "significant"]
    return made[[*shown, "factor_significant", "quadrant", "reason"]]


def _sense(change: float) -> str:
    return SENSES[int(np.sign(change))] if np.isfinite(change) else "not defined"
