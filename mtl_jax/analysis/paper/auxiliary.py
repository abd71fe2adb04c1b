"""Figures 5 and 6: sets of auxiliary tasks, their gradients and what comes of them."""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from mtl_jax.analysis.aggregates import FACTORS, aggregates
from mtl_jax.analysis.curves import Frame, need_one_rate
from mtl_jax.analysis.paper.trajectories import MEAN
from mtl_jax.types import AUXILIARIES, JOIN

MEASURED = ("similarity", *FACTORS, "score")
LEAST_SETS = 4
"""Auxiliary sets from which on they are correlated."""


def figures_5_6(df: Frame, score: str = "") -> Frame:
    """Tabulate gradient similarity, factors and test score of every auxiliary set.

    Args:
      df: records of one rate a task and variant, some of which have a target.
      score: as in `aggregates.aggregates`.

    Returns:
      A row per set and seed, and one of the mean over seeds (seed `MEAN`): setting,
      target, group, variant, auxiliaries (their number), seed, seeds; similarity,
      sharpness, covariance, fisher, score (aggregates of a run; NaN where not
      recorded), and of means ``similarity_sd`` to ``score_sd`` (over seeds; NaN of
      one); name and unit of the score.

    Raises:
      InputError: several rates of a task, or as `aggregates.aggregates`.
    """
    need_one_rate(df)
    table = aggregates(df, score=score)
    table = table[table["target"] != ""]
    key = ["setting", "target", "group", "variant"]
    wide = table.set_index([*key, "seed", "aggregate"])["value"].unstack("aggregate")
    wide = wide.reindex(columns=list(MEASURED)).reset_index()
    deviations = [f"{name}_sd" for name in MEASURED]
    groups = wide.groupby(key)
    means = groups[list(MEASURED)].mean()
    means[deviations] = groups[list(MEASURED)].std()
    means = means.assign(seeds=groups.size(), seed=MEAN).reset_index()
    rows = [wide.assign(seeds=1, **dict.fromkeys(deviations, np.nan)), means]
    made = pd.concat(rows, ignore_index=True)
    made["auxiliaries"] = [
        group.count(JOIN) + group.count(AUXILIARIES) for group in made["group"]
    ]
    scores = table[table["aggregate"] == "score"]
    scores = scores.drop_duplicates(["setting", "target"])
    made = made.merge(scores[["setting", "target", "name", "unit"]], how="left")
    columns = [*key, "auxiliaries", "seed", "seeds", *MEASURED, *deviations]
    order = ["setting", "target", "auxiliaries", "variant", "seed"]
    return made.sort_values(order, ignore_index=True)[[*columns, "name", "unit"]]


def similarity_correlations(table: Frame) -> Frame:
    """Correlate gradient similarity with the rest, over the sets of every target.

    Args:
      table: of `figures_5_6`.

    Returns:
      A row per target and quantity: setting, target, measured (sharpness, covariance,
      fisher, score); rho (Spearman, over means of sets), p (of none, by the t
      approximation), sets; reason (why there is none).
    """
    means, rows = table[table["seed"] == MEAN], []
    for (setting, target), group in means.groupby(["setting", "target"], sort=False):
        for name in MEASURED[1:]:
            pairs = group[["similarity", name]].dropna().to_numpy()
            row = {"setting": setting, "target": target, "measured": name}
            row |= {"rho": np.nan, "p": np.nan, "sets": len(pairs), "reason": ""}
            if len(pairs) < LEAST_SETS:
                row["reason"] = f"{len(pairs)} auxiliary sets, fewer than {LEAST_SETS}"
            elif (np.ptp(pairs, axis=0) == 0).any():
                row["reason"] = "all sets have the same value"
            else:
                row["rho"], row["p"] = spearmanr(pairs[:, 0], pairs[:, 1])
            rows.append(row)
    columns = ["setting", "target", "measured", "rho", "p", "sets", "reason"]
    return pd.DataFrame(rows, columns=columns)
