"""Figures 5 and 6: sets of auxiliary tasks, their gradients and what comes of them."""

import numpy as np
import pandas as pd

from mtl_jax.analysis.aggregates import FACTORS, aggregates
from mtl_jax.analysis.curves import Frame, need_one_rate
from mtl_jax.analysis.paper.trajectories import MEAN

MEASURED = ("similarity", *FACTORS, "score")


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
    wide = table.pivot_table(
        index=[*key, "seed"], columns="aggregate", values="value", dropna=False
    )
    wide = wide.reindex(columns=list(MEASURED)).dropna(how="all").reset_index()
    deviations = [f"{name}_sd" for name in MEASURED]
    groups = wide.groupby(key)
    means = groups[list(MEASURED)].mean()
    means[deviations] = groups[list(MEASURED)].std()
    means = means.assign(seeds=groups.size(), seed=MEAN).reset_index()
    rows = [wide.assign(seeds=1, **dict.fromkeys(deviations, np.nan)), means]
    made = pd.concat(rows, ignore_index=True)
    _, slash, rest = (made["group"].str.partition("/")[part] for part in range(3))
    made["auxiliaries"] = np.where(slash == "/", rest.str.count(r"\+") + 1, 0)
    scores = table[table["aggregate"] == "score"]
    scores = scores.drop_duplicates(["setting", "target"])
    made = made.merge(scores[["setting", "target", "name", "unit"]], how="left")
    columns = [*key, "auxiliaries", "seed", "seeds", *MEASURED, *deviations]
    order = ["setting", "target", "auxiliaries", "variant", "seed"]
    return made.sort_values(order, ignore_index=True)[[*columns, "name", "unit"]]
