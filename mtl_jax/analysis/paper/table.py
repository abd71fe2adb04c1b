"""Table 1: transfer of every task, and what becomes of the factors."""

import numpy as np

from mtl_jax.analysis.aggregates import FACTORS
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.deltas import deltas

KEY = ["setting", "target", "group", "variant"]
TABLE = [*KEY, "transfer", "transfer_low", "transfer_high", *FACTORS, "significant"]
"""Columns of Table 1."""
SHADES = {1: "positive", -1: "negative", 0: "insignificant"}
"""Shades of a delta: better or worse by the canon, which expects less of a factor to be
better, or none."""


def table_1(df: Frame, score: str = "") -> Frame:
    """Tabulate the deltas of the score and of the factors, against the task alone.

    Args:
      df: records of one rate a task and variant.
      score: as in `aggregates.aggregates`.

    Returns:
      setting, target, group, variant; transfer (of the score, in its unit; + is better)
      with its paired 95% t interval over seeds, transfer_low, transfer_high; sharpness,
      covariance, fisher (deltas; NaN where they were not recorded); significant (by the
      paper's rule: mean ± 2 s.d. of both do not overlap).

    Raises:
      InputError: as `deltas`.
    """
    return table_of(deltas(df, score=score))


def shades(df: Frame, score: str = "") -> Frame:
    """Tabulate how the paper shades Table 1: setting, target, group, variant, deltas.

    A delta is ``positive`` (better by the canon: more of the score, less of a factor),
    ``negative`` or ``insignificant``; empty where it was not recorded.
    """
    return shades_of(deltas(df, score=score))


def table_of(changes: Frame) -> Frame:
    """Make Table 1 of `deltas`."""
    scores = changes[changes["aggregate"] == "score"]
    names = {"delta": "transfer", "low": "transfer_low", "high": "transfer_high"}
    table = scores.rename(columns=names)
    for factor in FACTORS:
        rows = changes[changes["aggregate"] == factor][[*KEY, "delta"]]
        table = table.merge(rows.rename(columns={"delta": factor}), on=KEY, how="left")
    return table[TABLE].reset_index(drop=True)


def shades_of(changes: Frame) -> Frame:
    """Make the shades of Table 1 of `deltas`."""
    scores = changes[changes["aggregate"] == "score"]
    table = scores[KEY].assign(transfer=scores["sense"].map(SHADES))
    for factor in FACTORS:
        rows = changes[changes["aggregate"] == factor]
        rows = rows[KEY].assign(**{factor: rows["sense"].map(SHADES)})
        table = table.merge(rows, on=KEY, how="left")
    return table.replace({np.nan: ""}).reset_index(drop=True)
