"""Deltas: the aggregates of a variant against those of a baseline, by two rules.

The paper's (footnote 5 of Mueller et al., 2024): a delta is significant where the means
± 2 s.d. over seeds do not overlap. Beside it stands a t interval of the differences
seed by seed: equal seeds start alike and see the same batches.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.aggregates import AGGREGATES, aggregates, labels
from mtl_jax.analysis.curves import Frame, need_one_rate
from mtl_jax.analysis.interval import ROUNDING, paired_t
from mtl_jax.analysis.measures import measures
from mtl_jax.analysis.variant import same_group

COLUMNS = ["setting", "target", "group", "variant", "baseline", "aggregate", "name"]
COLUMNS += ["split", "unit", "st", "mt", "st_deviation", "mt_deviation", "delta"]
COLUMNS += ["low", "high", "change", "st_seeds", "mt_seeds", "seeds", "points"]
COLUMNS += ["wanted", "significant", "sense", "reason"]


class Side(NamedTuple):
    """An aggregate of a variant, by seed."""

    seeds: tuple[int, ...]
    values: np.ndarray
    points: int
    """Fewest points of a run."""

    @classmethod
    def of(cls, rows: Frame) -> "Side":
        """Collect rows of `aggregates` that are of one variant, task and candidate."""
        rows = rows.sort_values("seed")
        seeds = tuple(rows["seed"].tolist())
        return cls(seeds, rows["value"].to_numpy(), int(rows["points"].min()))

    @property
    def mean(self) -> float:
        """Average over seeds."""
        return float(np.mean(self.values)) if len(self.values) else np.nan

    @property
    def deviation(self) -> float:
        """Return the standard deviation over seeds; NaN of one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else np.nan


def apart(st: Side, mt: Side) -> bool:
    """Tell whether mean ± 2 s.d. of two variants do not overlap, the paper's rule.

    >>> a, b = (Side((0, 1), np.array(v), 1) for v in ([0.0, 1.0], [9.0, 10.0]))
    >>> apart(a, b), apart(a, a), apart(a, b._replace(values=np.array([9.0])))
    (True, False, False)
    """
    reach = 2 * (st.deviation + mt.deviation)
    rounding = ROUNDING * max(abs(st.mean), abs(mt.mean))
    return bool(abs(mt.mean - st.mean) > reach + rounding)


def deltas(df: Frame, baseline: str = "single", score: str = "") -> Frame:
    """Compare the aggregates of every variant with those of the baseline.

    A delta is the mean over the seeds of the variant minus that over the seeds of the
    baseline. It is significant by the paper's rule (`apart`); beside it stands a paired
    t interval over the seeds that both have.

    Args:
      df: records of one rate a task and variant.
      baseline: the variant that others are held against; with groups of tasks, the one
        of this method that trains the same group, where there is one.
      score: as in `aggregates`.

    Returns:
      A row per task, variant and aggregate: setting, target (the task), group, variant,
      baseline, aggregate, name, split, unit; st, mt (means over seeds), st_deviation,
      mt_deviation; delta (mt - st, of the score turned so that + is better), low, high;
      change (delta in percent of the size of st); st_seeds, mt_seeds, seeds (common);
      points (fewest of a run), wanted; significant; sense (of a significant delta +1
      where the paper's canon calls it better, -1 worse; otherwise 0); reason (why
      something is NaN).

    Raises:
      InputError: several rates of a task, or as `aggregates`.
    """
    need_one_rate(df)
    table, directions = aggregates(df, score=score), measures(df)
    variants = list(df["variant"].unique())
    rows = []
    for keys, group in table.groupby(["setting", "task", "aggregate"], sort=False):
        setting, task, aggregate = map(str, keys)
        sides = {name: Side.of(of) for name, of in group.groupby("variant")}
        first = group.iloc[0]
        direction = AGGREGATES[aggregate].direction
        sign = directions[setting, first["name"]].direction if direction > 0 else 1
        for variant in (name for name in variants if name in sides):
            against = counterpart(variant, baseline, variants)
            if variant == against or against not in sides:
                continue
            row = {"setting": setting, "target": task, "variant": variant}
            row |= {"baseline": against, "aggregate": aggregate}
            row |= {name: first[name] for name in ("name", "split", "unit", "wanted")}
            row |= compare(sides[against], sides[variant], sign)
            sense = np.sign(row["delta"]) * (direction or 0) * row["significant"]
            rows.append({**row, "sense": int(sense)})
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    groups = labels(df)[["setting", "variant", "group"]]
    made = pd.DataFrame(rows).merge(groups, on=["setting", "variant"], how="left")
    return made[COLUMNS]


def counterpart(variant: str, baseline: str, variants: Sequence[str]) -> str:
    """Name the variant of the baseline's method that trains the same group of tasks.

    >>> counterpart("multi-pcgrad:a/b", "multi", ["multi:a/b", "multi-pcgrad:a/b"])
    'multi:a/b'
    >>> counterpart("multi:a/b", "single", ["single", "multi:a/b"])
    'single'
    """
    alike = same_group(variant, baseline)
    return alike if alike in variants else baseline


def compare(st: Side, mt: Side, sign: int = 1) -> dict[str, Any]:
    """Return the columns of `deltas` that compare two sides; ``sign`` turns delta."""
    seeds = sorted(set(st.seeds) & set(mt.seeds))
    pairs = [mt.values[mt.seeds.index(s)] - st.values[st.seeds.index(s)] for s in seeds]
    mean = paired_t(sign * np.array(pairs))
    delta = sign * (mt.mean - st.mean)
    few = f"{len(seeds)} common seed{'s' * (len(seeds) != 1)}, fewer than 2"
    reasons = [few] * (len(seeds) < 2) + ["the baseline is 0"] * (st.mean == 0)
    return {
        "st": st.mean,
        "mt": mt.mean,
        "st_deviation": st.deviation,
        "mt_deviation": mt.deviation,
        "delta": delta,
        "low": mean.low,
        "high": mean.high,
        "change": 100 * delta / abs(st.mean) if st.mean else np.nan,
        "st_seeds": len(st.seeds),
        "mt_seeds": len(mt.seeds),
        "seeds": len(seeds),
        "points": min(st.points, mt.points),
        "significant": apart(st, mt),
        "reason": "; ".join(reasons),
    }
