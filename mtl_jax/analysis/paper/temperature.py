"""Transfer against temperature, the learning rate over the batch size."""

import numpy as np
import pandas as pd

from mtl_jax.analysis.aggregates import aggregates
from mtl_jax.analysis.curves import Frame, score_names
from mtl_jax.analysis.deltas import Side, compare, counterpart
from mtl_jax.analysis.measures import Measures, measures

CELL = ["learning_rate", "batch_size"]


def temperature(df: Frame, baseline: str = "single", score: str = "") -> Frame:
    """Tabulate the transfer of every learning rate and batch size of a sweep.

    Mueller et al. (2022) find that temperature drives negative transfer, and that tasks
    of one problem have different best temperatures. The value of a run is the mean of
    the score at its 10 best validation points: on test data, or on validation data
    where a sweep looked at no others.

    Args:
      df: records of all candidates.
      baseline: the variant that others are held against.
      score: as in `aggregates.aggregates`.

    Returns:
      A row per task, variant and candidate: setting, target, group, variant,
      learning_rate, batch_size, temperature (their ratio); name, split, unit; st (the
      baseline at the same candidate), mt (means over seeds), transfer (mt - st, turned
      so that + is better; NaN where the baseline was not trained so), transfer_low,
      transfer_high (paired t over seeds), best_st (the baseline at its best candidate),
      transfer_to_best (against that); seeds; diverged (runs of the variant). The
      baseline has rows, too, with a transfer of NaN.

    Raises:
      InputError: as `aggregates.aggregates`.
    """
    has_test = any(score_names(df, "test").values())
    table = aggregates(df, "test" if has_test else "validation", score)
    table = table[table["aggregate"] == "score"]
    declared, variants = measures(df), list(df["variant"].unique())
    rows = []
    for (setting, task), of_task in table.groupby(["setting", "task"], sort=False):
        sign = declared[setting, of_task["name"].iloc[0]].direction
        keys = ["variant", *CELL]
        cells = {key: rows for key, rows in of_task.groupby(keys, sort=False)}
        means = {key: rows["value"].mean() for key, rows in cells.items()}
        for (variant, rate, size), of_cell in cells.items():
            against = counterpart(variant, baseline, variants)
            alone = cells.get((against, rate, size))
            best = [sign * m for key, m in means.items() if key[0] == against]
            row = dict(zip(CELL, (rate, size), strict=True))
            row |= {"setting": setting, "target": task, "variant": variant}
            first = of_cell.iloc[0]
            row |= {name: first[name] for name in ("group", "name", "split", "unit")}
            row |= {"temperature": rate / size, "mt": of_cell["value"].mean()}
            row |= {"diverged": int(of_cell["diverged"].sum())}
            row["best_st"] = sign * max(best) if best else np.nan
            is_other = variant != against
            if is_other and alone is not None:
                change = compare(Side.of(alone), Side.of(of_cell), sign)
                row |= {"st": change["st"], "transfer": change["delta"]}
                row |= {"transfer_low": change["low"]}
                row |= {"transfer_high": change["high"]}
            if is_other:
                row["transfer_to_best"] = sign * (row["mt"] - row["best_st"])
            rows.append({**row, "seeds": len(of_cell)})
    columns = ["setting", "target", "group", "variant", *CELL, "temperature", "name"]
    columns += ["split", "unit", "st", "mt", "transfer", "transfer_low"]
    columns += ["transfer_high", "best_st", "transfer_to_best", "seeds", "diverged"]
    made = pd.DataFrame(rows, columns=columns)
    order = ["setting", "target", "variant", "temperature", "batch_size"]
    return made.sort_values(order, ignore_index=True)


def best_temperatures(table: Frame, declared: Measures) -> Frame:
    """Select of every task and variant the row of `temperature` with the best score.

    Args:
      table: of `temperature`.
      declared: `measures` of the records.
    """
    keys = zip(table["setting"], table["name"], strict=True)
    signs = np.array([declared[key].direction for key in keys], float)
    order = table.assign(worse=-signs * table["mt"])
    order = order.sort_values("worse", kind="stable")
    best = order.drop_duplicates(["setting", "target", "variant"])
    return best.sort_index()[table.columns]
